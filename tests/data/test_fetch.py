"""Downloads over HTTP on loopback: checked, continued, refused; what a machine without a network
is told.
"""

import hashlib
import re
import shutil
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from dataset_files import (
    CIFAR,
    md5,
    publish,
    write_cifar,
    write_flowers,
    write_galaxy10,
    write_galaxy10_sdss,
    write_svhn,
)
from tiny_imagenet_tree import write_tiny_imagenet
from torchvision import datasets

from astroformer import cli, data
from astroformer.data import fetch, galaxy10, tiny_imagenet

NOWHERE = "http://127.0.0.1:9"  # the port of "discard", where nobody listens


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; notes each path with its Range header; `server.cut`: bytes after
    which the connection ends once.
    """

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut, self.server.cut = self.server.cut, None
        self.wfile.write(content[start:cut])
        self.close_connection = True

    def log_message(self, *words):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    one = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.files, one.requests, one.cut, one.ranges = {}, [], None, True
    one.address = f"http://127.0.0.1:{one.server_port}"
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield one
    one.shutdown()
    one.server_close()
    thread.join()


@pytest.fixture
def offer(server, tmp_path, monkeypatch):
    """Writes a data set, serves its files, and puts their addresses and checksums in the place
    of the published ones.
    """

    def offer(name, address=None):
        source, address = tmp_path / "source", address or server.address
        if name == "galaxy10_decals":
            write_galaxy10(source)
            files = [source / galaxy10.FILE]
            monkeypatch.setattr(galaxy10, "URLS", (f"{address}/{galaxy10.FILE}",))
            monkeypatch.setattr(
                galaxy10, "SHA256", hashlib.sha256(files[0].read_bytes()).hexdigest()
            )
        elif name == "galaxy10_sdss":
            write_galaxy10_sdss(source)
            files = [source / galaxy10.SDSS_FILE]
            monkeypatch.setattr(galaxy10, "SDSS_URLS", (f"{address}/{galaxy10.SDSS_FILE}",))
            digest = hashlib.sha256(files[0].read_bytes()).hexdigest()
            monkeypatch.setattr(galaxy10, "SDSS_SHA256", digest)
        elif name == "tiny_imagenet":
            files = [write_tiny_imagenet(source, zipped=True)]
            monkeypatch.setattr(tiny_imagenet, "FULL", {"train": 18, "test": 12})
            monkeypatch.setattr(
                fetch, "TINY_IMAGENET", (f"{address}/{tiny_imagenet.ARCHIVE}", md5(files[0]))
            )
        elif name == "svhn":
            write_svhn(source)
            publish(monkeypatch, name, source)
            files = [source / f"{split}_32x32.mat" for split in ("train", "test")]
            monkeypatch.setattr(
                datasets.SVHN,
                "split_list",
                {
                    split: [f"{address}/{file}", file, checksum]
                    for split, (_, file, checksum) in datasets.SVHN.split_list.items()
                },
            )
        elif name == "flowers102":
            written = write_flowers(source)
            folder = source / "flowers-102"
            with tarfile.open(folder / "102flowers.tgz", "w:gz") as tar:
                tar.add(folder / "jpg", "jpg")
            publish(monkeypatch, name, source)
            monkeypatch.setattr(datasets.Flowers102, "_download_url_prefix", f"{address}/")
            files = [folder / file for file in ("102flowers.tgz", "imagelabels.mat", "setid.mat")]
            monkeypatch.setattr(
                fetch.torchvision_sets,
                "DATASETS",
                data.DATASETS
                | {
                    name: data.DataSet(
                        **vars(data.DATASETS[name])
                        | {split: len(labels) for split, labels in written.items()}
                    )
                },
            )
        else:
            kind = CIFAR[name]
            write_cifar(source, name)
            publish(monkeypatch, name, source)
            files = [source / kind.filename]
            with tarfile.open(files[0], "w:gz") as tar:
                tar.add(source / kind.base_folder, kind.base_folder)
            monkeypatch.setattr(kind, "url", f"{address}/{kind.filename}")
            monkeypatch.setattr(kind, "tgz_md5", md5(files[0]))
        server.files |= {f"/{file.name}": file.read_bytes() for file in files}
        return files

    return offer


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.mark.parametrize(
    "name",
    [
        *("cifar10", "cifar100", "svhn", "flowers102", "tiny_imagenet", "galaxy10_decals"),
        "galaxy10_sdss",
    ],
)
def test_a_data_set_is_fetched_once_checked_unpacked_and_loads(offer, server, root, capsys, name):
    offer(name)
    assert cli.main(["data", "fetch", name, "--data-dir", str(root)]) == 0
    assert "is complete in" in capsys.readouterr().out
    assert {path for path, _ in server.requests} == set(server.files) and not list(
        root.rglob("*.part*")
    )
    assert all(one.ok for one in fetch.verify(name, root)) and fetch.present(name, root)
    assert len(data.load(name, "test", data_dir=root, image_size=32).array(0, 2)) == 2
    server.requests.clear()
    assert cli.main(["data", "fetch", name, "--data-dir", str(root)]) == 0
    assert (
        not server.requests
        and capsys.readouterr().out.strip() == f"{data.DATASETS[name].title} is complete in {root}"
    )


def test_a_cut_download_goes_on_where_it_ended(offer, server, root):
    (file,) = offer("galaxy10_decals")
    server.cut = 150_000
    with pytest.raises(
        OSError,
        match=f"{galaxy10.FILE} could not be fetched from "
        f"{server.address}.*Give the same command again .*kept in",
    ):
        fetch.fetch("galaxy10_decals", root)
    part = root / f"{galaxy10.FILE}.part"
    have = part.stat().st_size
    assert (
        0 < have <= 150_000
        and part.read_bytes() == file.read_bytes()[:have]
        and not (root / galaxy10.FILE).exists()
    )
    fetch.fetch("galaxy10_decals", root)
    assert server.requests == [(f"/{galaxy10.FILE}", None), (f"/{galaxy10.FILE}", f"bytes={have}-")]
    assert (root / galaxy10.FILE).read_bytes() == file.read_bytes() and not part.exists()


@pytest.mark.parametrize(
    "ranges, part_of",
    [
        (
            False,
            lambda content: content[:70_000],
        ),  # the server sends all of it, which is not appended
        (
            True,
            lambda content: content + b"more",
        ),  # of something longer: nothing lies beyond its end
        (True, lambda content: content),  # whole, cut before it got its name
    ],
)
def test_a_part_that_cannot_be_continued_spoils_nothing(offer, server, root, ranges, part_of):
    (file,) = offer("galaxy10_decals")
    root.mkdir()
    (root / f"{galaxy10.FILE}.part").write_bytes(part_of(file.read_bytes()))
    server.ranges = ranges
    fetch.fetch("galaxy10_decals", root)
    assert (root / galaxy10.FILE).read_bytes() == file.read_bytes() and [
        path.name for path in root.iterdir()
    ] == [galaxy10.FILE]


def test_a_file_with_another_checksum_is_removed_and_both_checksums_are_named(
    offer, server, root, capsys
):
    (file,) = offer("cifar10")
    expected, other = md5(file), b"<html>please sign in</html>"
    server.files["/cifar-10-python.tar.gz"] = other
    assert cli.main(["data", "fetch", "cifar10", "--data-dir", str(root)]) == 2
    complaint = capsys.readouterr().err
    assert all(
        word in complaint
        for word in (
            f"{server.address}/cifar-10-python.tar.gz",
            expected,
            hashlib.md5(other).hexdigest(),
        )
    )
    assert len(complaint.splitlines()) == 1 and not list(root.iterdir())


def test_the_second_address_is_asked_when_the_first_does_not_answer(
    offer, server, root, monkeypatch
):
    offer("galaxy10_decals")
    monkeypatch.setattr(
        galaxy10,
        "URLS",
        (f"{NOWHERE}/a.h5", f"{server.address}/gone.h5", f"{server.address}/{galaxy10.FILE}"),
    )
    fetch.fetch("galaxy10_decals", root)
    assert [path for path, _ in server.requests] == ["/gone.h5", f"/{galaxy10.FILE}"] and (
        root / galaxy10.FILE
    ).is_file()


def test_a_machine_without_a_network_is_told_what_goes_where_and_then_goes_on(offer, root, capsys):
    (file,) = offer("cifar10", address=NOWHERE)
    command = ["data", "fetch", "cifar10", "--data-dir", str(root)]
    assert cli.main(command) == 2
    complaint = capsys.readouterr().err
    assert len(complaint.splitlines()) == 1
    for word in (
        f"{NOWHERE}/cifar-10-python.tar.gz",
        f"by hand at {root / file.name}",
        f"md5:{md5(file)}",
    ):
        assert word in complaint
    shutil.copy(file, root)
    assert cli.main(command) == 0 and len(data.load("cifar10", "test", data_dir=root)) == 20


def test_files_of_another_origin_are_not_written_over(offer, server, root):
    offer("cifar10")
    (root / "cifar-10-batches-py").mkdir(parents=True)
    (root / "cifar-10-batches-py" / "data_batch_1").write_text("mine")
    with pytest.raises(
        FileExistsError, match="cifar-10-batches-py is there but not as published .*move it away"
    ):
        fetch.fetch("cifar10", root)
    assert (
        not server.requests
        and (root / "cifar-10-batches-py" / "data_batch_1").read_text() == "mine"
    )


def test_a_full_disk_is_named_before_anything_is_written(offer, root, monkeypatch):
    offer("galaxy10_decals")
    monkeypatch.setattr(
        fetch.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000)
    )
    with pytest.raises(
        OSError, match=f"{galaxy10.FILE} needs [0-9,]+ bytes more and .* has 1,000 free.*--data-dir"
    ):
        fetch.fetch("galaxy10_decals", root)
    assert not list(root.iterdir())


@pytest.mark.parametrize(
    "name, words",
    [
        ("imagenet1k", "never downloaded"),
        ("folder", "is your own"),
        ("galaxies", "made on this machine"),
        (
            "stanford_cars",
            "cannot be fetched: its owners' address .* is gone.*stanford_cars/devkit/cars_meta.mat",
        ),
        ("cifar11", "choose one of galaxies, folder, cifar10"),
    ],
)
def test_what_cannot_be_fetched_says_why(tmp_path, capsys, name, words):
    assert cli.main(["data", "fetch", name, "--data-dir", str(tmp_path)]) == 2
    complaint = capsys.readouterr().err
    assert (
        len(complaint.splitlines()) == 1
        and re.search(words, complaint)
        and not list(tmp_path.iterdir())
    )


def test_verify_names_what_is_missing_and_ends_with_status_1(tmp_path, capsys):
    for name in ("tiny_imagenet", "galaxy10_decals", "flowers102", "stanford_cars"):
        assert cli.main(["data", "verify", name, "--data-dir", str(tmp_path)]) == 1
        assert "missing" in capsys.readouterr().out


def test_verify_counts_the_images_of_tiny_imagenet(tmp_path):
    write_tiny_imagenet(tmp_path)
    assert [(one.found, one.ok) for one in fetch.verify("tiny_imagenet", tmp_path)] == [
        ("18 images", False),
        ("12 images", False),
    ]

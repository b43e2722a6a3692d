"""What the bytes of a folder's images come to: a fingerprint, and what must be said of them.

Files are read once, in pieces where they are large, and by threads where their values are looked
at. What took long is kept in the cache folder, under the signature of the files.
"""

import hashlib
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from astroformer import paths
from astroformer.data import listing, pixels, values, walk
from astroformer.data.catalogue import listed
from astroformer.data.folder_tree import PLAIN, SPLITS, Asked, Source, Tree, files_of, places, tree
from astroformer.machine import processors

READ_AT_ONCE = 2**20  # bytes of a file that its fingerprint takes at a time
SLOW = 2.0  # seconds of reading after which a fingerprint is kept in the cache folder
AT_ONCE = 64  # images that a thread is given at a time
SHOWN = 2  # images that a remark names


@dataclass(frozen=True)
class Contents:
    """What the bytes of all images come to."""

    sha256: str
    twice: int  # test images that are byte for byte training images
    tested: int
    transparent: int
    turned: int
    deep: int  # images with more than 8 bits a channel
    deepest: str  # the place of the first of them
    images: int
    same: tuple[tuple[str, ...], ...]  # places ("train/round/1.png") of images with the same bytes
    gaps: int = 0  # pixels without a value, or with one that is no finite number
    with_gaps: int = 0  # images that have such pixels
    empty: tuple[str, ...] = ()  # places of images that have nothing else

    def remarks(self, name: str) -> list[str]:
        found = []
        if self.twice:
            test = [one for group in self.same for one in group if _in_both(group)]
            test = [one.partition("/")[2] for one in test if one.startswith("test/")]
            found.append(
                f"{self.twice:,} of {self.tested:,} test images are byte for byte training images "
                f"({listed(test, SHOWN)})"
            )
        if self.transparent:
            found.append(f"{self.transparent:,} images with transparency are laid on black")
        if self.turned:
            found.append(f"{self.turned:,} images are turned as their EXIF orientation says")
        if self.gaps:
            found.append(
                f"{self.gaps:,} pixels of {self.with_gaps:,} images have no value (NaN, infinite "
                "or masked) and are black"
            )
        return [f"{name}: {one}" for one in found]


def _in_both(group: Iterable[str]) -> bool:
    return {one.partition("/")[0] for one in group} == {*SPLITS}


def contents_of(root: Path, asked: Asked = PLAIN) -> Contents:
    """SHA-256 over the places and bytes of all images, and what was seen on the way. With a table
    it covers the rows of these images.

    The rules of pixels that an image needs (transparency, orientation) are part of it, since they
    decide what is trained on; images that need none leave it as it always was.
    """
    kept = paths.cache() / "fingerprints" / f"{_name(root, asked)}.json"
    if (known := _kept(kept)) is not None:
        return known
    began, found = time.monotonic(), tree(root, asked)
    looked_at = asked.values or bool(asked.bands) or found.kind != walk.PICTURES
    if looked_at or found.labelled:
        made = _of_values(found, asked) if looked_at else _of_files(found)
    else:
        made = _of_pictures(found)
    if time.monotonic() - began > SLOW:
        keep(kept, json.dumps(asdict(made)))
    return made


def _name(root: Path, asked: Asked) -> str:
    signature = listing.signature(places("folder", root, asked))
    if asked == PLAIN:
        return signature
    return f"{signature}-{hashlib.sha256(repr(asked).encode()).hexdigest()[:16]}"


def _listed(found: Tree) -> Iterator[tuple[str, Source]]:
    """(split, image) in the order of the fingerprint."""
    for split, of_class in (("train", found.train), ("test", found.test or {})):
        for files in of_class.values():
            for one in files:
                yield split, one


class _Seen:
    """The digests of images, by split and place."""

    def __init__(self):
        self.by: dict[bytes, list[str]] = defaultdict(list)
        self.tested = self.number = self.deep = 0
        self.deepest = ""

    def add(self, split: str, place: str, digest: bytes, *, deep: bool) -> None:
        self.by[digest].append(f"{split}/{place}")
        self.deepest = self.deepest or f"{split}/{place}" * deep
        self.deep += deep
        self.tested += split == "test"
        self.number += 1

    def told(self) -> dict[str, object]:
        same = [tuple(group) for group in self.by.values() if len(group) > 1]
        twice = sum(one.startswith("test/") for group in same if _in_both(group) for one in group)
        return {
            "twice": twice,
            "tested": self.tested,
            "images": self.number,
            "deep": self.deep,
            "deepest": self.deepest,
            "same": tuple(same),
        }


def _of_pictures(found: Tree) -> Contents:
    """Of pictures in class folders: over their bytes, one after the other, as it always was."""
    digest, seen, rules = hashlib.sha256(), _Seen(), Counter[str]()
    for split, path in _listed(found):
        assert isinstance(path, Path)
        place = found.place(path, split)
        told = f"{split}/{place}".encode()
        digest.update(f"{len(told)}:".encode() + told)
        digest.update(f"{path.stat().st_size}:".encode())
        needed = pixels.rules_of(path)
        seen.add(split, place, _digest(path, digest.update), deep="deep" in needed)
        rules.update(needed)
    if rules["transparent"] or rules["turned"]:
        digest.update(b"alpha on black, turned as EXIF says")
    return _made(digest.hexdigest(), seen, rules)


def _digest(path: Path, also: Callable[[bytes], object] = len) -> bytes:
    """SHA-256 of a file; `also` is given each piece."""
    own = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(READ_AT_ONCE):
            also(piece)
            own.update(piece)
    return own.digest()


def _made(sha256: str, seen: _Seen, rules: Counter[str], **more) -> Contents:
    names = ("transparent", "turned")
    return Contents(sha256=sha256, **seen.told(), **{one: rules[one] for one in names}, **more)


def _by_threads(items: Sequence, get: Callable) -> Iterator:
    """What `get` gives for each item, in their order; no more are at hand than the threads need."""
    number, waiting = processors(), []
    with ThreadPoolExecutor(number) as pool:
        for begin in range(0, len(items), AT_ONCE):
            some = items[begin : begin + AT_ONCE]
            waiting.append(pool.submit(lambda some: [get(one) for one in some], some))
            if len(waiting) > 2 * number:
                yield from waiting.pop(0).result()
        for one in waiting:
            yield from one.result()


def _of_files(found: Tree) -> Contents:
    """Of pictures with a table: over the rows and the digest of each file."""
    items = list(_listed(found))
    seen, rules = _Seen(), Counter[str]()

    def looked_at(item: tuple[str, Source]) -> tuple[bytes, list[str]]:
        [path] = files_of(item[1])
        return _digest(path), pixels.rules_of(path)

    digest = _begun(found)
    for (split, source), (own, needed) in zip(items, _by_threads(items, looked_at)):
        place = found.place(source, split)
        seen.add(split, place, own, deep="deep" in needed)
        rules.update(needed)
        digest.update(f"{split}/{place}\0".encode() + own)
    return _made(digest.hexdigest(), seen, rules)


def _begun(found: Tree) -> "hashlib._Hash":
    digest = hashlib.sha256(b"each image by its place and its files' SHA-256\n")
    if found.labelled:
        for row in found.labelled.rows():
            digest.update(row.encode() + b"\n")
    return digest


def _of_values(found: Tree, asked: Asked) -> Contents:
    """Of images whose values are looked at. The fingerprint is that of the files, as if they were
    pictures in class folders, where they might be that.
    """
    items = list(_listed(found))
    seen, gaps, with_gaps, empty = _Seen(), 0, 0, []
    channels: dict[int, Source] = {}

    def looked_at(item: tuple[str, Source]) -> tuple[bytes, tuple[int, ...], bool, int]:
        return _looked_at(item[1], asked.bands)

    digest = _begun(found)
    for (split, source), (own, shape, is_deep, missing) in zip(
        items, _by_threads(items, looked_at)
    ):
        place = found.place(source, split)
        seen.add(split, place, own, deep=is_deep)
        digest.update(f"{split}/{place}\0".encode() + own)
        channels.setdefault(shape[2], source)
        gaps, with_gaps = gaps + missing, with_gaps + bool(missing)
        if missing == np.prod(shape):
            empty.append(f"{split}/{place}")
    check_depth(found.root, seen.deep, seen.number, seen.deepest)
    if len(channels) > 1:
        told = " and ".join(
            f"{number} ({values.named(one)})" for number, one in sorted(channels.items())
        )
        raise ValueError(
            f"images of {found.root} have several numbers of bands: {told}; name bands that all of "
            "them have with --bands"
        )
    sha256 = digest.hexdigest()
    rules = Counter[str]()
    if found.kind == walk.PICTURES and not found.labelled and not found.bands:
        as_pictures = _of_pictures(found)
        sha256 = as_pictures.sha256
        rules.update(transparent=as_pictures.transparent, turned=as_pictures.turned)
    more = {"gaps": gaps, "with_gaps": with_gaps, "empty": tuple(empty)}
    return _made(sha256, seen, rules, **more)


def check_depth(root: Path, deep: int, images: int, example: str) -> None:
    """ValueError for a data set in which some images have 8 bits a channel and others have more."""
    if 0 < deep < images:
        raise ValueError(
            f"{deep:,} of {images:,} images of {root} have more than 8 bits a channel, such as "
            f"{example}, and the others have 8: a data set has images of one kind; convert those "
            "with more to 8-bit PNG or JPEG, or take the others away and choose a --stretch"
        )


def _looked_at(source: Source, bands: Sequence[str]) -> tuple[bytes, tuple[int, ...], bool, int]:
    """The digest of an image's files, its shape, whether it has more than 8 bits, and how many of
    its values are no numbers.
    """
    if isinstance(source, Path):
        with open(source, "rb") as file:
            content = file.read()
        own, image = hashlib.sha256(content), values.read(source, bands, content)
    else:
        own = hashlib.sha256()
        for path in source:
            own.update(_digest(path))
        image = values.read(source, bands)
    missing = 0
    if image.dtype.kind == "f":
        missing = int(image.size - np.count_nonzero(np.isfinite(image)))
    return own.digest(), image.shape, image.dtype != np.uint8, missing


def _kept(path: Path) -> Contents | None:
    """What an earlier process kept; None for nothing, or for what cannot be read."""
    try:
        told = json.loads(path.read_text())
        told |= {"same": tuple(map(tuple, told["same"])), "empty": tuple(told["empty"])}
        made = Contents(**told)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return made if len(made.sha256) == 64 else None


def keep(path: Path, text: str) -> None:
    """A fingerprint in the cache folder; without room for it, it is computed again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_text(text)
        os.replace(part, path)
    except OSError:
        return

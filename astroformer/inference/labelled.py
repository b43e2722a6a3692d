"""A folder of test images alone, for a checkpoint: the classes are those that it tells apart, and
the folder need not have all of them.

ROOT/test/<class>/* (or what else the split may be called), or ROOT/<class>/*; or images at any
depth below ROOT, with a table of their labels.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from astroformer.data import catalogue, folder, walk
from astroformer.data.folder_tree import asked_of
from astroformer.data.images import About, Images
from astroformer.data.pixels import Decoded, read_stored
from astroformer.data.values import Reading
from astroformer.inference.inputs import Inputs, Source, check_units, in_folder
from astroformer.inference.members import cut_of, listed

NAMES = folder.SPLITS["test"]  # of a folder within the one that is given


def images_of_folder(
    given: str | Path,
    told: dict,
    report: Callable[[str], None],
    *,
    image_size: int | None = None,
    **labels_by: Any,
) -> Images:
    """The images of a folder with the labels that a checkpoint knows, cut as its run was evaluated.
    What is left out, and classes that the folder does not have, are said through `report`.

    told: what `training.load_trained` says of the checkpoint
    image_size: pixels; None is what the checkpoint was trained on
    labels_by: the table of labels and its columns, as of `folder_tree.asked_of`, in place of
        folders; of a table with splits, the images to test on

    FileNotFoundError or ValueError in one line for a folder that is not there, or whose folders or
    table name what are no classes of the checkpoint.
    """
    root = Path(given).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no folder {root}; give test images in a folder for each class "
            "(ROOT/test/<class>/* or ROOT/<class>/*), or with a table (--labels)"
        )
    classes, cut = tuple(told["classes"]), cut_of(told)
    table = asked_of(root, **labels_by).table
    place = root if table else _split(root)
    left_out: Counter[str] = Counter()
    if table:
        labelled = _by_table(table, root, cut.reading, classes, left_out, report)
    else:
        labelled = _by_folders(place, cut.reading, classes, left_out)
    sources = [source for source, _ in labelled]
    labels = [label for _, label in labelled]
    if +left_out:
        report(f"{root}: left out: {walk.counted(+left_out)}")
    there = [classes[label] for label in sorted(set(labels))]
    if len(there) < len(classes):
        report(
            f"{place} has {len(there)} of the {len(classes)} classes ({listed(there)}); metrics "
            "are over these"
        )
    check_units(Inputs((), tuple(sources), Counter(), str(root)), cut.reading)
    about = folder.read_about(root / folder.ABOUT)
    name = about.get("name", walk.readable(root.resolve().name))
    pixels = Decoded(
        sources,
        image_size or cut.size,
        read_stored if cut.reading is None else cut.reading,
        channels=cut.channels,
        crop_pct=cut.crop_pct,
        interpolation=cut.interpolation,
    )
    return Images(
        pixels,
        np.array(labels, dtype=np.int64),
        classes,
        image_size or cut.size,
        "test",
        About(
            name, about.get("title", name), about.get("kind", "real"), note=about.get("note", "")
        ),
    )


def _by_folders(
    place: Path, reading: Reading | None, classes: tuple[str, ...], left_out: Counter[str]
) -> list[tuple[Source, int]]:
    """Images and their labels."""
    found = []
    for label, folders in sorted(_by_class(place, classes).items()):
        for one in folders:
            inputs = in_folder(one, reading)
            found += [(source, label) for _, source in _whole_ones(inputs, left_out)]
    return found


def _by_table(
    table: catalogue.Table,
    root: Path,
    reading: Reading | None,
    classes: tuple[str, ...],
    left_out: Counter[str],
    report: Callable[[str], None],
) -> list[tuple[Source, int]]:
    sources = dict(_whole_ones(in_folder(root, reading), left_out))
    said = catalogue.labelled(table, sources, root, fewest=1)
    for line in said.remarks:
        report(line)
    if unknown := sorted(set(said.labels) - set(classes)):
        raise ValueError(
            f"the checkpoint tells apart {listed(classes)}, and {table.path} has labels that are "
            f"none: {listed(unknown)}; name them as its classes, or leave their rows out"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    tested = "test" if "test" in said.splits else ""
    found = [
        (source, numbers[label])
        for source, label, split in zip(said.sources, said.labels, said.splits, strict=True)
        if split == tested
    ]
    if not found:
        raise ValueError(f"{table.path} has no image to test on, only others; change its splits")
    return found


def _whole_ones(inputs: Inputs, left_out: Counter[str]) -> list[tuple[str, Source]]:
    """Names and files of the images that have a file for each band."""
    whole = [
        (name, source)
        for name, source in zip(inputs.names, inputs.sources, strict=True)
        if _whole(source)
    ]
    left_out.update(inputs.left_out)
    left_out["images without a file for each band"] += len(inputs) - len(whole)
    return whole


def _whole(source: str | tuple[str, ...]) -> bool:
    """Whether each band has a file."""
    return isinstance(source, str) or "" not in source


def _split(root: Path) -> Path:
    """The folder of test images in a folder, or itself."""
    there = {one.name.casefold(): one for one in walk.folders_in(root)}
    return next((there[name] for name in NAMES if name in there), root)


def _by_class(place: Path, classes: tuple[str, ...]) -> dict[int, list[Path]]:
    """Label -> the folders of the class: of its name, or of the only one that differs in nothing
    but capital letters.
    """
    found: dict[int, list[Path]] = {}
    unknown = []
    for one in walk.folders_in(place):
        name = walk.readable(one.name)
        alike = [other for other in classes if other.casefold() == name.casefold()]
        if name in classes or len(alike) == 1:
            label = classes.index(name if name in classes else alike[0])
            found.setdefault(label, []).append(one)
        else:
            unknown.append(name)
    if unknown or not found:
        lies = f"has folders that are none: {listed(unknown)}" if unknown else "has no folders"
        raise ValueError(
            f"the checkpoint tells apart {listed(classes)}, and {place} {lies}; name each folder "
            "as one of its classes, or move it away"
        )
    return found

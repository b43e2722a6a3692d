"""A folder of test images alone, for a checkpoint: the classes are those that it tells apart, and
the folder need not have all of them.

ROOT/test/<class>/* (or what else the split may be called), or ROOT/<class>/*.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from astroformer.data import folder, walk
from astroformer.data.images import About, Images
from astroformer.data.pixels import Decoded, read_stored
from astroformer.inference.inputs import Inputs, check_units, in_folder
from astroformer.inference.members import cut_of, listed

NAMES = folder.SPLITS["test"]  # of a folder within the one that is given


def images_of_folder(
    given: str | Path, told: dict, report: Callable[[str], None], *, image_size: int | None = None
) -> Images:
    """The images of a folder with the labels that a checkpoint knows, cut as its run was evaluated.
    What is left out, and classes that the folder does not have, are said through `report`.

    told: what `training.load_trained` says of the checkpoint
    image_size: pixels; None is what the checkpoint was trained on

    FileNotFoundError or ValueError in one line for a folder that is not there, or whose folders are
    no classes of the checkpoint.
    """
    root = Path(given).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no folder {root}; give test images in a folder for each class "
            "(ROOT/test/<class>/* or ROOT/<class>/*)"
        )
    classes, cut = tuple(told["classes"]), cut_of(told)
    place = _split(root)
    of_class = _by_class(place, classes)
    sources, labels, left_out = [], [], Counter[str]()
    for label, folders in sorted(of_class.items()):
        for one in folders:
            found = in_folder(one, cut.reading)
            whole = [source for source in found.sources if _whole(source)]
            left_out.update(found.left_out)
            left_out["images without a file for each band"] += len(found) - len(whole)
            sources += whole
            labels += [label] * len(whole)
    if +left_out:
        report(f"{root}: left out: {walk.counted(+left_out)}")
    there = [classes[label] for label in sorted(of_class)]
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

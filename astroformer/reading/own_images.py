"""From a folder of one's own images to numbers, as the page "Bring your own galaxies" goes through
it: the images, the trainings that are compared at the same number of steps, and what each reached.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from astroformer import data, paths
from astroformer.contrasts import wilson
from astroformer.data import Images, example, folder
from astroformer.ledger import predictions
from astroformer.reading.linear import linear_accuracy
from astroformer.recipes import get_recipe
from astroformer.training import Fitted, Run

EXAMPLE = "example-galaxies-1"  # of the cache folder
TESTED = 0.25  # part of each class to test on, where a folder has no test images
HELD_OUT = 0.2  # of the training images, on which probabilities are calibrated
COMPARED = {"astroformer_pico": "Astroformer (pico)", "resnet18_narrow": "ResNet-18 (narrow)"}


def images(data_dir: str = "", new_dir: str = "") -> tuple[Path, Path]:
    """The folder of labelled images, and one of images to predict: those of the example, which is
    written once, or folders of one's own. Without `new_dir` the test images stand for new ones;
    where there are none, the labelled ones, which `called` says.
    """
    if data_dir:
        root = folder.existing(data.root_of("folder", data_dir) or data_dir)
        if new_dir:
            return root, folder.existing(Path(new_dir))
        return root, next((one for one in _tests(root) if one.is_dir()), root)
    if new_dir:
        raise ValueError(
            "new_dir has images to predict, and no labelled ones are named: give data_dir"
        )
    place = paths.cache() / EXAMPLE
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f"{EXAMPLE}.part")
        _removed(part)
        example.write(part)
        part.replace(place)
    return place / "labelled", place / "new"


def called(root: Path, new: Path) -> str:
    """What the images that are predicted are, for a figure."""
    return "labelled images, most of them trained on" if new == root else "new images"


def trained_on(root: Path) -> int:
    """How many of the training images are not held out."""
    return _size(root, validation=HELD_OUT)


def _size(root: Path, **how) -> int:
    return data.train_size("folder", **_split(root), **how)


def _tests(root: Path) -> list[Path]:
    return [root / name for name in folder.SPLITS["test"]]


def _removed(folder: Path) -> None:
    """Of a page that was stopped as it wrote it."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def asked(root: Path, image_size: int) -> dict[str, object]:
    """Arguments of `data.load` and of a Run: a part of the images is tested on, unless the folder
    has test images of its own.
    """
    return {"image_size": image_size, **_split(root)}


def _split(root: Path) -> dict[str, object]:
    own = any(one.is_dir() for one in _tests(root))
    return {"data_dir": str(root), **({} if own else {"test_fraction": TESTED})}


def runs(root: Path, *, image_size: int, steps: int, seed: int) -> dict[str, Run]:
    """Title -> run: each network with the same recipe, steps, images and seed."""
    how, few = asked(root, image_size), _size(root)
    recipe = get_recipe("lowdata_galaxies", steps=steps, batch_size=min(32, max(2, few // 4 * 2)))
    return {
        title: Run(
            model=model,
            dataset="folder",
            recipe=recipe,
            seed=seed,
            validation=HELD_OUT,
            evaluate="test",
            **how,
        )
        for model, title in COMPARED.items()
    }


def compared(made: Mapping[str, Fitted], train: Images, test: Images) -> pd.DataFrame:
    """What each reached on the test images, with the 95 % interval for other images, and what it
    took; first what needs no network.
    """
    most = int(np.bincount(train.labels).argmax())
    rows = [
        _row("always the most frequent class", float(np.mean(test.labels == most)), len(test)),
        _row("logistic regression on pixels", linear_accuracy(train, test) / 100, len(test)),
    ]
    for title, fitted in made.items():
        said = predictions.read(fitted.record["run"])
        if said is None:
            raise FileNotFoundError(
                f"what run {fitted.record['run']} said of each image is not kept here; remove its "
                "record from the local ledger, and it is made again"
            )
        row = _row(title, float(said.right.mean()), len(said))
        row["balanced (%)"] = f"{fitted.record['metrics']['balanced_accuracy']:.1f}"
        rows.append(row | {"seconds": f"{fitted.record['seconds']:.0f}"})
    return pd.DataFrame(rows).fillna("").set_index("")


def _row(title: str, part: float, number: int) -> dict[str, str]:
    low, high = wilson(round(part * number), number)
    return {
        "": title,
        "test accuracy (%)": f"{100 * part:.1f}",
        "95 %, other images": f"{100 * low:.0f} to {100 * high:.0f}",
    }


def photographs(number: int = 24, size: int = 64) -> Path:
    """A folder with pieces of two photographs that come with scikit-learn (a temple, a flower): no
    galaxies.
    """
    from sklearn.datasets import load_sample_images

    place = paths.cache() / f"photographs-{number}-{size}"
    if place.is_dir():
        return place
    part = place.with_name(f"{place.name}.part")
    _removed(part)
    part.mkdir(parents=True)
    draws = np.random.default_rng(0)
    pictures = load_sample_images().images
    for index in range(number):
        picture = pictures[index % len(pictures)]
        side = int(draws.integers(size, 4 * size))
        top, left = (int(draws.integers(0, length - side)) for length in picture.shape[:2])
        piece = Image.fromarray(picture[top : top + side, left : left + side])
        piece.resize((size, size)).save(part / f"P{index:03d}.png")
    part.replace(place)
    return place

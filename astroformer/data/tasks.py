"""The tasks of the studies: data sets derived from others, with the numbers of images on which is
trained. A task is a value; `astroformer data derive NAME` makes its folder.

The images of a task lie in a folder of its name below ASTROFORMER_DATA. A fixed part of each
class's training images is held out for validation; the seed of a run draws a subset of the rest,
nested and the same for every arm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from astroformer import paths
from astroformer.data.derive import Derivation


@dataclass(frozen=True)
class Task:
    name: str  # of the folder, too
    title: str  # as printed beside a number
    classes: int
    image_size: int  # pixels on which is trained
    held_out: int  # validation images of each class
    pool: int  # training images of each class, the validation images among them
    each: Mapping[str, int]  # "low", "middle", "whole" -> images of each class trained on
    derivation: Derivation
    recipe: str = "lowdata"
    steps: int = 2_000
    metric: str = "top1"  # or "balanced_accuracy"
    note: str = ""  # to be said beside a number
    folds: int = 1

    @property
    def validation(self) -> float:
        """The part of each class that is held out, as `data.load` takes it."""
        return self.held_out / self.pool

    def fraction(self, size: str) -> float:
        """The part of what is left that is trained on, as `data.load` takes it."""
        if size not in self.each:
            raise ValueError(
                f"task {self.name} has no size {size!r}; choose one of {', '.join(self.each)}"
            )
        return self.each[size] / (self.pool - self.held_out)

    @property
    def images(self) -> dict[str, int]:
        """Training images in all, by size."""
        return {size: number * self.classes for size, number in self.each.items()}


GALAXIES3 = Derivation(
    source="galaxyzoo1-128",
    merge=(("spiral", ("spiral_anticlockwise", "spiral_clockwise")),),
    drop=("merger", "unclear"),
    most=480,
    order="sha256",
    unused="test",
    name="galaxies3",
    title="Galaxy Zoo 1, three classes",
    note="elliptical, edge-on and spiral (both hands merged) galaxies; training images balanced, "
    "all others are tested on",
)

_TASKS = (
    Task(
        "cifar100",
        "CIFAR-100",
        classes=100,
        image_size=32,
        held_out=20,
        pool=500,
        each={"low": 20, "middle": 100},
        derivation=Derivation(
            source="cifar100-png",
            name="cifar100",
            title="CIFAR-100",
            note="the data set's own images and split, as lossless PNG",
        ),
        note="the data set's own images and split, as lossless PNG",
    ),
    Task(
        "galaxies3",
        "Galaxy Zoo 1, three classes",
        classes=3,
        image_size=48,
        held_out=80,
        pool=480,
        each={"low": 50, "middle": 150},
        derivation=GALAXIES3,
        recipe="lowdata_galaxies",
        steps=1_500,
        metric="balanced_accuracy",
        note=GALAXIES3.note,
    ),
    Task(
        "tiny40",
        "Tiny ImageNet, 40 of 200 classes",
        classes=40,
        image_size=48,
        held_out=50,
        pool=250,
        each={"low": 25, "middle": 100},
        derivation=Derivation(
            source="tiny-imagenet-200",
            classes=40,
            of=200,
            most=250,
            order="name",
            name="tiny40",
            title="Tiny ImageNet, 40 of 200 classes",
            note="of each class the first 250 training images; the data set's labelled validation "
            "images are the test split",
        ),
        steps=1_500,
        note="of each class the first 250 training images",
    ),
    Task(
        "cifar10_jpeg",
        "CIFAR-10 (JPEG re-encode)",
        classes=10,
        image_size=32,
        held_out=200,
        pool=5_000,
        each={"low": 50, "middle": 200},
        derivation=Derivation(
            source="cifar10-jpeg", name="cifar10_jpeg", title="CIFAR-10 (JPEG re-encode)"
        ),
        note="not interchangeable with CIFAR-10: the encoding costs accuracy",
    ),
    Task(
        "cifar100_20",
        "CIFAR-100, 20 of 100 classes",
        classes=20,
        image_size=32,
        held_out=20,
        pool=500,
        each={"low": 100},
        derivation=Derivation(
            source="cifar100-png",
            classes=20,
            of=100,
            name="cifar100_20",
            title="CIFAR-100, 20 of 100 classes",
            note="20 of the data set's classes, drawn once and for all, with all their images",
        ),
        note="20 of the data set's classes, drawn once and for all",
    ),
    *(
        Task(
            f"galaxy10_part-{fold}",
            "Galaxy10 DECaLS subset (first 100 of each class, JPEG)",
            classes=10,
            image_size=64,
            held_out=8,
            pool=80,
            each={"whole": 72},
            derivation=Derivation(
                source="galaxy10-decals-1000",
                folds=5,
                fold=fold,
                name=f"galaxy10_part-{fold}",
                title="Galaxy10 DECaLS subset (first 100 of each class, JPEG)",
                note=f"fold {fold + 1} of 5; balanced, as the original is not",
            ),
            note="five folds of 200 test images each; balanced, as the original is not",
            recipe="lowdata_galaxies",
            steps=1_500,
            folds=5,
        )
        for fold in range(5)
    ),
)
TASKS: dict[str, Task] = {task.name: task for task in _TASKS}


def not_at_hand(names: Sequence[str]) -> str:
    """A line for folders that are not below ASTROFORMER_DATA, with the way to bring each."""
    ways = (
        f"`astroformer data derive {name}`"
        if name in TASKS
        else f"`astroformer data unpack ARCHIVE {paths.data() / name}`"
        for name in names
    )
    return (
        f"the images of {', '.join(names)} are not below {paths.data()}; bring them with "
        f"{' && '.join(ways)}, or set ASTROFORMER_DATA to the folder that has them"
    )


def named(name: str) -> list[Task]:
    """The task of a name, or all folds of a task that is named without one. ValueError for a name
    that is not known.
    """
    found = [task for task in _TASKS if name in (task.name, _family(task))]
    if not found:
        raise ValueError(
            f"task {name!r} is not known; choose one of {', '.join(TASKS)}, or name "
            "a source with --from FOLDER"
        )
    return found


def _family(task: Task) -> str:
    """The name without the fold: galaxy10_part of galaxy10_part-3."""
    return task.name.rpartition("-")[0] if task.folds > 1 else task.name

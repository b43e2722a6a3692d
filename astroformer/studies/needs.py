"""What a run needs where it is made: seconds, memory, disk, kilowatt-hours; by measured speeds, and
where none is measured by a rough one that is called so.

Of a GPU, in this order: the measured speed of the network at that size on that card; the same on
another card, by the ratio of their published rates; the share of a card's published rate that the
measured step of nearest size reached, but no step faster than the fastest of any. Of a
CPU: the median rate of the ledger's records of this network and size, else of all
(`runner.speeds_of`).

Reads top to bottom: Place, Needs, Estimator.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from astroformer.counting import baseline_forms, budget, closed_forms
from astroformer.counting.budget import FLOP_PER_MAC
from astroformer.counting.cards import CARDS, Card, card_of
from astroformer.counting.cost import model_cost
from astroformer.counting.memory import GB
from astroformer.data import train_size
from astroformer.data.tasks import TASKS
from astroformer.ledger import records
from astroformer.sizes import NAMES
from astroformer.speed import answers, kept
from astroformer.studies import hours, results, runner
from astroformer.studies.asked import Unit
from astroformer.training import memory_kept
from astroformer.training.run import Run

MEASURED, SCALED, ROUGH = "measured", "scaled from another card", "rough"
USUAL_CARD = "H100 SXM"
# Of a process that trains: Python, PyTorch and CUDA, before any image; and of each process that
# reads images. Measured on a CPU: 0.9 GB and 0.35 GB (counting/host_images.py).
PROCESS, READER = 4 * GB, 1 * GB
NOTEBOOK = 2_000_000  # bytes of an executed page with its figures, and its log


@dataclass(frozen=True)
class Place:
    """Where runs are made: a card, or None for the processor of this machine."""

    card: Card | None = None

    @classmethod
    def named(cls, name: str | None, device: str) -> "Place":
        """By a card's name, such as "H100 SXM" or "h100"; of device "cpu" none. ValueError with the
        names for one that is not known.
        """
        if device == "cpu":
            return cls()
        wanted = (name or USUAL_CARD).lower()
        fitting = [card for card in CARDS if card.name.lower() == wanted] or [
            card for card in CARDS if card.name.lower().startswith(wanted)
        ]
        if len(fitting) != 1:
            raise ValueError(
                f"card {name!r} is {'not known' if not fitting else 'one of several'}; choose "
                f"{', '.join(card.name for card in fitting or CARDS)}"
            )
        return cls(fitting[0])

    @property
    def title(self) -> str:
        return "this machine's processor" if self.card is None else f"one {self.card.name}"


@dataclass(frozen=True)
class Needs:
    """Of one run.

    seconds: of training on one device; None where no speed is known at all
    how: MEASURED, SCALED or ROUGH; "" without seconds
    memory: bytes on the device; of a CPU the whole process
    host_memory: bytes of the process and those that read images
    disk: bytes that stay when it is done; `running` while it trains
    words: what to add to its command so that it fits the card
    """

    seconds: float | None
    how: str
    memory: int
    host_memory: int
    disk: int
    running: int
    kwh: float | None
    words: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether it fits the card as the run that it is; in smaller micro-batches it would be
        another one.
        """
        return not any("=" in word for word in self.words)

    @property
    def hours(self) -> float | None:
        return None if self.seconds is None else self.seconds / 3600


class Estimator:
    """Needs of many units in one place; alike runs are counted once.

    known: the ledger's records; None reads them
    speeds: measured ones (`speed.kept.frame`); None reads them
    memory: whether it is counted, which takes seconds for a large network; else it is 0
    """

    def __init__(
        self, place: Place, known: list[dict] | None = None, speeds=None, *, memory: bool = True
    ):
        self.place, self.memory = place, memory
        self.known = records.read() if known is None else known
        self.speeds = kept.frame() if speeds is None else speeds
        self._of: dict[tuple, Needs] = {}

    def of(self, unit: Unit) -> Needs:
        run, recipe = unit.run, unit.run.recipe
        images = images_of(run)
        alike = (run.model, run.options, run.image_size, unit.classes, recipe.batch_size)
        alike += (recipe.images_at_once, recipe.optimizer, bool(recipe.ema_decay), images)
        alike += (recipe.precision, run.dataset, run.data_dir, run.fraction)
        if alike not in self._of:
            self._of[alike] = self._needs(run, unit.classes, images)
        return self._of[alike]

    def _needs(self, run: Run, classes: int, images: int) -> Needs:
        params, macs = sizes_of(run, classes)
        seconds, how = self._seconds(run, macs, images)
        words, on_device = self._memory(run, classes) if self.memory else ([], 0)
        copies = 2 if run.recipe.ema_decay else 1
        test = classes * 4 * _test_images(run)
        host = PROCESS + 4 * READER if self.place.card else max(PROCESS, on_device)
        card = self.place.card
        return Needs(
            seconds=seconds,
            how=how,
            memory=on_device,
            host_memory=host + held_by_the_host(run),
            disk=4 * params * copies + test + NOTEBOOK,
            # weights, two moments and the average, twice: the last checkpoint and the one before
            running=2 * 4 * params * (copies + 2),
            kwh=None if card is None or seconds is None else card.watts * seconds / 3.6e6,
            words=tuple(words),
        )

    def _memory(self, run: Run, classes: int) -> tuple[list[str], int]:
        """Words that make it fit, and bytes on the device."""
        run = replace(run, image_size=pixels_of(run))  # its images need not be at hand
        if self.place.card is None:
            return [], memory_kept.on_a_cpu(run, classes=classes).total
        room = self.place.card.memory * GB
        words, needed = memory_kept.on_a_card(run, classes=classes, card=room)
        return words, needed.total

    def _seconds(self, run: Run, macs: float, images: int) -> tuple[float | None, str]:
        pixels = pixels_of(run)
        if self.place.card is None:
            speeds, key = self._on_this_processor, (run.model, pixels)
            rate = speeds.get(key, speeds.get(("", 0)))
            if rate is None:
                return None, ""
            return images * macs / rate, MEASURED if key in speeds else ROUGH
        for card in (self.place.card, *CARDS) if not run.options else ():
            if speed := self._on(card, run.model, pixels):
                ratio = self.place.card.tflops / card.tflops
                how = MEASURED if card is self.place.card else SCALED
                return images / (speed * ratio), how
        share = self._share_near(macs * run.recipe.batch_size)
        if share is None:
            return None, ""
        rate = share * self.place.card.tflops * 1e12
        steps = images / run.recipe.batch_size
        return max(FLOP_PER_MAC * macs * images / rate, steps * self._shortest_step), ROUGH

    def _on(self, card: Card, model: str, pixels: int) -> float | None:
        """Measured images a second of a training, else of steps, on a card."""
        speeds = self.speeds
        mine = speeds[speeds["device"].isin(card.devices)] if len(speeds) else speeds
        known = [record for device in card.devices for record in self._by_device.get(device, ())]
        speed = hours.speed_of(model, pixels, mine, known)
        return None if speed is None else speed.images_per_second

    @cached_property
    def _by_device(self) -> dict[str, list[dict]]:
        """Of many runs each is asked about on every card."""
        found: dict[str, list[dict]] = {}
        for record in self.known:
            found.setdefault(str(record.get("device")), []).append(record)
        return found

    @cached_property
    def _on_this_processor(self) -> dict[tuple[str, int], float]:
        return runner.speeds_of(records.frame(self.known))

    @cached_property
    def _measured(self) -> list[dict]:
        """Every record and every measured speed of a step on a card."""
        tables = [answers.of(self.speeds, what) for what in ("training", "step")]
        rows = [*self.known, *(row for table in tables for row in table.to_dict("records"))]
        return [row for row in rows if card_of(str(row.get("device")))]

    def _share_near(self, work: float) -> float | None:
        """Of the published rate of a card, what was reached with the step that is nearest to this
        one in multiply-adds of its forward pass: small steps leave most of a large card idle.
        """
        if not self._shares:
            return None
        near = min(self._shares, key=lambda known: abs(math.log(known / work)))
        return self._shares[near]

    @cached_property
    def _shares(self) -> dict[float, float]:
        """Multiply-adds of a step -> the largest part of a card's rate that one of them reached:
        trainings that shared a card were slower than the card.
        """
        found: dict[float, float] = {}
        for row in self._measured:
            card, batch = card_of(str(row["device"])), batch_of(row)
            rate = (row.get("images_per_second") or 0.0) * (row.get("macs") or 0.0)
            if card and batch and rate > 0:
                share = FLOP_PER_MAC * rate / (card.tflops * 1e12)
                work = float(row["macs"]) * batch
                found[work] = max(share, found.get(work, 0.0))
        return found

    @cached_property
    def _shortest_step(self) -> float:
        """Seconds of the fastest step on any card: however small a network is, Python asks for each
        step, and its images are brought.
        """
        found = []
        for row in self._measured:
            if (batch := batch_of(row)) and row.get("images_per_second"):
                found.append(batch / row["images_per_second"])
        return min(found, default=0.0)


def batch_of(row: Mapping) -> int:
    """Images of a step, of a record or of a measured speed; 0 where it does not say."""
    return int(row.get("batch_size") or (row.get("recipe") or {}).get("batch_size") or 0)


def images_of(run: Run) -> int:
    """Images that pass the network forward and backward, all epochs together; a data set that the
    book knows need not be at hand.
    """
    recipe = run.recipe
    return recipe.steps * recipe.batch_size or training_images(run) * recipe.epochs


@lru_cache(maxsize=4096)
def training_images(run: Run) -> int:
    """Of an epoch, before those that are held out are taken away."""
    row = results.row_of(run.dataset, run.data_dir)
    if run.dataset == "folder" and row is None and run.data_dir not in TASKS:
        number = train_size(run.dataset, data_dir=run.data_dir, **run.read_by())
    elif row is None:
        number = TASKS[run.data_dir].pool * TASKS[run.data_dir].classes
    else:
        number = run.train_images or row.train
    return round(number * run.fraction * run.class_fraction)


def pixels_of(run: Run) -> int:
    """Of the images that the network sees."""
    if run.image_size:
        return run.image_size
    known = results.row_of(run.dataset, run.data_dir) or TASKS.get(run.data_dir)
    return known.image_size if known else run.native_image_size()


def held_by_the_host(run: Run) -> int:
    """Bytes of images of which whole data sets are kept in memory as pixels; ImageNet's are read
    from files.
    """
    if run.dataset == "imagenet1k":
        return 0
    return (training_images(run) + _test_images(run)) * 3 * pixels_of(run) ** 2


def _test_images(run: Run) -> int:
    if run.test_images:
        return run.test_images
    row = results.row_of(run.dataset, run.data_dir)
    return row.test if row else 10_000


def sizes_of(run: Run, classes: int) -> tuple[int, int]:
    """Parameters, and multiply-adds of an image: in closed form where the network has one, which
    comes to the same.
    """
    options = dict(run.options)
    sizes = dict(image_size=pixels_of(run), num_classes=classes)
    if set(options) == {"stack"}:
        counts = closed_forms.released_counts(run.model, **sizes, stack=str(options["stack"]))
    elif not options and run.model in NAMES:
        counts = baseline_forms.counts_of(run.model, **sizes)
    else:
        return _count(run.model, pixels_of(run), classes, run.options)
    return counts.params, counts.macs


@lru_cache(maxsize=4096)
def _count(model: str, pixels: int, classes: int, options: tuple) -> tuple[int, int]:
    cost = model_cost(model, image_size=pixels, num_classes=classes, **dict(options))
    return cost["params"], cost["macs"]


def amount(value: float) -> str:
    """Of hours or kilowatt-hours: with two digits, whole ones from ten on."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def hours_text(needed: Sequence[Needs]) -> str:
    """Of some runs together, with a `~` before what follows from a speed that is not measured."""
    hours = [one.hours for one in needed if one.hours]
    if not hours:
        return "not known"
    near = "" if all(one.how == MEASURED for one in needed) else "~"
    return f"{near}{amount(sum(hours))}"


def cost_line(units: Sequence[Unit], place: Place, estimator: Estimator | None = None) -> str:
    """What runs that are missing take in a place, in a sentence."""
    if not units:
        return "Nothing is missing."
    estimator = estimator or Estimator(place)
    every = [estimator.of(unit) for unit in units]
    known = [one for one in every if one.seconds is not None]
    rough = sum(one.how == ROUGH for one in known)
    seconds = sum(one.seconds for one in known)
    kwh = sum(one.kwh or 0.0 for one in known)
    most = max(one.memory for one in every) / GB
    time = f"{budget.duration(seconds)} on {place.title}" if known else "no speed is known"
    parts = [f"{len(units)} runs: {time}"]
    parts += [f"{kwh:.3g} kWh"] if kwh else []
    parts += [f"up to {most:.1f} GB of its memory"] if most else []
    parts += [f"{sum(one.disk for one in every) / GB:.1f} GB of disk"]
    if rough:
        parts.append(f"{rough} of them at a rough speed, as none is measured")
    if len(known) < len(every):
        parts.append(f"{len(every) - len(known)} of them without an estimate")
    return ", ".join(parts) + "."

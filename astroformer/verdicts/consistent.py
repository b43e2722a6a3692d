"""Whether a ledger record agrees with itself, with what this library counts, and with what its
device can do: of a run that somebody else made, the record is all there is.

Reads top to bottom: `complaints`; then what is asked of a record whose fields are in order, by
CHECKS: its identity, its numbers, its history, its attempts, its network, its speed, its words.
"""

import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple

from astroformer.counting.budget import FLOP_PER_MAC
from astroformer.counting.cards import card_of, peak
from astroformer.counting.cost import count_macs, count_params, on_meta
from astroformer.data import DATASETS, canonical
from astroformer.ledger import identity, records
from astroformer.models import NAMES
from astroformer.models.options import checked_options
from astroformer.recipes import Recipe, setting
from astroformer.training.loop import FIT_IMAGES
from astroformer.training.record import METRICS
from astroformer.training.run import RANGES, YOUNGER, Run
from astroformer.training.schedule import learning_rate
from astroformer.verdicts import schema

ERROR, WARNING = "error", "warning"
PERCENT = tuple(name for name in METRICS if not name.endswith("nll"))
FACTOR = 2.0  # that time times speed may be off the images, where no attempts tell the rest
# Places on somebody's machine, which a record that is published shall not name.
PLACE = re.compile(r"(?:^|[\s='\"])(/(?:home|root|tmp|work|Users|mnt|data|scratch)/|[A-Z]:\\)")
NEAR = 1e-9  # two numbers that are one but for rounding
# Raised for values that no run has, such as a network that cannot be built.
IMPOSSIBLE = (
    *(ValueError, TypeError, LookupError, ArithmeticError, AttributeError),
    *(RuntimeError, AssertionError, MemoryError),
)


class Complaint(NamedTuple):
    """What is wrong with a record."""

    level: str  # ERROR, or WARNING where it may be as it is
    field: str
    what: str


Complaints = Iterator[Complaint]


def complaints(record: Mapping, *, now: datetime | None = None) -> list[Complaint]:
    """Everything that is wrong with a line of a ledger, which has at least `records.CORE`. What
    needs fields of the right kind is asked only of a record that has them.

    now: no run was started later; None is the clock's time
    """
    found = [Complaint(ERROR, *misfit) for misfit in schema.misfits(record)]
    if found:
        return found
    try:
        one = Record(record)
    except (ValueError, TypeError) as error:
        return [_error("recipe", f"is none of this library: {_short(error)}")]
    if not one.steps_per_epoch:
        what = f"{one.dataset['train']:,} images are fewer than a batch of {one.batch:,}"
        return [_error("dataset.train", what)]
    for name, check in CHECKS.items():
        try:
            found += check(one)
        except IMPOSSIBLE as error:
            found.append(_error(name, f"cannot be checked: {_short(error)}"))
    return [*found, *_dates(record, now or datetime.now(UTC))]


class Record:
    """A record, with what is asked of it several times."""

    def __init__(self, fields: Mapping):
        self.fields = fields
        self.older = identity.revision(fields) == identity.FIRST
        self.completed = fields["status"] == "completed"
        self.dataset: Mapping = fields["dataset"]
        self.recipe = Recipe.from_record(dict(fields["recipe"]))
        self.batch = self.recipe.batch_size
        self.steps_per_epoch = self.dataset["train"] // self.batch

    def __getitem__(self, name: str):
        return self.fields[name]

    @property
    def steps(self) -> int:
        """Of the whole run, if it comes to its end."""
        return self.recipe.steps or self.steps_per_epoch * self.recipe.epochs

    @property
    def images(self) -> int:
        """That were trained on."""
        if self.older:
            return self["epochs"] * self.steps_per_epoch * self.batch
        return sum(attempt["images"] for attempt in self["attempts"])

    @property
    def main(self) -> Mapping:
        """The attempt that trained on most images; of revision 1 the record itself."""
        attempts = self.fields.get("attempts")
        return max(attempts, key=lambda one: one["images"]) if attempts else self.fields


def _error(field: str, what: str) -> Complaint:
    return Complaint(ERROR, field, what)


def _same(field: str, told: object, meant: object, why: str) -> Complaints:
    """An error where a field says something else than follows from others. 1 is 1.0."""
    if told != meant:
        yield _error(field, f"{_short(told)} is not {_short(meant)}, {why}")


def _short(value: object) -> str:
    text = " ".join(str(value).split())  # errors of networks that cannot be have several lines
    return text if len(text) <= 80 else f"{text[:77]}..."


def _within(field: str, value: float | None, least: float, most: float = math.inf) -> Complaints:
    if value is not None and not least <= value <= most:
        bounds = f"at least {least:g}" if math.isinf(most) else f"{least:g} to {most:g}"
        yield _error(field, f"{value:g} is out of range: {bounds}")


# What it is a record of


def _identity(one: Record) -> Complaints:
    """The name of the run, and each field that decides its outcome, in both places."""
    own, told = one.fields.get("identity") or {}, one.dataset
    if one.older:
        yield Complaint(WARNING, "run", "of revision 1, whose names cannot be computed again")
        for name in records.YOUNGER:
            if one.fields.get(name) is not None:
                yield _error(name, "is no field of revision 1")
        return
    if own["revision"] != identity.REVISION:
        what = f"{own['revision']} is not {identity.REVISION}, which this library trains by"
        yield _error("identity.revision", what)
    yield from _same("run", one["run"], identity.digest(own), "the digest of its identity")
    init = one.fields.get("init")
    run = Run(
        model=one["model"],
        dataset=told["source"],
        recipe=one.recipe,
        seed=one["seed"],
        options=tuple(one["options"].items()),
        image_size=one["image_size"],
        fraction=one["fraction"],
        evaluate=told["evaluated_on"],
        **{name: told[name] for name in ("class_fraction", "validation", "split_seed")},
        **{name: told[name] for name in ("test_images", *YOUNGER) if told.get(name) is not None},
    )
    reflected = sorted(sorted(pair) for pair in told["mirrored"]) if run.reflects else []
    meant = run.asked() | {
        "init": init["sha256"] if init else None,
        "data": told["sha256"],
        "mirrored": reflected,
        "image_size": one["image_size"],
        "evaluation": run.evaluation_crop(),
        "precision": one["precision"],
    }
    if init:  # which weights were left out is the identity's own word
        meant["allow_partial"] = bool(own.get("allow_partial"))
    for name in sorted({*meant, *own}, key=str):
        yield from _same(
            f"identity.{name}",
            own.get(name, "nothing"),
            meant.get(name, "nothing"),
            "as the record's other fields have it",
        )


def _recipe(one: Record) -> Complaints:
    """The name's changes, and what the record says beside the recipe."""
    _, *changes = re.split(r"\+(?=[a-z_0-9]+=)", one.recipe.name)
    for change in changes:
        name = change.partition("=")[0]
        if hasattr(one.recipe, name):
            meant = setting(name, getattr(one.recipe, name))
            yield from _same("recipe.name", change, meant, "as the recipe's fields have it")
    yield from _same("precision", one["precision"], one.recipe.precision, "the recipe's")
    average = ", average of weights" if one.recipe.ema_decay else ""
    yield from _same("selection", one["selection"], f"last epoch{average}", "by the recipe")


def _images(one: Record) -> Complaints:
    """What is known of data sets with a name."""
    told, row = one.dataset, DATASETS.get(one.dataset["source"])
    if row is None:
        yield _error("dataset.source", f"{_short(told['source'])} is no data set of this library")
        return
    yield from _within("dataset.train", told["train"], 1)
    yield from _within("dataset.test", told["test"], 1)
    kinds = ("real", "re-encoded", "synthetic")
    if told["kind"] not in kinds:
        yield _error("dataset.kind", f"{_short(told['kind'])} is none of {', '.join(kinds)}")
    if not re.fullmatch(r"[0-9a-f]{64}", told["sha256"]):
        yield _error("dataset.sha256", f"{_short(told['sha256'])} is no SHA-256")
    if row.name == "folder":
        yield from _published(told)
        return
    yield from _same("dataset.name", told["name"], row.name, "as its source is called")
    yield from _same("dataset.kind", told["kind"], row.kind, f"as {row.title} is")
    if not told["title"].startswith(row.title):
        yield _error("dataset.title", f"{_short(told['title'])} is not {row.title}")
    if one.older or told["class_fraction"] != 1 or row.train is None:
        return
    yield from _same("dataset.classes", told["classes"], row.classes, f"those of {row.title}")
    if row.kind == "real" and one["fraction"] == 1 and not told["validation"]:
        yield from _same("dataset.train", told["train"], row.train, f"those of {row.title}")
    if told["evaluated_on"] == "test" and told["test_images"] is None:
        yield from _same("dataset.test", told["test"], row.test, f"those of {row.title}")


def _published(told: Mapping) -> Complaints:
    """A folder that calls itself by the title of a published data set has its images."""
    fingerprints = {known.title: known.sha256 for known in canonical.KNOWN}
    if told["title"] in fingerprints:
        meant = fingerprints[told["title"]]
        yield from _same("dataset.sha256", told["sha256"], meant, f"that of {told['title']}")
    elif told["title"] in {row.title for row in DATASETS.values()}:
        what = f"no fingerprint tells whether the folder is {told['title']}"
        yield Complaint(WARNING, "dataset.title", what)


# Its numbers


def _numbers(one: Record) -> Complaints:
    for name in ("image_size", "params", "macs", "world_size"):
        yield from _within(name, one[name], 1)
    for name in ("epochs", "seed", "steps", "failed_at_step", "resumed_from"):
        yield from _within(name, one.fields.get(name), 0)
    yield from _within("fraction", one["fraction"], 0, 1)
    yield from _within("peak_memory", one["peak_memory"], 4 * one["params"])  # weights alone
    card = card_of(one["device"])
    if card and one["peak_memory"] > 1.1e9 * card.memory:
        gigabytes = one["peak_memory"] / 1e9
        yield _error("peak_memory", f"{gigabytes:.0f} GB are more than a {card.name} has")
    if one["precision"] not in ("float32", "bfloat16"):
        yield _error("precision", f"{_short(one['precision'])} is none of float32, bfloat16")
    if one.completed or one["seconds"]:
        for name in ("seconds", "images_per_second"):
            if not (one[name] or 0) > 0:
                yield _error(name, f"{one[name]} is not greater than 0")


def _metrics(one: Record) -> Complaints:
    """Percentages, each of a number of images; and those of a completed run are whole."""
    found, told = one["metrics"], one.dataset
    expected = METRICS[:5] if one.older else METRICS
    if one.completed:
        for name in expected:
            if found.get(name) is None:
                yield _error(f"metrics.{name}", "is missing in a run that completed")
    yield from _percentages("metrics", found)
    yield from _counted("metrics", found, told["test"], ("top1", "top5"))
    yield from _counted("metrics", found, min(told["train"], FIT_IMAGES), ("train_top1",))


def _percentages(within: str, found: Mapping) -> Complaints:
    for name in METRICS:
        most = 100.0 if name in PERCENT else math.inf
        yield from _within(f"{within}.{name}", found.get(name), 0.0, most + NEAR)
    top1, top5 = found.get("top1"), found.get("top5")
    if None not in (top1, top5) and top5 < top1 - NEAR:
        yield _error(f"{within}.top5", f"{top5:g} is less than top1, {top1:g}")


def _counted(within: str, found: Mapping, images: int, names: tuple[str, ...]) -> Complaints:
    """An accuracy of N images is a multiple of 1 / N."""
    for name in names:
        value = found.get(name)
        right = (value or 0.0) * images / 100
        if abs(right - round(right)) > 1e-6 * max(1.0, right):
            what = f"{value} % is the part of no whole number of {images:,} images"
            yield _error(f"{within}.{name}", what)


def _history(one: Record) -> Complaints:
    """Entries in order, at the rates of the schedule, up to where the run ended."""
    history, told = one["history"], one.dataset
    steps = [entry.get("step", round(entry["epoch"] * one.steps_per_epoch)) for entry in history]
    if sorted(set(steps)) != steps or any(not 0 < step <= one.steps for step in steps):
        yield _error("history", f"its steps {_short(steps)} do not rise within {one.steps:,}")
    watched = "validation" if told.get("validation") else told["evaluated_on"]
    for number, (entry, step) in enumerate(zip(history, steps)):
        within = f"history[{number}]"
        yield from _percentages(within, entry)
        if watched == told["evaluated_on"]:
            yield from _counted(within, entry, told["test"], ("top1", "top5"))
        yield from _counted(within, entry, min(told["train"], FIT_IMAGES), ("train_top1",))
        epoch = step / one.steps_per_epoch
        if entry["epoch"] != round(epoch, 2):
            yield _error(f"{within}.epoch", f"{entry['epoch']:g} is not that of step {step:,}")
        yield from _within(f"{within}.train_loss", entry["train_loss"], 0)
        rate = learning_rate(one.recipe, step - 1, one.steps_per_epoch)
        if not math.isclose(entry["learning_rate"], rate, rel_tol=1e-6, abs_tol=1e-12):
            what = f"{entry['learning_rate']:g} is not {rate:g}, the recipe's at step {step:,}"
            yield _error(f"{within}.learning_rate", what)
    if not one.completed:
        return
    if not history or steps[-1] != one.steps:
        yield _error("history", f"does not reach the last of {one.steps:,} steps")
        return
    if not one.recipe.steps and len(history) != one.recipe.epochs:
        yield _error("history", f"has {len(history)} entries for {one.recipe.epochs} epochs")
    if watched == told["evaluated_on"]:
        for name in METRICS[:5]:
            value, last = one["metrics"].get(name), history[-1].get(name)
            yield from _same(f"metrics.{name}", value, last, "as in the history's last entry")


# How it was made


def _progress(one: Record) -> Complaints:
    """Where it ended, by its status."""
    status, failed = one["status"], one["failed_at_step"]
    if (failed is not None) != (status == "failed"):
        yield _error("failed_at_step", f"{failed} does not fit a run that is {status}")
    elif failed is not None and failed > one.steps:
        yield _error("failed_at_step", f"{failed:,} is beyond the last of {one.steps:,} steps")
    if not one.older:
        yield from _same("steps", one["steps"], one.steps, "by the recipe and the training images")
    last = one.steps if one.older or one.completed else one["attempts"][-1]["to_step"]
    if one.completed or not one.older:
        meant = last // one.steps_per_epoch
        yield from _same("epochs", one["epochs"], meant, f"those of {last:,} steps")


def _attempts(one: Record) -> Complaints:
    """Each attempt goes on at a step that an earlier one reached; the record says what they sum up
    to.
    """
    if one.older:
        return
    attempts, reached = one["attempts"], 0
    for number, attempt in enumerate(attempts):
        within, begun = f"attempts[{number}]", attempt["from_step"]
        if not 0 <= begun <= reached or (number == 0 and begun):
            yield _error(f"{within}.from_step", f"{begun:,}, but step {reached:,} was reached")
        trained = (attempt["to_step"] - begun) * one.batch
        yield from _same(
            f"{within}.images", attempt["images"], trained, "its steps times the batch"
        )
        for name in ("images", "seconds", "cpu_seconds"):
            yield from _within(f"{within}.{name}", attempt[name], 0)
        if threads := re.search(r", (\d+) threads$", attempt["device"]):
            yield from _within(
                f"{within}.cpu_seconds",
                attempt["cpu_seconds"],
                0,
                1.2 * int(threads[1]) * attempt["seconds"] + 1,
            )
        reached = attempt["to_step"]
    if one.completed:
        yield from _same(f"attempts[{len(attempts) - 1}].to_step", reached, one.steps, "the last")
    elif reached == one.steps and one["status"] == "interrupted":
        yield Complaint(WARNING, "status", "interrupted after its last step")
    first, last, main = attempts[0], attempts[-1], one.main
    summed = round(sum(attempt["seconds"] for attempt in attempts), 2)
    yield from _same("seconds", one["seconds"], summed, "the sum of its attempts")
    rate = round(main["images"] / main["seconds"], 1) if main["seconds"] else None
    yield from _same("images_per_second", one["images_per_second"], rate, "the main attempt's")
    yield from _same("resumed_from", one["resumed_from"], last["from_step"] or None, "the last's")
    for name, attempt, whose in (
        *((name, main, "of the attempt with most images") for name in ("device", "execution")),
        *((name, last, "of the last attempt") for name in ("versions", "git")),
    ):
        yield from _same(name, one[name], attempt[name], f"that {whose}")
    size = last["execution"]["world_size"]
    yield from _same("world_size", one["world_size"], size, "that of the last attempt")
    for number, attempt in enumerate(attempts):
        for name, least in (("world_size", 1), ("threads", 1), ("workers", 0)):
            field = f"attempts[{number}].execution.{name}"
            yield from _within(field, attempt["execution"].get(name), least)
    begun = [datetime.fromisoformat(each["started"]) for each in (one.fields, first)]
    if abs((begun[0] - begun[1]).total_seconds()) > 600:
        yield _error("started", f"{one['started']} is not when its first attempt began")


def _network(one: Record) -> Complaints:
    """Parameters and multiply-adds, as this library counts them."""
    if one["model"] not in NAMES:
        yield _error("model", f"{_short(one['model'])} is no network of this library")
        return
    options = tuple(checked_options(one["model"], dict(one["options"])).items())
    stack = dict(options).get("stack", one["stack"]) if one.older else None
    if one.older and stack is not None:  # which revision 1 had beside the options
        options = tuple({**dict(options), "stack": stack}.items())
    if (channels := one.dataset.get("channels") or 3) != 3:
        options += (("in_chans", channels),)
    network = one["model"], one["image_size"]
    classes = one.dataset.get("classes") or _classes(*network, options, one["params"])
    if classes is None:
        yield _error("params", f"{one['params']:,} are those of no number of classes")
        return
    params, macs, stack = _cost(*network, classes, options)
    of = f"which {one['model']} has with {classes:,} classes at {one['image_size']} pixels"
    yield from _same("params", one["params"], params, of)
    yield from _same("macs", one["macs"], macs, of)
    yield from _same("stack", one["stack"], stack, "the network's")


@cache
def _cost(name: str, pixels: int, classes: int, options: tuple) -> tuple[int, int, str | None]:
    """Parameters, multiply-adds and stack."""
    network = on_meta(name, pixels, classes, **dict(options))
    macs = count_macs(network, pixels, dict(options).get("in_chans", 3))
    return count_params(network), macs, getattr(network, "stack", None)


def _classes(name: str, pixels: int, options: tuple, params: int) -> int | None:
    """How many classes give so many parameters; None for a number between."""
    two, three = (_cost(name, pixels, classes, options)[0] for classes in (2, 3))
    more, rest = divmod(params - two, three - two)
    return 2 + more if not rest and more >= 0 else None


def _speed(one: Record) -> Complaints:
    """No faster than its device, and as long as so many images take at that speed."""
    rate = one["images_per_second"]
    if not rate:
        return
    once = {**one.fields, "images": rate, "seconds": 1.0}  # revision 1 names no attempts
    for attempt in one.fields.get("attempts") or [once]:
        if not attempt["seconds"]:
            continue
        most = peak(attempt["device"], one["precision"])
        if most is None:
            what = f"no published peak of {attempt['device']!r} is known here: speed not checked"
            yield Complaint(WARNING, "device", what)
            continue
        devices = (attempt.get("execution") or attempt)["world_size"]
        done = FLOP_PER_MAC * one["macs"] * attempt["images"] / attempt["seconds"] / devices
        if done > most:
            what = (
                f"{attempt['images'] / attempt['seconds']:,.1f} images/s are {done / 1e12:,.3g} "
                f"TFLOP/s for each device, and {attempt['device']} has at most "
                f"{most / 1e12:,.3g} in {one['precision']}"
            )
            yield _error("images_per_second", what)
    took, meant = one["seconds"] * rate, one.images
    # of others the attempts tell exactly (`_attempts`), each at a speed of its own
    if one.older and one.completed and not meant / FACTOR <= took <= meant * FACTOR:
        what = f"{one['seconds']:g} s at {rate:g} images/s are {took:,.0f} images, not {meant:,}"
        yield _error("seconds", what)


# Its words


def _command(one: Record) -> Complaints:
    """Each flag of the command that names a field of the record."""
    words, told = shlex.split(one["command"]), one.dataset
    if words[:2] != ["astroformer", "train"]:
        yield _error("command", "does not begin with `astroformer train`")
        return
    said: dict[str, list[str]] = {}
    for flag, value in zip(words, [*words[1:], ""]):
        if flag.startswith("--"):
            said.setdefault(flag, []).append(value)
    base = one.recipe.name.partition("+")[0]
    meant = {"--model": one["model"], "--dataset": told["source"], "--recipe": base}
    if told["source"] == "folder":
        meant["--data-dir"] = told["name"]
    values = {**told, "seed": one["seed"], "image_size": one["image_size"]}
    values["fraction"] = one["fraction"]
    for name in RANGES:
        flag, value = f"--{name.replace('_', '-')}", values.get(name)
        default = Run.__dataclass_fields__[name].default
        unsaid = one.older and value is None  # revision 1 said less of the data
        if (flag in said and not unsaid) or (not one.older and value not in (None, default)):
            meant[flag] = value
    for flag, value in meant.items():
        if flag == "--train-images":  # which the record does not say
            continue
        if not _says(said.get(flag, [None])[-1], value):
            what = f"says {flag} {said.get(flag, ['nothing'])[-1]}, the record {_short(value)}"
            yield _error("command", what)
    for text in said.get("--set", ()):
        name = text.partition("=")[0]
        if not hasattr(one.recipe, name) or text != setting(name, getattr(one.recipe, name)):
            yield _error("command", f"says --set {_short(text)}, the recipe another value")
    for text in said.get("--model-option", ()):
        name = text.partition("=")[0]
        known = {**one["options"], **({"stack": one["stack"]} if one.older else {})}
        if name not in known or not _says(text.partition("=")[2], known[name]):
            yield _error("command", f"says --model-option {_short(text)}, the options another")


def _says(word: str | None, value: object) -> bool:
    """Whether a word of a command is a value: 1 is 1.0, and "(1, 2)" is [1, 2]."""
    if word is None:
        return False
    if isinstance(value, list | tuple):
        return re.findall(r"[\w.]+", word) == [str(part) for part in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(word) == value
        except ValueError:
            return False
    return word.lower() == str(value).lower() if isinstance(value, bool) else word == str(value)


def _texts(one: Record) -> Complaints:
    """No place on a machine; versions and commits that look like such."""
    for name, text in _all_texts(one.fields, ""):
        if found := PLACE.search(text):
            yield _error(name, f"names a place of somebody's machine, {found[1]}...")
    for name, version in one["versions"].items():
        if not re.match(r"\d+(\.\d+)+", version):
            yield _error(f"versions.{name}", f"{_short(version)} is no version")
    commit, dirty = one["git"]["commit"], one["git"]["dirty"]
    if commit is None:
        yield Complaint(WARNING, "git.commit", "is not known: made outside of a checkout")
    elif not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit):
        yield _error("git.commit", f"{_short(commit)} is no commit")
    if dirty:
        yield Complaint(WARNING, "git.dirty", "files of the library differed from the commit")


def _all_texts(value: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for part, inner in value.items():
            yield from _all_texts(inner, f"{name}.{part}" if name else part)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _all_texts(inner, f"{name}[{number}]")


def _dates(record: Mapping, now: datetime) -> Complaints:
    attempts = record.get("attempts") or ()
    places = {"started": record["started"]} | {
        f"attempts[{number}].started": attempt["started"] for number, attempt in enumerate(attempts)
    }
    for name, text in places.items():
        try:
            date = datetime.fromisoformat(text)
        except ValueError:
            yield _error(name, f"{_short(text)} is no date, such as 2026-01-31T12:00:00+00:00")
            continue
        if date.tzinfo is None:
            yield _error(name, f"{text} does not say its time zone, such as +00:00")
        elif date > now + timedelta(days=1):
            yield _error(name, f"{text} is in the future")


CHECKS: dict[str, Callable[[Record], Complaints]] = {
    "identity": _identity,
    "recipe": _recipe,
    "dataset": _images,
    "fields": _numbers,
    "metrics": _metrics,
    "history": _history,
    "status": _progress,
    "attempts": _attempts,
    "params": _network,
    "images_per_second": _speed,
    "command": _command,
    "git": _texts,
}

"""One data set's page: what it is, what is reported on it, what was measured, what the predictions
say, what was not run.

Reads top to bottom: SUBJECTS (the data sets with a page), reported, measured, curves, the
predictions of one group of runs. What was not run, and what it would cost, is in missing.py. No
group is chosen by its accuracy: the best of several on test images looks better than it is.
Everything comes from the ledger and from claims: no network is built, and images are read
only for the few that a plate shows.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from astroformer import contrasts, data, paths
from astroformer.data import DATASETS, DataSet, canonical, folder, galaxies, pixels
from astroformer.data.archives import ARCHIVES
from astroformer.ledger import links, predictions, records, tables
from astroformer.ledger.claims import id_of
from astroformer.ledger.predictions import Predictions
from astroformer.verdicts import verdicts

ACCURACIES = ("top1", "top5")
READABLE = 30  # classes up to which a confusion matrix can be read
MOST_CURVES = 8  # groups of runs in one figure


def _archived(name: str, **facts) -> DataSet:
    """A row for an archive that the project knows by its SHA-256; name, title, kind and note are
    the archive's.
    """
    told = next(told for told in ARCHIVES.values() if told["name"] == name)
    return DataSet(name=name, title=told["title"], kind=told["kind"], source=told["note"], **facts)


# Data sets with a page: what the page is called by -> the row. Those of an archive are folders,
# named by the archive.
FOLDERS = {
    "galaxyzoo1": _archived(
        "galaxyzoo1-128",
        classes=6,
        image_size=128,
        train=5_331,
        test=1_333,
        licence="none stated",
        citation="Lintott et al. 2008, MNRAS 389, 1179; Lintott et al. 2011, MNRAS 410, 166",
    ),
    "cifar10_jpeg": _archived(
        "cifar10-jpeg",
        classes=10,
        image_size=32,
        train=50_000,
        test=10_000,
        licence="none stated",
        citation=DATASETS["cifar10"].citation,
    ),
}
SUBJECTS = {
    name: DATASETS.get(name) or FOLDERS[name]
    for name in (
        "cifar10",
        "cifar100",
        "tiny_imagenet",
        "galaxy10_decals",
        "galaxyzoo1",
        "cifar10_jpeg",
        "galaxies",
        "svhn",
        "imagenet1k",
    )
}


# those of which the study "few images" trains on parts
STUDIED = ("cifar100", "galaxyzoo1", "tiny_imagenet")


def subject(name: str) -> DataSet:
    if name not in SUBJECTS:
        raise ValueError(
            f"no page is about the data set {name!r}; choose one of {', '.join(SUBJECTS)}"
        )
    return SUBJECTS[name]


def row_of(dataset: str, data_dir: str | None) -> DataSet | None:
    """What the book knows of a run's data set without its images; None of a folder of one's own."""
    if dataset != "folder":
        return DATASETS[dataset]
    return next((row for row in FOLDERS.values() if row.name == data_dir), None)


def named(name: str) -> str:
    """As a command names the data set."""
    return (
        f"--dataset folder --data-dir {subject(name).name}"
        if name in FOLDERS
        else f"--dataset {name}"
    )


def facts(name: str) -> pd.DataFrame:
    """What must be known of the data set beside a number."""
    row = subject(name)
    numbers = {"classes": row.classes, "training images": row.train, "test images": row.test}
    told = {
        "data set": row.title,
        "kind": row.kind,
        **{what: f"{number:,}" for what, number in numbers.items()},
        "own size": f"{row.image_size} x {row.image_size} pixels",
        "licence": row.licence,
        "to cite": row.citation,
        "where from": row.source,
    }
    return pd.DataFrame({"": told.values()}, index=list(told))


def standing(name: str) -> str:
    """What a number measured on these images may be set beside, and where others stand."""
    other = " Longer runs, on parts of these images, stand on [Few images](few_images.html)."
    return _standing(name) + other * (name in STUDIED)


def _standing(name: str) -> str:
    row = subject(name)
    if row.kind == "synthetic":
        return (
            f"These images are **{row.kind}**: a number measured on them says that code works, "
            "and nothing about any real data set."
        )
    if row.kind == "re-encoded":
        return (
            f"These images are **{row.kind}**: a number measured on them is never set beside "
            "a claim about the original data set, "
            "whose claims stand on its own page."
        )
    if name in FOLDERS:
        return (
            f"These images are **{row.kind}**, in a selection of their own: a number measured on "
            "them is set beside no claim."
        )
    return (
        f"A claim about {row.title} is only held against runs on the whole of it. A run on a part "
        "bears the part in its title."
    )


# Reported


def reported(name: str, claims: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The reported accuracies on this data set, each with its verdict; no rows where nobody
    reports any.
    """
    own = claims[(claims["dataset"] == subject(name).title) & claims["metric"].isin(ACCURACIES)]
    judged = verdicts.verdicts(own, frame)
    network = judged["model"].where(judged["model"] != "", judged["system"])
    return links.frame(
        {
            "network": network,
            "metric": judged["metric"],
            "reported (%)": [
                links.reported(claim.value, id_of(claim))
                for claim in judged.itertuples(index=False)
            ],
            "verdict": judged["verdict"],
            "measured (%)": judged["measured"],
            verdicts.WHY: verdicts.why(judged),
        }
    ).reset_index(drop=True)


# Measured


def of(name: str, found: list[dict] | None = None) -> list[dict]:
    """The ledger's records of the data set, of parts of it too, and of a folder that is the data
    set (`data.canonical`). `groups` leaves those to their pages that a study asked for.
    """
    row = subject(name)
    found = records.read() if found is None else found
    if name in FOLDERS:
        return [
            r
            for r in found
            if r["dataset"]["source"] == "folder" and r["dataset"]["name"] == row.name
        ]
    pixels = {known.sha256 for known in canonical.KNOWN if known.name == name}
    return [
        r for r in found if r["dataset"]["source"] == name or r["dataset"].get("sha256") in pixels
    ]


@dataclass(frozen=True)
class Group:
    """Completed runs that differ in nothing but the seed, by seed."""

    label: str  # network, recipe, size, and what of the data set, in words
    rows: pd.DataFrame  # of `records.frame`
    apart: str = ""  # the end of the label: in which values another of the same words differs

    @property
    def evaluated_on(self) -> str:
        return self.rows.iloc[0]["dataset.evaluated_on"]

    @property
    def watched_on(self) -> str:
        """The images of the values by epoch: "validation" where some were held out, else "test"."""
        held_out = self.rows.iloc[0].get("dataset.validation")
        return "validation" if pd.notna(held_out) and held_out > 0 else self.evaluated_on

    @property
    def histories(self) -> list[list[dict]]:
        """Of each seed: the entries of all epochs."""
        return list(self.rows["history"])


def groups(name: str, found: list[dict]) -> list[Group]:
    """In the order of `_order`."""
    made = tables.groups(records.frame(found))
    labels = [_label(name, rows) for rows in made]
    labelled = [
        Group(label + apart, rows.sort_values("seed"), apart)
        for label, apart, rows in zip(labels, tables.differences(labels, made), made)
    ]
    return sorted(labelled, key=_order)


# `_order` in words
RULE = (
    "measured on test images before held-out ones, then by most runs, by most training images, "
    "Astroformer before other networks, networks and then recipes as they are before changed ones, "
    "by most epochs, by name"
)


def _order(group: Group) -> tuple:
    """By what was planned, never by how accurate it is."""
    first = group.rows.iloc[0]
    return (
        group.evaluated_on != "test",
        -len(group.rows),
        -int(first["dataset.train"]),
        not first["model"].startswith("astroformer"),
        tables.options(first) not in ("", "CCCT"),
        tables.spelled(first["recipe.name"]).count("+"),
        -int(first["epochs"]),
        group.label,
    )


def _label(name: str, rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    options = tables.options(row)
    network = row["model"] + (f" ({options})" if options not in ("", "CCCT") else "")
    part = "" if row["dataset.title"] == subject(name).title else f", {row['dataset.title']}"
    part += "" if row["fraction"] == 1 else f", {100 * row['fraction']:g} % of the images"
    evaluated = (
        ""
        if row["dataset.evaluated_on"] == "test"
        else f", on {row['dataset.evaluated_on']} images"
    )
    return (
        f"{network}, {tables.recipe(rows)}{tables.begun(row)}, {row['image_size']} "
        f"pixels{part}{evaluated}"
    )


def measured(found: list[Group]) -> pd.DataFrame:
    """One row a group: mean and 95 % interval over seeds (n), for accuracies the interval for other
    seeds and images too, where it ran and for how long.
    """
    rows = []
    for group in found:
        first, seconds = group.rows.iloc[0], group.rows["seconds"].astype(float)
        rows.append(
            {
                "model": tables.network(first) + tables.begun(first),
                "recipe": tables.recipe(group.rows) + group.apart,
                "top-1 (%)": _mean(group.rows, "top1"),
                "top-1: 95 % seeds x images": _other_images(group.rows, "top1"),
                "balanced (%)": _mean(group.rows, "balanced_accuracy"),
                "ECE (%)": tables.mean_interval(tables.metric(group.rows, "ece"), share=True),
                "balanced: 95 % seeds x images": _other_images(group.rows, "balanced_accuracy"),
                "nll (nats)": tables.mean_interval(tables.metric(group.rows, "nll"), 3),
                "pixels": int(first["image_size"]),
                "epochs": int(first["epochs"]),
                "data set": tables.title(first),
                "evaluated on": f"{first['dataset.test']:,} {first['dataset.evaluated_on']}",
                "hours a run": f"{seconds.mean() / 3600:.2f}",
                "all seeds": _hours(group.rows),
                "device": tables.joined(group.rows["device"]),
                "record": tables.joined(group.rows["origin"]),
            }
        )
    return links.frame(rows)


def _mean(rows: pd.DataFrame, name: str) -> str:
    return tables.accuracy(rows, name)


def _other_images(rows: pd.DataFrame, name: str) -> str:
    """The ends of `tables.two_intervals`' second interval, nothing where it is not known."""
    done = rows[tables.metric(rows, name).notna()]
    found = tables.two_intervals(done, name)[1] if len(done) else None
    return "" if found is None else _ends(found.low, found.high)


def _ends(low: float, high: float) -> str:
    return f"{low:.1f} to {high:.1f}"


def _hours(rows: pd.DataFrame) -> str:
    """GPU-hours, and CPU-hours of each thread. A device's name says how many threads a processor
    had.
    """
    hours: dict[str, float] = {}
    for _, row in rows.iterrows():
        on_cpu = "threads" in row["device"]
        parallel = row["device"].split()[-2] if on_cpu else row["world_size"]
        unit = "CPU-hours" if on_cpu else "GPU-hours"
        hours[unit] = hours.get(unit, 0.0) + row["seconds"] * int(parallel) / 3600
    return ", ".join(f"{number:.2f} {unit}" for unit, number in hours.items())


def watched(found: list[Group], images: str) -> list[Group]:
    """The groups whose values by epoch are of the "validation" or of the "test" images."""
    return [group for group in found if group.watched_on == images]


def curves(group: Group, metric: str) -> pd.DataFrame:
    """By epoch: mean, lowest and highest over the seeds, of the values that were finite."""
    values = pd.DataFrame(
        [{entry["epoch"]: entry[metric] for entry in history} for history in group.histories],
        dtype=float,
    )
    return (
        pd.DataFrame({"mean": values.mean(), "lowest": values.min(), "highest": values.max()})
        .rename_axis("epoch")
        .sort_index()
    )


# Predictions


@dataclass(frozen=True)
class Chosen:
    """A group of runs of which predictions are in the ledger, and the predictions of its seeds."""

    group: Group
    records: list[dict]
    seeds: list[Predictions]  # one for each record

    @property
    def classes(self) -> tuple[str, ...]:
        return self.seeds[0].classes

    @property
    def confusion(self) -> np.ndarray:
        """(K, K): counts of all seeds together."""
        return sum(predictions.confusion(one) for one in self.seeds)


def chosen(found: list[Group], records_found: list[dict]) -> Chosen | None:
    """The first of the `groups` of those with the most runs that left predictions; None if no run
    of any group did.
    """
    kept = [[run for run in group.rows["run"] if predictions.present(run)] for group in found]
    order = sorted(
        (number for number, runs in enumerate(kept) if runs),
        key=lambda number: (found[number].evaluated_on != "test", -len(kept[number]), number),
    )
    if not order:
        return None
    # a study's record of the same run would hide the one that the group has
    own = [record for record in records_found if not record.get("study")]
    by_run, runs = {record["run"]: record for record in records.unique(own)}, kept[order[0]]
    return Chosen(
        found[order[0]], [by_run[run] for run in runs], [predictions.read(run) for run in runs]
    )


def described(best: Chosen | None, name: str) -> str:
    """Of which runs the predictions are, or how to make some, in Markdown."""
    if best is None:
        return (
            "The ledger holds no predictions on these images. A run that completes leaves "
            "them; "
            f"`astroformer evaluate runs/RUN/last.pt {named(name)} --keep`, with what else "
            "the run's command says of the "
            "images, makes those of an older one."
        )
    seeds = ", ".join(str(record["seed"]) for record in best.records)
    return (
        f"These are the predictions of **{best.group.label}**: on {len(best.seeds[0]):,} "
        f"{best.group.evaluated_on} images, by {len(best.seeds)} of its "
        f"{len(best.group.rows)} runs (seed {seeds}). Of the groups that left predictions it is "
        f"the first by a rule that looks at no accuracy: {RULE}. {_floor(best)}"
    )


def _floor(best: Chosen) -> str:
    """What guessing, and naming one class alone, would reach on the images of the predictions."""
    images = best.confusion.sum(axis=1)
    most, chance = int(images.argmax()), 100 / len(images)
    told = f"Guessing would reach {chance:.1f} %"
    if images.max() == images.min():
        return f"{told}."
    part = 100 * images[most] / images.sum()
    return (
        f"{told}; always naming the most frequent class, {best.classes[most]}, {part:.1f} % "
        f"({chance:.1f} % balanced)."
    )


# what the table of `per_class` says of its intervals
RECALL = (
    "The recall of each class, with a 95 % interval for other images of that class, and for other "
    "seeds where there are three or more. Each interval stands alone: of twenty, one may miss. A "
    "class of few images tells little, however well the seeds agree."
)


def per_class(best: Chosen, number: int = READABLE) -> pd.DataFrame:
    """Each class's images and recall, the mean over seeds with a 95 % interval for other images of
    the class (and other seeds, where there are enough), and what it is most often taken for; of
    very many classes the `number` worst.
    """
    # (seeds, K)
    recalls = pd.DataFrame([predictions.per_class(one)["recall (%)"] for one in best.seeds])
    images = predictions.per_class(best.seeds[0])["images"]
    taken = np.where(np.eye(len(best.classes), dtype=bool), 0, best.confusion)
    table = pd.DataFrame(
        {
            "class": best.classes,
            "images": images,
            "recall (%)": [
                f"{recalls[k].mean():.1f} ({len(best.seeds)})" if images[k] else "" for k in recalls
            ],
            "95 %": [_ends(*_recall(best, k)) if images[k] else "" for k in recalls],
            "most often taken for": [
                best.classes[row.argmax()] if row.any() else "" for row in taken
            ],
        }
    )
    worst = recalls.mean().sort_values(kind="stable").index[:number]
    return table if len(table) <= number else table.loc[worst].reset_index(drop=True)


def _recall(best: Chosen, k: int) -> tuple[float, float]:
    """The ends of a 95 % interval of the recall (%) of class k. From enough seeds: a bootstrap over
    seeds and images. From few, or where no image or every image is recognised: Wilson's interval of
    the mean recall, in which each image counts once however many seeds saw it.
    """
    labels = best.seeds[0].labels
    mine = labels == k
    right = np.stack([one.right[mine] for one in best.seeds])  # (seeds, images of the class)
    if len(right) >= tables.LEAST:
        found = contrasts.accuracy_bootstrap(right, labels[mine])
        if np.isfinite([found.low, found.high]).all():
            return found.low, found.high
    low, high = contrasts.wilson(float(right.mean(axis=0).sum()), right.shape[1])
    return 100 * low, 100 * high


def calibration(best: Chosen, *, draws: int = 200) -> str:
    """The expected calibration error of each seed, and what a network without any would show on so
    many images, in sentences.
    """
    own = ", ".join(f"{predictions.metrics(one)['ece']:.2f}" for one in best.seeds)
    none = np.mean([ece_if_calibrated(one, draws=draws) for one in best.seeds])
    return (
        f"The expected calibration error of each seed is {own} %. It is a mean of distances and is "
        "never 0 on a finite number of images: a network that is exactly as sure as it is right, "
        f"with the same probabilities, would show {none:.2f} % on {len(best.seeds[0]):,} images "
        f"(mean of {draws} draws). The cross-entropy above has no such bias."
    )


def ece_if_calibrated(one: Predictions, *, draws: int = 200, seed: int = 0) -> float:
    """Mean expected calibration error (%) if each prediction were right with the probability that
    it states, over draws of what is right.
    """
    confidence = one.confidence.astype(np.float64)
    bins = np.minimum((confidence * predictions.BINS).astype(int), predictions.BINS - 1)
    draw, total = np.random.default_rng(seed), np.zeros(draws)
    for mine in (bins == bin_ for bin_ in np.unique(bins)):
        sure = confidence[mine]
        right = draw.random((draws, len(sure))) < sure
        total += np.abs(right.mean(1) - sure.mean()) * len(sure)
    return float(100 * total.mean() / len(one))


def confused(best: Chosen, number: int = 12) -> pd.DataFrame:
    """The pairs of classes that are mixed up most, over all seeds."""
    table = predictions.confused(best.confusion, best.classes, number)
    return table.assign(**{"of the class (%)": table["of the class (%)"].round(1)})


def mistakes(best: Chosen, number: int = 12) -> pd.DataFrame:
    """Of the first seed: the wrong predictions of which it was surest."""
    table = predictions.mistakes(best.seeds[0], number)
    return table.assign(probability=table["probability"].round(3))


def readable(best: Chosen | None) -> bool:
    """Whether there is a confusion matrix, of so few classes that it can be read."""
    return best is not None and len(best.classes) <= READABLE


def no_matrix(best: Chosen) -> str:
    """Why there is no confusion matrix, in a sentence."""
    return (
        f"A matrix of {len(best.classes)} classes cannot be read; below are the classes that "
        "are recognised worst, and the pairs "
        "that are mixed up most."
    )


def no_plate(name: str) -> str:
    """How to get the images of the surest mistakes, in a sentence."""
    where = (
        f"the folder {subject(name).name}"
        if name in FOLDERS
        else f"the files of {subject(name).title}"
    )
    return (
        f"The images themselves are not at hand: with {where} below ASTROFORMER_DATA, this "
        "page shows those of the wrong "
        "predictions of which the first seed's network was surest. Their numbers in the split:"
    )


def pictures(best: Chosen, name: str, number: int = 12) -> list[np.ndarray] | None:
    """The images of `mistakes`, uint8 (H, W, 3), where they can be had: galaxies are drawn, others
    must be at hand. None if they are not, or are others than those of the run.
    """
    record, indices = best.records[0], predictions.mistakes(best.seeds[0], number)["index"]
    told, size = record["dataset"], record["image_size"]
    try:
        if name == "galaxies" and told["evaluated_on"] == "test":
            draw = dict(size=size, seed=galaxies.SEEDS["test"], workers=1)
            return [galaxies.generate(1, first=int(i), **draw)[0][0] for i in indices]
        if name in FOLDERS and told["evaluated_on"] == "test":
            root = paths.data() / subject(name).name
            files = folder.list_split(root, "test", folder.class_names(root))
            same = np.array_equal([label for _, label in files], best.seeds[0].labels)
            wanted = [pixels.read_whole(files[i][0]) for i in indices] if same else None
            return wanted and [pixels.square(image, size) for image in wanted]
        where = ("folder", subject(name).name) if name in FOLDERS else (name, None)
        images = data.load(
            where[0], told["evaluated_on"], data_dir=where[1], image_size=size, **_part(told)
        )
    except (FileNotFoundError, ValueError):
        return None
    return (
        [images.pixels[i] for i in indices]
        if np.array_equal(images.labels, best.seeds[0].labels)
        else None
    )


def _part(told: dict) -> dict:
    """Which part of the data set a record is about, as arguments of `data.load`."""
    # older: there was no choice, and split_seed meant the seed of a fraction
    if "classes" not in told:
        return {}
    return {key: told[key] for key in ("class_fraction", "validation", "test_images", "split_seed")}

"""The audit of reported counts: which configurations coincide with them, and how easily a made-up
table does as well.

`astroformer audit` searches (`search.py`) and writes `book/ledger/audit.json`; the page reads that
file, and `tables.py` puts it into words. What is said of a match is "coincides with": a count can
exclude a configuration, it cannot prove that one was used.

Reads top to bottom: targets, joint matches, one candidate in words, the classifier's width, the
other two systems, the report, its file. `chance.py` holds the shares.
"""

import json
from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd

from astroformer import paths
from astroformer.audit.candidates import (
    SEARCHED,
    Block,
    Release,
    Space,
    changes_in_words,
    counted,
)
from astroformer.audit.chance import EASY, luck, share, single
from astroformer.audit.search import JOINT, LEVELS, NEAR, RANGE, Found, Target, search
from astroformer.counting import closed_forms
from astroformer.ledger.claims import DATASETS, README, prints_as, row_name, truncates_to

# pixels: the poster's 224, and the README's command for this data set
STATED_SIZES = {"Galaxy10 DECaLS": (224, 256)}
SHOWN = 8  # configurations listed for each number
CONSIDERED = 60  # sets of changes looked at for the list of joint matches
DECOYS = 200  # made-up tables
RANGES = (0.02, RANGE, 0.10)  # conclusions must not hang on how far made-up tables lie


def targets(claims: pd.DataFrame) -> list[Target]:
    """The rows of the Astroformer README's tables, each with parameters and FLOPs."""
    rows = claims[(claims["source"] == README) & claims["metric"].isin(["params", "flops"])]
    wide = rows.pivot(index=["model", "dataset"], columns="metric", values="value")
    return [
        Target(
            row["model"],
            row["dataset"],
            row["params"],
            row["flops"],
            Release(
                row["model"],
                DATASETS[row["dataset"]]["classes"],
                STATED_SIZES.get(row["dataset"], (224,)),
            ),
        )
        for row in wide.reset_index().to_dict("records")
    ]


# Joint matches: one set of changes, applied to each release, that prints several reported numbers.


def steps_from(space: Space, depths: tuple[int, ...]) -> np.ndarray:
    """(depths,) the step in each stage from these depths as one number in base 3, -1 where a
    step exceeds one block.
    """
    steps = np.array(space.depths) - np.array(depths)
    return np.where(np.abs(steps).max(1) <= 1, (steps + 1) @ np.array([27, 9, 3, 1]), -1)


def joint_keys(space: Space, hits: pd.DataFrame, looked_for: list[Target]) -> pd.DataFrame:
    """Hits at the release's own widths and within a block a stage of its depths, with their set of
    changes as one number, equal for equal changes: options, stem and head, steps in depth, classes
    (the data set's own, or how many), image size (as stated, or which).
    """
    classes_of = np.array([outer["num_classes"] for outer in space.outer])
    around_of = np.array(
        [
            space.outer.index(outer | {"num_classes": space["num_classes"][0]})
            for outer in space.outer
        ]
    )
    parts = []
    for t, group in hits.groupby("target"):
        release = looked_for[t].release
        steps = steps_from(space, release.depths)[group["depths"]]
        group, steps = group[steps >= 0], steps[steps >= 0]
        classes, key = classes_of[group["outer"]], group["option"].to_numpy()
        for part, choices in (
            (around_of[group["outer"]], len(space.outer)),
            (steps, 81),
            (np.where(classes == release.num_classes, 0, classes), 1001),
            (
                np.where(np.isin(group["image_size"], release.image_sizes), 0, group["image_size"]),
                385,
            ),
        ):
            key = key * choices + part
        parts.append(group.assign(key=key, number=looked_for[t].params))
    return pd.concat(parts) if parts else hits.assign(key=0, number="")


def made_up_sets(keyed: pd.DataFrame) -> pd.DataFrame:
    """For each table (`decoy`, 0 the reported one) and set of changes: how many different numbers
    of the table it prints, and the changes.
    """
    return (
        keyed.groupby(["decoy", "key"])
        .agg(numbers=("number", "nunique"), changes=("changes", "min"))
        .reset_index()
    )


def joint(space: Space, found: dict[float, Found], looked_for: list[Target], decoys: int) -> dict:
    """Sets of changes that print two or more distinct reported parameter counts, and how often
    made-up tables are met so. `found`: range of the made-up tables -> what the search saw.
    """
    keyed = {
        reach: joint_keys(space, one.hits("close"), looked_for) for reach, one in found.items()
    }
    tables = {reach: made_up_sets(one) for reach, one in keyed.items()}
    own, sets = keyed[RANGE], tables[RANGE]
    own = own[own["decoy"] == 0]
    real = sets[(sets["decoy"] == 0) & (sets["numbers"] > 1)].sort_values(
        ["numbers", "changes"], ascending=[False, True]
    )

    def as_easily(reach: float, numbers: int, changes: int) -> float:
        """Share of tables in which some set of no more changes prints at least as many numbers."""
        every = tables[reach]
        better = every[(every["numbers"] >= numbers) & (every["changes"] <= changes)]
        return share(better.loc[better["decoy"] > 0, "decoy"].nunique(), decoys)

    kept = []
    for _, row in real.head(CONSIDERED).iterrows():
        members = own[own["key"] == row["key"]].sort_values("target")
        one = {
            "changes": _words(space, members.iloc[0], looked_for[members.iloc[0]["target"]]),
            "number_of_changes": int(row["changes"]),
            "distinct_numbers": int(row["numbers"]),
            "rows": [looked_for[t].row for t in members["target"]],
            "flops": [
                _closest_flops(space, hit, looked_for[hit["target"]])
                for _, hit in members.iterrows()
            ],
            "as_easily": as_easily(RANGE, row["numbers"], row["changes"]),
            "by_range": [as_easily(reach, row["numbers"], row["changes"]) for reach in tables],
            # what is left if an axis that was chosen after a look at the numbers costs more changes
            "as_easily_with_more_changes": as_easily(RANGE, row["numbers"], JOINT),
        }
        if not any(
            set(other["changes"]) < set(one["changes"]) and set(other["rows"]) >= set(one["rows"])
            for other in kept
        ):
            kept.append(one)  # a set with a further change that explains nothing more is no news
    return {
        "sets": len(real),
        "shown": sorted(kept, key=lambda one: (one["as_easily"], -len(one["rows"])))[:SHOWN],
    }


def _closest_flops(space: Space, hit: pd.Series, target: Target) -> dict:
    """Under which convention the candidate comes closest to the FLOPs that its row prints, and
    whether it prints them.
    """
    cost, reported = counted(_configuration(space, hit)), float(target.flops) * 1e9
    under = {name: int(closed_forms.CONVENTIONS[name](cost)) for name in SEARCHED}
    name = min(under, key=lambda convention: abs(under[convention] - reported))
    return {
        "printed": target.flops,
        "convention": name,
        "counted": under[name],
        "how": how_printed(under[name], target.flops, "G"),
    }


# One candidate in words.


def _configuration(space: Space, hit: pd.Series) -> dict:
    block = Block(space, space["widths"][hit["widths"]], int(hit["image_size"]))
    return block.configuration(space.outer[hit["outer"]], int(hit["option"]), int(hit["depths"]))


def _words(space: Space, hit: pd.Series, target: Target) -> list[str]:
    return changes_in_words(_configuration(space, hit), target.release)


def _nearest(space: Space, hits: pd.DataFrame, target: Target, kind: str) -> list[dict]:
    """The hits with the fewest changes, each with its counts and how it prints the reported
    digits.
    """
    rows = []
    for _, hit in hits.sort_values(["changes", "params"], kind="stable").head(SHOWN).iterrows():
        cost = counted(_configuration(space, hit))
        under = [name for i, name in enumerate(SEARCHED) if hit["under"] >> i & 1]
        row: dict[str, object] = {
            "changes": _words(space, hit, target),
            "params": int(cost.params),
            "macs": int(cost.macs),
        }
        if kind != "flops":
            row["params_printed"] = how_printed(cost.params, target.params, "M")
        if under:
            row["flops_printed"] = {
                name: how_printed(closed_forms.CONVENTIONS[name](cost), target.flops, "G")
                for name in under
            }
        rows.append(row)
    return rows


def how_printed(count: int, value: str, unit: str) -> str:
    """ "rounded" or "cut off", by which the count prints the value; "not at all" otherwise."""
    return (
        "rounded"
        if prints_as(count, value, unit)
        else "cut off"
        if truncates_to(count, value, unit)
        else "not at all"
    )


def singles(found: Found, looked_for: list[Target]) -> dict:
    """For each kind of number: how many different ones are easy for few made-up tables only, and
    how many would be by luck (`chance.luck`). A number that several rows print is one.
    """
    printed = {
        "params": [(target.model, target.params) for target in looked_for],
        "flops": [(target.model, target.flops) for target in looked_for],
        "pair": [(target.model, target.params, target.flops) for target in looked_for],
    }
    return {
        kind: luck(
            [
                sum(found.by_changes[kind][t] for t, other in enumerate(names) if other == name)
                for name in dict.fromkeys(names)
            ]
        )
        for kind, names in printed.items()
    }


def classifier_widths(looked_for: list[Target]) -> list[dict]:
    """What two data sets' parameter counts of one model say about the layer before the classes: a
    linear classifier of width C on K classes has K (C + 1) parameters, so C follows from the
    difference, within the rounding of both.
    """
    rows = []
    by_name = {(target.model, target.dataset): target for target in looked_for}
    for model in dict.fromkeys(target.model for target in looked_for):
        few, many = by_name.get((model, "CIFAR-10")), by_name.get((model, "CIFAR-100"))
        if few and many:
            classes = many.release.num_classes - few.release.num_classes
            difference = float(many.params) - float(few.params)
            least, most = ((difference + slip) * 1e6 / classes - 1 for slip in (-0.01, 0.01))
            rows.append(
                {
                    "model": model,
                    "reported_difference": round(difference, 2),
                    "width_least": round(least),
                    "width_most": round(most),
                    "released_width": few.release.widths[-1],
                    "agrees": bool(least <= few.release.widths[-1] <= most),
                }
            )
    return rows


# SpectFormer and ViT-CIFAR: their tables print fewer digits, and their spaces are small enough to
# be listed.

SMALL_SPACES = {
    "SpectFormer": {
        "dim": tuple(range(192, 769, 64)),
        "depth": tuple(range(6, 25)),
        "spectral": tuple(range(25)),
        "mlp_ratio": (2, 3, 4),
        "image_size": (224, 384),
    },
    "ViT-CIFAR": {
        "dim": tuple(range(192, 513, 64)),
        "depth": tuple(range(4, 13)),
        "mlp_hidden": (192, 384, 768, 1152, 1536),
        "patch": (2, 4, 8),
        "class_token": (True, False),
    },
}
RELEASES = {
    **{
        name: (
            "SpectFormer",
            {"dim": dim, "depth": depth, "spectral": 4, "mlp_ratio": 4, "image_size": 224},
        )
        for name, (dim, depth) in closed_forms.SPECTFORMER.items()
    },
    "vit_cifar": (
        "ViT-CIFAR",
        {"dim": 384, "depth": 7, "mlp_hidden": 384, "patch": 4, "class_token": True},
    ),
}
COUNT = {"SpectFormer": closed_forms.spectformer, "ViT-CIFAR": closed_forms.vit_cifar}
# hard-coded in SpectFormer's code, the README's value for ViT-CIFAR
RELEASED_HEADS = {"SpectFormer": 6, "ViT-CIFAR": 12}
NEIGHBOURS = 5  # made-up numbers: so many last digits up and down in each coordinate


def small_space(system: str) -> list[dict]:
    """Every configuration of a small space that can exist."""
    axes = SMALL_SPACES[system]
    found = (dict(zip(axes, choice)) for choice in product(*axes.values()))
    return [one for one in found if one.get("spectral", 0) <= one["depth"]]


def other_systems(claims: pd.DataFrame) -> list[dict]:
    """For each model of the other two systems: what coincides with its reported counts in its
    small space.
    """
    rows = []
    costs = {
        system: [(one, COUNT[system](**one)) for one in small_space(system)]
        for system in SMALL_SPACES
    }
    for model, (system, release) in RELEASES.items():
        mine = claims[
            (claims["model"] == model)
            & claims["metric"].isin(["params", "flops"])
            & (claims["source"] == f"{system} README")
        ]
        printed = {row["metric"]: (row["value"], row["unit"]) for _, row in mine.iterrows()}
        if "params" not in printed:
            continue
        own = COUNT[system](**release)
        tried = [
            (sum(one[axis] != value for axis, value in release.items()), one, cost)
            for one, cost in costs[system]
        ]
        matches = [
            (changes, one, cost) for changes, one, cost in tried if _coincides(cost, printed)
        ]
        fewest = min((changes for changes, *_ in matches), default=None)
        made_up = (
            [_as_close(tried, neighbour, fewest) for neighbour in _neighbours(printed)]
            if matches
            else []
        )
        rows.append(
            {
                "model": model,
                "printed": {metric: " ".join(value) for metric, value in printed.items()},
                "candidates": len(tried),
                "matches": len(matches),
                "fewest_changes": fewest,
                "as_easily": share(sum(made_up), len(made_up)) if made_up else None,
                "released": {
                    "params": own.params,
                    "macs": own.macs,
                    "prints": {
                        metric: _metric_coincides(own, metric, value)
                        for metric, value in printed.items()
                    },
                },
                "heads": {
                    "released": RELEASED_HEADS[system],
                    "divides_the_width": release["dim"] % RELEASED_HEADS[system] == 0,
                    "that_divide": [h for h in range(2, 17) if release["dim"] % h == 0],
                },
                "nearest": [
                    {
                        "changes": [
                            f"{axis} {one[axis]}"
                            for axis, value in release.items()
                            if one[axis] != value
                        ],
                        "params": cost.params,
                        "macs": cost.macs,
                    }
                    for _, one, cost in sorted(matches, key=lambda match: match[0])[:SHOWN]
                ],
            }
        )
    return rows


def _metric_coincides(cost: closed_forms.Counts, metric: str, printed: tuple[str, str]) -> bool:
    found = (
        [cost.params]
        if metric == "params"
        else [count(cost) for count in closed_forms.CONVENTIONS.values()]
    )
    return any(prints_as(count, *printed) or truncates_to(count, *printed) for count in found)


def _coincides(cost: closed_forms.Counts, printed: dict[str, tuple[str, str]]) -> bool:
    return all(_metric_coincides(cost, metric, value) for metric, value in printed.items())


def _neighbours(printed: dict[str, tuple[str, str]]) -> list[dict[str, tuple[str, str]]]:
    """Made-up numbers around the printed ones, all but the printed ones themselves."""
    choices = []
    for value, unit in printed.values():
        decimals = len(value.partition(".")[2])
        step = 10**-decimals
        choices.append(
            [
                (f"{float(value) + i * step:.{decimals}f}", unit)
                for i in range(-NEIGHBOURS, NEIGHBOURS + 1)
            ]
        )
    return [
        made
        for made in (dict(zip(printed, choice)) for choice in product(*choices))
        if made != printed
    ]


def _as_close(tried: list[tuple], printed: dict[str, tuple[str, str]], fewest: int) -> bool:
    return any(changes <= fewest and _coincides(cost, printed) for changes, _, cost in tried)


# The report.


def audit(
    claims: pd.DataFrame,
    *,
    space: Space | None = None,
    decoys: int = DECOYS,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> dict:
    """The whole audit as plain values; the same claims, space and seed give the same report."""
    space, looked_for = space or Space(), targets(claims)
    if not looked_for:
        raise ValueError(
            "the claims hold no row of the Astroformer README with params and flops; "
            "see book/claims.csv"
        )
    by_range = {
        reach: search(
            space,
            looked_for,
            decoys=decoys,
            seed=seed,
            reach=reach,
            report=lambda line, reach=reach: report(f"{line}, made-up tables within {reach:.0%}"),
        )[1]
        for reach in RANGES
    }
    found = by_range[RANGE]
    near = {kind: found.hits(kind) for kind in ("params", "flops")}
    near["pair"] = near["params"][near["params"]["under"] > 0]
    rows = []
    for t, target in enumerate(looked_for):
        own = closed_forms.released(
            target.model,
            image_size=target.release.image_sizes[0],
            num_classes=target.release.num_classes,
        )
        rows.append(
            {
                "model": target.model,
                "dataset": target.dataset,
                "printed": {"params": target.params, "flops": target.flops},
                "released": own,
                **{
                    kind: single(
                        found.by_changes[kind][t],
                        _nearest(space, hits[hits["target"] == t], target, kind),
                    )
                    for kind, hits in near.items()
                },
            }
        )
    together = joint(space, by_range, looked_for, decoys)
    return {
        "space": {
            "axes": {name: list(choices) for name, choices in space.axes},
            "sha256": space.sha256,
            "candidates": len(space),
            "conventions": list(SEARCHED),
            "decoys": decoys,
            "decoy_range": RANGE,
            "ranges": list(RANGES),
            "seed": seed,
            "flops_alone_within_changes": NEAR,
            "joint_within_changes": JOINT,
            "levels": LEVELS,
        },
        "rows": rows,
        "singles": {
            kind: [singles(one, looked_for)[kind] for one in by_range.values()]
            for kind in found.by_changes
        },
        "joint": together,
        "classifier": classifier_widths(looked_for),
        "other_systems": other_systems(claims),
        "easy": EASY,
        "unexplained": [
            {
                "model": row["model"],
                "dataset": row["dataset"],
                "metric": metric,
                "printed": row["printed"][metric],
            }
            for row in rows
            for metric in ("params", "flops")
            if not (metric == "params" and _in_a_set(row, together))
        ],
    }


def _in_a_set(row: dict, together: dict) -> bool:
    """Whether a joint match that few made-up tables equal prints the row's parameters. A match of
    its own explains no number: of so many, some pass by luck (`singles`).
    """
    return any(
        row_name(row["model"], row["dataset"]) in one["rows"]
        for one in together["shown"]
        if one["as_easily"] <= EASY
    )


def write(report: dict) -> None:
    """Into `book/ledger/audit.json`, from which the page reads."""
    paths.AUDIT.write_text(json.dumps(report, indent=1) + "\n")


def read() -> dict:
    """The committed report; one that was made in another search space is refused (the tests hold
    it to the claims).
    """
    if not paths.AUDIT.is_file():
        raise FileNotFoundError(
            f"there is no {paths.AUDIT}; `astroformer audit --write` makes it in a minute"
        )
    report = json.loads(paths.AUDIT.read_text())
    if report["space"]["sha256"] != Space().sha256:
        raise ValueError(
            f"{paths.AUDIT} holds another search space than the library's; run "
            "`astroformer audit --write`"
        )
    return report

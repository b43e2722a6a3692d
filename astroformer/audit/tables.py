"""The audit's report in words and numbers: tables for the page and for a terminal, facts for prose,
points for the figure.

Reads top to bottom: tables, facts, the report for a terminal, the plane of all candidates.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from astroformer.audit import chance
from astroformer.audit.audit import how_printed
from astroformer.audit.candidates import Space, operations
from astroformer.ledger.claims import row_name

KINDS = {"params": "parameters", "flops": "FLOPs", "pair": "both"}


def printed_table(report: dict) -> pd.DataFrame:
    """Each row's two counts as printed, and those of the released network of that name."""
    return pd.DataFrame(
        [
            {
                "model": row["model"],
                "data set": row["dataset"],
                "params (M)": row["printed"]["params"],
                "counted (M)": f"{row['released']['params'] / 1e6:.2f}",
                "FLOPs (G)": row["printed"]["flops"],
                "counted (G)": f"{row['released']['conventions']['macs'] / 1e9:.2f}",
            }
            for row in report["rows"]
        ]
    )


def match_table(report: dict) -> pd.DataFrame:
    """One line a reported number: the configuration of fewest changes that prints it, and the share
    of made-up tables whose own number is printed after as few (`made-up tables`).
    """
    rows, decoys = [], report["space"]["decoys"]
    for row in report["rows"]:
        for kind, label in KINDS.items():
            found = row[kind]
            printed = (
                " and ".join(row["printed"].values()) if kind == "pair" else row["printed"][kind]
            )
            nearest = found["nearest"][0]["changes"] if found["nearest"] else None
            rows.append(
                {
                    "row": row_name(row["model"], row["dataset"]),
                    "number": label,
                    "printed": printed,
                    "made-up tables": ""
                    if nearest is None
                    else chance.in_words(found["as_easily"], decoys),
                    "nearest match": "none"
                    if nearest is None
                    else ", ".join(nearest) or "the release itself",
                }
            )
    return pd.DataFrame(rows)


def joint_table(report: dict) -> pd.DataFrame:
    """Sets of changes that print several rows' parameters at once, with the share of made-up tables
    that are met as well (for each range of those, the middle one is the page's), and the FLOPs that
    the same configuration comes closest to, under any convention, beside those printed.
    """
    decoys, ranges = report["space"]["decoys"], report["space"]["ranges"]
    return pd.DataFrame(
        [
            {
                "changes": ", ".join(one["changes"]),
                "numbers": one["distinct_numbers"],
                **{
                    f"within {100 * reach:.0f} %": chance.in_words(part, decoys)
                    for reach, part in zip(ranges, one["by_range"])
                },
                "rows, and FLOPs: printed, closest count": "; ".join(
                    f"{row}: {flops['printed']}, {flops['counted'] / 1e9:.2f} "
                    f"({flops['convention']})"
                    for row, flops in zip(one["rows"], one["flops"])
                ),
            }
            for one in report["joint"]["shown"]
        ]
    )


def other_table(report: dict) -> pd.DataFrame:
    """SpectFormer and ViT-CIFAR: printed beside the released network's own counts, and what else
    prints the same.
    """
    return pd.DataFrame(
        [
            {
                "model": row["model"],
                "printed": ", ".join(row["printed"].values()),
                "released network": f"{row['released']['params'] / 1e6:.2f} M, "
                f"{row['released']['macs'] / 1e9:.2f} G",
                "prints the same": " and ".join(
                    KINDS[metric] for metric, same in row["released"]["prints"].items() if same
                )
                or "nothing",
                "all that do": f"{row['matches']:,} of {row['candidates']:,}",
                "nearest": "none"
                if not row["nearest"]
                else ", ".join(row["nearest"][0]["changes"]) or "the release",
                "heads": f"{row['heads']['released']}"
                + (
                    ""
                    if row["heads"]["divides_the_width"]
                    else " cannot divide the width; "
                    + ", ".join(map(str, row["heads"]["that_divide"]))
                    + " can"
                ),
            }
            for row in report["other_systems"]
        ]
    )


def classifier_table(report: dict) -> pd.DataFrame:
    """What the difference between CIFAR-100 and CIFAR-10 implies for the width before the
    classifier.
    """
    return pd.DataFrame(
        [
            {
                "model": row["model"],
                "printed difference (M)": f"{row['reported_difference']:.2f}",
                "implied width": f"{row['width_least']} to {row['width_most']}",
                "released width": row["released_width"],
                "agrees": "yes" if row["agrees"] else "no",
            }
            for row in report["classifier"]
        ]
    )


def coincident_sets(report: dict) -> list[dict]:
    """The joint matches that made-up tables seldom equal: for each group of rows, the set of
    fewest changes.
    """
    best: dict[tuple, dict] = {}
    for one in report["joint"]["shown"]:
        if one["as_easily"] <= report["easy"]:
            best.setdefault(tuple(one["rows"]), one)
    groups = list(best.values())
    return [
        one for one in groups if not any(set(one["rows"]) < set(other["rows"]) for other in groups)
    ]


def timm_coatnets(num_classes: int = 10) -> pd.DataFrame:
    """timm's own CoAtNets of the reported models' sizes (stack C-C-T-T), counted on the meta device
    with and without the hidden layer in the head: parameters in millions.
    """
    import torch  # here alone, with what follows: the search builds no network
    from timm.models.maxxvit import MaxxVit, model_cfgs

    from astroformer.counting.cost import count_params

    rows = []
    for number in (3, 4, 5):
        config = model_cfgs[f"coatnet_{number}"]
        for hidden in (config.head_hidden_size, None):
            with torch.device("meta"):
                network = MaxxVit(replace(config, head_hidden_size=hidden), num_classes=num_classes)
            rows.append(
                {
                    "timm's network": f"coatnet_{number}_224",
                    "stack": "-".join(map(str, config.block_type)),
                    "hidden layer in the head": hidden or "none",
                    "classes": num_classes,
                    "parameters (M)": f"{count_params(network) / 1e6:.2f}",
                }
            )
    return pd.DataFrame(rows)


def luck_table(report: dict) -> pd.DataFrame:
    """For each kind of number: how many different ones the README prints, how many of them are easy
    for at most `easy` of made-up tables, and how many of a made-up table are (mean), for each range
    of those. The last column: the share of made-up tables with as many.
    """
    decoys = report["space"]["decoys"]
    return pd.DataFrame(
        [
            {
                "kind of number": label,
                "made-up tables within": f"{100 * reach:.0f} %",
                "different numbers": one["numbers"],
                "seldom met": one["passing"],
                "of a made-up table": f"{one['expected']:.1f}",
                "made-up tables with as many": chance.in_words(one["as_many"], decoys)
                if one["passing"]
                else "",
            }
            for kind, label in KINDS.items()
            for reach, one in zip(report["space"]["ranges"], report["singles"][kind])
        ]
    )


def facts(report: dict) -> dict:
    """Numbers for prose: how many reported numbers coincide on their own, in a set, or not at
    all.
    """
    rows, sets, space = report["rows"], coincident_sets(report), report["space"]
    shown, middle = report["joint"]["shown"], space["ranges"].index(space["decoy_range"])
    prints = {"params": 0, "flops": 0}
    for row in rows:
        own = row["released"]
        prints["params"] += how_printed(own["params"], row["printed"]["params"], "M") == "rounded"
        prints["flops"] += any(
            how_printed(count, row["printed"]["flops"], "G") == "rounded"
            for count in own["conventions"].values()
        )
    alone = {
        f"{kind}_{name}": report["singles"][kind][middle][name]
        for kind in KINDS
        for name in ("numbers", "passing", "expected")
    }
    return alone | {
        "rows": len(rows),
        "candidates": space["candidates"],
        "decoys": space["decoys"],
        "conventions": len(space["conventions"]),
        "easy": 100 * report["easy"],
        "range": 100 * space["decoy_range"],
        "ranges": " and ".join(
            f"{100 * reach:.0f}" for reach in space["ranges"] if reach != space["decoy_range"]
        ),
        "floor": 100 * chance.share(0, space["decoys"]),
        **_one_network(rows),
        "own_params": prints["params"],
        "own_flops": prints["flops"],
        "shown": len(shown),
        "surviving": sum(one["as_easily"] <= report["easy"] for one in shown),
        "surviving_all": sum(max(one["by_range"]) <= report["easy"] for one in shown),
        "most_easily": 100 * max(one["as_easily"] for one in shown) if shown else 0.0,
        "joint_changes": space["joint_within_changes"],
        "charged": chance.in_words(
            max((one["as_easily_with_more_changes"] for one in sets), default=1.0),
            space["decoys"],
        ),
        "sets": len(sets),
        "in_sets": len({row for one in sets for row in one["rows"]}),
        "set_flops": sum(flops["how"] != "not at all" for one in sets for flops in one["flops"]),
        "unexplained_params": sum(one["metric"] == "params" for one in report["unexplained"]),
        "unexplained_flops": sum(one["metric"] == "flops" for one in report["unexplained"]),
        "classifiers": len(report["classifier"]),
        "classifiers_off": sum(not one["agrees"] for one in report["classifier"]),
    }


def _one_network(rows: list[dict]) -> dict[str, str]:
    """The two counts of astroformer_4 that are one network with few and with many classes."""
    printed = {
        row["dataset"]: row["printed"]["params"] for row in rows if row["model"] == "astroformer_4"
    }
    return {"four_few": printed["CIFAR-10"], "four_many": printed["CIFAR-100"]}


def in_words(report: dict) -> str:
    """The report for a terminal: single numbers, joint matches, the classifiers, the other
    systems, what is left.
    """
    space = report["space"]
    left = [
        f"  {one['model']}, {one['dataset']}: {KINDS[one['metric']]} {one['printed']}"
        for one in report["unexplained"]
    ]
    together = [
        f"  {', '.join(one['changes'])} "
        f"({chance.in_words(one['as_easily'], space['decoys'])} of made-up tables do as well)\n    "
        + "\n    ".join(one["rows"])
        for one in report["joint"]["shown"]
    ]
    parts = [
        f"{space['candidates']:,} configurations, {len(space['conventions'])} conventions "
        f"(search space {space['sha256'][:12]}), "
        f"{space['decoys']} made-up tables",
        match_table(report).to_string(index=False, max_colwidth=60),
        "Numbers that few made-up tables meet as easily, and how many a made-up table has",
        luck_table(report).to_string(index=False),
        "Sets of changes that print several parameter counts at once: "
        f"{report['joint']['sets']}, the first of them",
        "\n".join(together),
        "Width before the classifier that the difference of CIFAR-100 and CIFAR-10 implies",
        classifier_table(report).to_string(index=False),
        "The other two systems",
        other_table(report).to_string(index=False, max_colwidth=60),
        f"Reported numbers that no shared set of changes explains: {len(left)}",
        "\n".join(left),
    ]
    return "\n\n".join(parts)


def plane(
    space: Space | None = None, *, per_block: int = 8000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A sample of all candidates, uniform within each choice of widths and image size:
    parameters and multiply-adds.
    """
    space, draw = space or Space(), np.random.default_rng(seed)
    points = []
    for block in space.blocks():
        stages = block.body.reshape(len(block.body), -1)
        around = np.stack([block.around(outer) for outer in space.outer], 1)
        pick = draw.integers(stages.shape[1], size=per_block)
        features = stages[:, pick] + around[:, draw.integers(around.shape[1], size=per_block)]
        points.append((features[0], operations(features)["macs"]))
    params, macs = (np.concatenate(part) for part in zip(*points))
    return params, macs

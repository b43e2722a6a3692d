"""What the records of speed say: the ways to execute a step beside one another, the floor, growth,
epochs with data, memory. Each table is empty where nothing is kept that it needs.

Reads top to bottom: parts of the records, beside_timm, limits, growth, epochs,
preparing, memory.
"""

from collections.abc import Iterator

import pandas as pd

from astroformer.speed import memory_lines

HALF = {"float16": "half", "bfloat16": "half"}  # both half precisions are as fast
RELEASED = "as released"
COMMANDS = {
    "step": "astroformer bench --device cuda --keep NAME",
    "epoch": "astroformer bench --device cuda --keep NAME",
    "pixels": "astroformer bench --models astroformer_0 --sizes 64 128 224 --keep NAME",
    "batch": "astroformer bench --models astroformer_0 --batch-size 64 --keep NAME",
    "processes": "astroformer bench --device cuda --keep NAME",
    "claims": "astroformer bench --device cuda --models astroformer_5 --sizes 224 --keep NAME",
}
GROWTH = {"pixels": "image_size", "batch": "batch_size", "processes": "processes"}
UNITS = {"image_size": "px", "batch_size": "images", "threads": "thread each"}


def of(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """The measured rows of a kind; without rows, a table without columns."""
    if not len(frame):
        return pd.DataFrame()
    rows = frame[frame["what"] == what]
    if "status" in rows:
        rows = rows[rows["status"].isna() | (rows["status"] == "measured")]
    return rows.reset_index(drop=True)


def on_a_gpu(device: str) -> bool:
    """`records.device_name` tells the threads of a CPU."""
    return "threads" not in device


def network(model: str, image_size: float, batch_size: float | None = None) -> str:
    images = "" if batch_size is None else f", {batch_size:.0f} images"
    return f"{model}, {image_size:.0f} px{images}"


def whose(contestant: str) -> str:
    return contestant.partition(", ")[0]


def how(contestant: str) -> str:
    return contestant.partition(", ")[2]


def fastest(rows: pd.DataFrame) -> pd.Series | None:
    return rows.iloc[rows["times_as_fast"].astype(float).argmax()] if len(rows) else None


GROUP = ["device", "model", "image_size", "batch_size"]


def beside_timm(frame: pd.DataFrame) -> list[dict]:
    """For each device, network, size and batch: `released`, timm's fastest (`timm`), our fastest in
    the precisions of those two (`ours`), each a row of the records or None; `ratio` of ours over
    timm's fastest, and whether their middle halves of rounds overlap (`tie`).

    Half precision against float32 would compare two different computations; the two half
    precisions count as one.
    """
    steps, found = of(frame, "step"), []
    if not len(steps):
        return found
    steps = steps.assign(kind=steps["precision"].replace(HALF))
    for (device, model, size, batch), rows in steps.groupby(GROUP, sort=False):
        released = rows[rows["contestant"].map(how) == RELEASED]
        if not len(released):
            continue
        released = released.iloc[(released["times_as_fast"] - 1).abs().argmin()]
        same = rows[rows["kind"] == released["kind"]]
        timm = fastest(same[same["contestant"].map(whose) == "timm"])
        ours = fastest(same[same["contestant"].map(whose) == "ours"])
        one = {"device": device, "model": model, "image_size": size, "batch_size": batch}
        one |= {"released": released, "timm": timm, "ours": ours, "rows": rows}
        if timm is not None and ours is not None:
            one["ratio"] = float(ours["times_as_fast"] / timm["times_as_fast"])
            one["tie"] = bool(
                ours["times_low"] <= timm["times_high"] and timm["times_low"] <= ours["times_high"]
            )
        found.append(one)
    return found


def limits(frame: pd.DataFrame) -> pd.DataFrame:
    """Our fastest step (timm's where we have no network of that name) of each group, with what it
    takes at least: columns of the record, `over_floor`, measured over floor.
    """
    rows = [one["timm"] if one["ours"] is None else one["ours"] for one in beside_timm(frame)]
    table = pd.DataFrame([row for row in rows if row is not None]).reset_index(drop=True)
    if "floor" not in table:
        return pd.DataFrame()
    table = table[table["floor"].notna()].reset_index(drop=True)
    return table.assign(over_floor=table["seconds"] / table["floor"])


def growth(frame: pd.DataFrame, along: str) -> pd.DataFrame:
    """Images a second of our fastest step along "pixels" or "batch", or of trainings side by side
    along the number of "processes": only lines of two values or more. Columns device, model, x,
    images_per_second, label.
    """
    if along == "processes":
        rows, fixed = of(frame, "processes"), [*GROUP, "threads"]
    else:
        found = [one["timm"] if one["ours"] is None else one["ours"] for one in beside_timm(frame)]
        rows = pd.DataFrame([row for row in found if row is not None])
        fixed = ["device", "model", "batch_size" if along == "pixels" else "image_size"]
    if not len(rows):
        return pd.DataFrame()
    rows = rows.assign(x=rows[GROWTH[along]].astype(float))
    rows = rows[rows.groupby(fixed)["x"].transform("nunique") > 1]
    labels = [
        ", ".join(
            [row["model"], *(f"{row[one]:.0f} {UNITS[one]}" for one in fixed if one in UNITS)]
        )
        for row in rows.to_dict("records")
    ]
    columns = ["device", "model", "x", "images_per_second", "label"]
    return rows.assign(label=labels)[columns].sort_values(["label", "x"]).reset_index(drop=True)


def side_by_side(frame: pd.DataFrame) -> list[tuple[dict, dict]]:
    """On each device the arrangement of processes that the others are divided by, and the fastest
    of those with several.
    """
    rows = of(frame, "processes")
    if not len(rows):
        return []
    found = []
    for _, part in rows.groupby(GROUP, sort=False):
        several = fastest(part[part["processes"] > 1])
        first = part.iloc[(part["times_as_fast"].astype(float) - 1).abs().argmin()]
        if several is not None:
            found.append((first.to_dict(), several.to_dict()))
    return found


def epochs(frame: pd.DataFrame) -> pd.DataFrame:
    """Epochs with data over the same steps without, a row for each place of augmentation."""
    rows = of(frame, "epoch")
    if not len(rows):
        return pd.DataFrame()
    places = rows["contestant"].str.extract(r"augmentation on the (\w+)")[0]
    return rows.assign(augmentation=places)


def preparing(frame: pd.DataFrame) -> pd.DataFrame:
    """Seconds from nothing to the end of the second step, of compiled contestants and CUDA graphs;
    with those that failed, which say why in `note`.
    """
    if "prepared" not in frame:
        return pd.DataFrame()
    known = frame[frame["prepared"].notna() | (frame["status"] == "failed")]
    return known[known["contestant"].str.contains("compiled|graph")].reset_index(drop=True)


def memory(frame: pd.DataFrame) -> pd.DataFrame:
    """Bytes predicted and measured: device, model, image_size, batch_size, how, predicted,
    measured, ratio. On a CPU what PyTorch's allocator held; on a GPU the peak of a step, for
    executions of PyTorch's operations one by one, whose memory alone is predicted.
    """
    rows = of(frame, "training memory")
    found = []
    if len(rows):
        rows = rows[rows["measured_bytes"].notna()]
        found = [
            {name: row[name] for name in (*GROUP, "contestant")}
            | {"predicted": row["predicted_bytes"], "measured": row["measured_bytes"]}
            for row in rows.to_dict("records")
        ]
    found += list(_on_gpus(frame))
    table = pd.DataFrame(found)
    return table.assign(ratio=table["measured"] / table["predicted"]) if len(table) else table


def _on_gpus(frame: pd.DataFrame) -> Iterator[dict]:
    known = of(frame, memory_lines.WHAT)
    if not len(known) or "peak_memory" not in frame:
        return
    plain = {row["model"]: row for row in known.to_dict("records") if row["contestant"] == "plain"}
    for what in ("step", "training"):
        for row in of(frame, what).to_dict("records"):
            half, execution = row["precision"] in HALF, row.get("execution") or {}
            if not (half and row["peak_memory"] and row["peak_memory"] == row["peak_memory"]):
                continue
            if execution.get("compile") or row["model"] not in plain:
                continue
            told = memory_lines.at(plain[row["model"]], row["batch_size"], row["image_size"])
            yield {name: row[name] for name in (*GROUP, "contestant")} | {
                "predicted": told,
                "measured": row["peak_memory"],
            }


def by_card(frame: pd.DataFrame) -> pd.DataFrame:
    """The largest micro-batch of each network at its own size on each card, plain and with
    checkpointing: model, image_size, card (GB), plain, checkpointing (NaN where the network has no
    blocks to compute again).
    """
    rows = of(frame, memory_lines.WHAT)
    if not len(rows):
        return pd.DataFrame()
    flat = [
        {name: row[name] for name in ("model", "image_size", "contestant")}
        | {"card": card, "images": images}
        for row in rows.to_dict("records")
        for card, images in row["cards"]
    ]
    table = pd.DataFrame(flat).pivot_table(
        index=["model", "image_size", "card"], columns="contestant", values="images", sort=False
    )
    table = table.reindex(columns=["plain", "gradient checkpointing"])
    return table.rename(columns={"gradient checkpointing": "checkpointing"}).reset_index()

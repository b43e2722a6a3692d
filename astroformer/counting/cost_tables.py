"""What a network costs (`cost.network_cost`) as tables for a reader: by stage, by kind of layer, by
convention, and all of them as text. They need no network, and no torch.
"""

import pandas as pd

from astroformer.counting.conventions import CONVENTIONS


def stage_table(cost: dict) -> pd.DataFrame:
    """`network_cost` as a table: one row a stage, and their sum."""
    floor, stages = (
        cost["time_floor"],
        list(dict.fromkeys([*cost["macs_by_stage"], *cost["params_by_stage"]])),
    )
    rows = {
        stage: {
            "params": cost["params_by_stage"].get(stage, 0),
            "macs": cost["macs_by_stage"].get(stage, 0),
            "kept": cost["activation_bytes"].get(stage, 0),
            "moved": cost["bytes_moved"].get(stage, 0),
            "seconds": floor["by_stage"].get(stage, 0.0) if floor else 0.0,
        }
        for stage in stages
    }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.loc["all"] = frame.sum()
    table = pd.DataFrame(
        {
            "parameters (M)": (frame["params"] / 1e6).round(3),
            "multiply-adds (G)": (frame["macs"] / 1e9).round(4),
            "kept (MB)": (frame["kept"] / 1e6).round(2),
            "moved (MB)": (frame["moved"] / 1e6).round(2),
            "operations/byte": (2 * frame["macs"] / frame["moved"]).round(1),
        }
    )
    return table.assign(**{"floor (µs)": (1e6 * frame["seconds"]).round(1)}) if floor else table


def kind_table(cost: dict) -> pd.DataFrame:
    """Parameters and multiply-adds by kind of layer, the costliest first; kinds that have
    neither are left out.
    """
    kinds = dict.fromkeys([*cost["macs_by_kind"], *cost["params_by_kind"]])
    return pd.DataFrame(
        {
            "parameters (M)": [
                round(cost["params_by_kind"].get(kind, 0) / 1e6, 3) for kind in kinds
            ],
            "multiply-adds (G)": [
                round(cost["macs_by_kind"].get(kind, 0) / 1e9, 4) for kind in kinds
            ],
        },
        index=list(kinds),
    )


def convention_table(cost: dict) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "G": [round(value, 3) for value in cost["conventions"].values()],
            "what is counted": [CONVENTIONS[name].description for name in cost["conventions"]],
        },
        index=list(cost["conventions"]),
    )


def described(cost: dict) -> str:
    """`network_cost` for a reader at a terminal: a few short tables."""
    of = f", stack {cost['stack']}" if cost["stack"] else ""
    lines = [
        f"{cost['model']}{of}, one image of {cost['image_size']} pixels, {cost['classes']} "
        "classes: "
        f"{cost['params']:,} parameters, {cost['macs']:,} multiply-adds",
        f"By stage, {cost['dtype_bytes']} bytes a number; moved: every operation reads its "
        "input and weights, writes its "
        "output",
        stage_table(cost).to_string(),
        "By kind of layer",
        kind_table(cost).to_string(),
        "By convention (G)",
        "\n".join(
            f"{name:24}{value:10.3f}  {CONVENTIONS[name].description}"
            for name, value in cost["conventions"].items()
        ),
    ]
    if floor := cost["time_floor"]:
        lines.append(
            f"At {floor['peak_tflops']:g} Tera-operations and {floor['bandwidth_gb']:g} "
            "GB a second, "
            f"one image takes at least {1e6 * floor['seconds']:.1f} µs; its arithmetic "
            f"alone {1e6 * floor['arithmetic_seconds']:.1f}, "
            f"its traffic alone {1e6 * floor['traffic_seconds']:.1f}"
        )
    return "\n\n".join(lines)

"""What the papers report: `book/claims.csv`, one row a number, with its value as printed and its citation."""

from pathlib import Path

import pandas as pd

from astroformer import paths

COLUMNS = ("system", "model", "dataset", "metric", "value", "unit", "source", "table", "conditions")
METRICS = ("top1", "top5", "params", "flops", "seconds", "margin")


def read(path: Path | None = None) -> pd.DataFrame:
    """Every claim; `value` is text, as printed, since its digits say how exactly it was given. `number` is its value."""
    path = path or paths.CLAIMS
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; the claims are part of the checkout, run from there")
    claims = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(claims.columns) != COLUMNS:
        raise ValueError(f"{path} has the columns {', '.join(claims.columns)}; expected {', '.join(COLUMNS)}")
    strange = claims[~claims["metric"].isin(METRICS)]
    if len(strange):
        line, metric = strange.index[0] + 2, strange.iloc[0]["metric"]
        raise ValueError(f"{path}, line {line}: metric {metric!r} is not one of {', '.join(METRICS)}")
    return claims.assign(number=claims["value"].astype(float))

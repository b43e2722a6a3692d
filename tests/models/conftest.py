"""Shared by the networks' tests: what the released code calls its weights."""

import json
import os
from pathlib import Path

import pytest

SHARED = Path(
    os.environ.get("ASTROFORMER_SHARED", Path(__file__).resolve().parents[2].parent / "shared")
)
STATE_DICTS = SHARED / "reference" / "state_dict_keys.json"


@pytest.fixture(scope="session")
def released_state_dicts() -> dict[str, list]:
    """ "name@pixels/classes" -> [name, shape] of each entry of the released network's state dict,
    in its order.
    """
    if not STATE_DICTS.is_file():
        pytest.skip(
            f"no shared/reference/{STATE_DICTS.name} beside the checkout; "
            "ASTROFORMER_SHARED names another place"
        )
    return json.loads(STATE_DICTS.read_text())

"""A folder as the Hugging Face hub has it and timm loads it, from the disk (`local-dir:`) or from
the hub (`hf-hub:`): config.json, model.safetensors, and README.md, the model card.
"""

import json
from pathlib import Path

import timm

from astroformer.exporting import card
from astroformer.exporting.subject import CODE_LICENCE, Subject
from astroformer.exporting.weights import difference, save
from astroformer.models import build

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
# Of what timm says of a network, what stays true of it with other weights.
KEPT = ("pool_size", "first_conv", "classifier")


def write(subject: Subject, place: Path) -> float:
    """Writes the folder and lets timm load it; see `export.Kind`."""
    place.mkdir()
    (place / CONFIG).write_text(json.dumps(config(subject), indent=2) + "\n")
    save(subject, place / WEIGHTS, {})
    write_card(subject, place, f"local-dir:{place.name}")
    return difference(subject, timm.create_model(f"local-dir:{place}", pretrained=True))


def config(subject: Subject) -> dict[str, object]:
    """What timm must know to make the network and to prepare images for it, and the names of the
    classes in the order of the logits.
    """
    taken = {name: value for name, value in subject.arguments.items() if name != "num_classes"}
    usual = dict(getattr(subject.model, "pretrained_cfg", None) or {})
    if tuple(usual.get("input_size", ())[1:]) != subject.input_size[1:]:
        usual.pop("pool_size", None)  # that of another size
    found = build.described(subject.name)
    return {
        "architecture": subject.architecture,
        "num_classes": len(subject.classes),
        "num_features": getattr(subject.model, "num_features", None),
        "label_names": list(subject.classes),
        "model_args": taken,
        "pretrained_cfg": {
            "tag": subject.told["run"],
            "custom_load": False,
            "input_size": list(subject.input_size),
            "fixed_input_size": bool(found is not None and found.fixed_input_size),
            "crop_pct": subject.crop["crop_pct"],
            "crop_mode": "center",
            "interpolation": subject.crop["interpolation"],
            "mean": subject.told["mean"],
            "std": subject.told["std"],
            "num_classes": len(subject.classes),
            "license": CODE_LICENCE.lower(),
            **{name: usual[name] for name in KEPT if usual.get(name) is not None},
        },
        # for readers; timm passes over it
        "astroformer": subject.metadata(),
    }


def is_export(folder: Path) -> bool:
    """Whether a folder is one that `write` has made."""
    try:
        return "astroformer" in json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def write_card(subject: Subject, folder: Path, where: str) -> None:
    """Writes the model card; `where` timm is told to find the folder: "local-dir:FOLDER", as it is
    from the folder above, or "hf-hub:OWNER/NAME".
    """
    said = card.text(subject, lines_of(subject, where))
    (folder / CARD).write_text(said, encoding="utf-8")


def lines(subject: Subject, place: Path) -> list[str]:
    """See `export.Kind`."""
    return lines_of(subject, f"local-dir:{place}")


def lines_of(subject: Subject, where: str) -> list[str]:
    """The lines that load it from where timm is told to find it."""
    return [
        f"import {'astroformer, ' * subject.is_ours}timm",
        f"model = timm.create_model({where!r}, pretrained=True).eval()",
        "prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
    ]

"""The model card of an exported network: what it is, on what it was trained and measured, what it
is not for, how it is loaded. Every number is the ledger's; what nobody recorded is said so.
"""

import json

from astroformer import contrasts
from astroformer.data import DATASETS
from astroformer.exporting.subject import CODE_LICENCE, Subject

SHOWN = 20  # classes that are listed
# Papers of the networks, by the beginning of their names.
PAPERS = {
    "astroformer": "Dagli 2023, Astroformer: More Data Might not be all you need for "
    "Classification, arXiv:2304.05350",
    "spectformer": "Patro, Namboodiri and Agneeswaran 2023, SpectFormer: Frequency and Attention "
    "is what you need in a Vision Transformer, arXiv:2304.06446",
    "vit_cifar": "Yoshioka 2022, omihub777/ViT-CIFAR, github.com",
}
LIBRARY = 'the library: "Astroformer, re-examined", Apache-2.0'
TIMM = "timm: Wightman 2019, PyTorch Image Models, github.com/huggingface/pytorch-image-models"


def text(subject: Subject, lines: list[str]) -> str:
    """In Markdown, after the header that the hub reads.

    lines: of Python, that load the network
    """
    parts = [
        _header(subject),
        f"# {subject.name}, trained on {subject.told['dataset']}",
        _what(subject),
        "## Load it\n\n" + "\n".join(["```python", *lines, "```"]),
        _needed(subject) + _input(subject),
        "## Data\n\n" + _data(subject),
        "## Metrics\n\n" + _metrics(subject),
        "## How it was trained\n\n" + _trained(subject),
        "## Limits\n\n" + "\n".join(f"- {one}" for one in _limits(subject)),
        "## Licence\n\n" + _licence(subject),
        "## Cite\n\n" + "\n".join(f"- {one}" for one in _cited(subject)),
    ]
    return "\n\n".join(parts) + "\n"


def _header(subject: Subject) -> str:
    free = subject.data_licence == CODE_LICENCE
    licence = [f"license: {CODE_LICENCE.lower()}"]
    if not free:
        licence = ["license: other", "license_name: code-apache-2.0-weights-as-the-images"]
    return "\n".join(
        [
            "---",
            "library_name: timm",
            "pipeline_tag: image-classification",
            "tags:",
            *(f"- {tag}" for tag in ("image-classification", "timm", "astroformer")),
            *licence,
            "---",
        ]
    )


def _what(subject: Subject) -> str:
    options = ", ".join(
        f"{name}={value}"
        for name, value in subject.arguments.items()
        if name not in ("num_classes", "img_size", "in_chans") and value
    )
    params = sum(one.numel() for one in subject.model.parameters())
    names = [_code(one) for one in subject.classes[:SHOWN]]
    more = len(subject.classes) - SHOWN
    return (
        f"A network for images, `{subject.architecture}`"
        + (f" ({options})" if options else "")
        + f", of {params / 1e6:.2f} million parameters, that tells apart {len(subject.classes)} "
        + f"classes: {', '.join(names)}"
        + (f" and {more} more, in `config.json` under `label_names`" if more > 0 else "")
        + f". Run `{subject.told['run']}`, "
        + ("the average of the weights over its steps." if subject.told["averaged"] else "")
        + ("" if subject.told["averaged"] else "the weights of its last step.")
        + (
            ""
            if subject.finished
            else f" **The run had not ended**: step {subject.told['step']} of "
            f"{subject.told['steps']}."
        )
    )


def _code(text: str) -> str:
    """As Markdown shows a text letter by letter, one with backticks too."""
    text = " ".join(text.split())
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _needed(subject: Subject) -> str:
    if not subject.is_ours:
        return "timm alone is needed for it. "
    return "timm is needed for it, and the package `astroformer`, whose import adds the network. "


def _input(subject: Subject) -> str:
    channels, height, width = subject.input_size
    crop = subject.crop
    said = (
        f"It takes images of {height} x {width} pixels and {channels} channels, in numbers from 0 "
        f"to 1 less the mean {_numbers(subject.told['mean'])} over the deviation "
        f"{_numbers(subject.told['std'])} of each channel, and gives a logit for each class. Other "
        f"sizes are scaled ({crop['interpolation']}) so that the middle square is "
        f"{100 * crop['crop_pct']:g} % of the shorter side; timm's transform does all of it."
    )
    reading = subject.told.get("reading")
    if reading:
        bands = ", ".join(map(str, reading.get("bands") or ())) or "all that a file has"
        how = json.dumps(reading.get("stretch"))
        said += (
            f" Its files hold values, of the bands {bands}: they are brought to 8 bits by the "
            f"stretch `{how}`, as `astroformer predict` does it."
        )
    return said


def _numbers(values: list[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _data(subject: Subject) -> str:
    record = subject.record
    if record is None:
        return (
            f"{subject.told['dataset']}. How many images there were is not known here: the ledger "
            "of the machine that exported it has no record of the run."
        )
    of = record["dataset"]
    row = DATASETS.get(of["source"])
    lines = [
        f"- {of['title']}, {of['kind']}: {of['train']:,} images to train on, {of['test']:,} to "
        f"measure on ({of['evaluated_on']})",
        f"- {of['note']}" if of.get("note") else "",
        f"- licence of the images: {subject.data_licence}",
        f"- from: {row.source}" if row and of["source"] not in ("folder", "galaxies") else "",
        f"- SHA-256 of images and labels: `{of['sha256']}`",
    ]
    return "\n".join(line for line in lines if line)


def _metrics(subject: Subject) -> str:
    record = subject.record
    if record is None:
        return (
            "Not known here: the ledger of the machine that exported it has no record of the run."
        )
    if not subject.judged:
        return (
            "Not known of these weights: the ledger's record is about "
            + ("the end of the run" if not subject.finished else record["selection"])
            + "."
        )
    found, number = record["metrics"], record["dataset"]["test"]
    rows = [
        "| metric | value | 95 % interval |",
        "| --- | --- | --- |",
        *(
            f"| {title} (%) | {found[name]:.2f} | {_interval(found[name], number)} |"
            for name, title in (("top1", "accuracy"), ("top5", "among the five likeliest"))
            if found.get(name) is not None and not (name == "top5" and len(subject.classes) <= 5)
        ),
        *(
            f"| {title} | {found[name]:.{digits}f} | |"
            for name, title, digits in (
                ("balanced_accuracy", "mean over the classes of the part recognised (%)", 2),
                ("nll", "cross-entropy (nats)", 4),
                ("ece", "expected calibration error (%)", 2),
            )
            if found.get(name) is not None
        ),
    ]
    return "\n".join(rows) + (
        f"\n\nOf one run, on n = {number:,} {record['dataset']['evaluated_on']} images. The "
        "intervals are Wilson's, for the share of these images: how much another seed would change "
        "is not in them."
    )


def _interval(percent: float, number: int) -> str:
    low, high = contrasts.wilson(min(number, percent / 100 * number), number)
    return f"{100 * low:.2f} to {100 * high:.2f}"


def _trained(subject: Subject) -> str:
    record = subject.record
    if record is None:
        return (
            f"By recipe `{subject.told['recipe']}`. The command is not known here: the ledger has "
            "no record of the run."
        )
    began = record.get("init")
    return (
        f"`{record['command']}`\n\n"
        f"Recipe `{record['recipe']['name']}` ({record['recipe']['source']}), "
        f"{record['epochs']} epochs, {record['precision']}, {record['seconds'] / 60:.1f} minutes "
        f"on {record['device']}"
        + (f"; it began with the weights {began['file']}" if began else "")
        + "."
    )


def _limits(subject: Subject) -> list[str]:
    record = subject.record
    kind = record["dataset"]["kind"] if record else ""
    found = [
        f"It knows {len(subject.classes)} classes and nothing else: an image of any other kind is "
        "given one of them, too, often with a high probability.",
        "It was measured on images from where its training images are from. Another instrument, "
        "depth, resolution, stretch, selection or redshift makes other images, of which nothing "
        "here speaks.",
        "Softmax of its logits is not calibrated; hold out images, and fit a temperature.",
    ]
    if kind == "synthetic":
        found.insert(1, "Its images are synthetic: no number here is about real ones.")
    if record and "not tuned" in record["recipe"]["source"]:
        found.append("Its recipe was not tuned to these images.")
    return found


def _licence(subject: Subject) -> str:
    return (
        f"The code is {CODE_LICENCE}. The weights come of the images, whose licence is: "
        f"{subject.data_licence}."
    )


def _cited(subject: Subject) -> list[str]:
    row = DATASETS.get(subject.record["dataset"]["source"]) if subject.record else None
    paper = next((said for name, said in PAPERS.items() if subject.name.startswith(name)), TIMM)
    images = [f"the images: {row.citation}"] if row else []
    return [f"the network: {paper}", *images, LIBRARY]

"""One page about one run that stands alone: data, curves, confusion, calibration, mistakes, what
the network looks at, how it was made, what to cite. No other file is needed to read it.

Everything comes from the run's record and from what it said about each image
(`ledger.predictions`); images and the network itself are shown where they are at hand, and their
absence is said.
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from astroformer.contrasts import wilson
from astroformer.data import Images
from astroformer.data.table import DATASETS
from astroformer.figures import networks, results, runs, style
from astroformer.ledger import predictions as kept
from astroformer.ledger import tables
from astroformer.ledger.predictions import Predictions
from astroformer.models.astroformer import RelativeAttention

DPI = 110
MISTAKES = 12
LOOKED_AT = 2  # images of which the attention is drawn, of the surest and of the least sure
CITATION = (
    "Astroformer, re-examined: a reproducibility book and library (its CITATION.cff); "
    "Dagli 2023, Astroformer: More Data Might not be all you need for Classification, "
    "arXiv:2304.05350"
)


@dataclass
class Section:
    """A heading with a sentence, a table, pictures, or several of these."""

    title: str
    text: str = ""
    table: pd.DataFrame | None = None
    figures: list[tuple[str, Figure]] = field(default_factory=list)  # what it shows, the figure


def html(
    record: Mapping,
    said: Predictions,
    images: Images | None = None,
    network: tuple[nn.Module, Mapping] | None = None,
) -> str:
    """The page.

    record: of a completed run
    said: what it said about the images of the split on which it was measured
    images: of that split, as they were evaluated; None where they are not at hand
    network: in eval mode, with the description of `load_trained`; None without weights

    ValueError for images that are not those of the predictions.
    """
    if images is not None and not np.array_equal(images.labels, said.labels):
        raise ValueError(
            f"the predictions of run {record['run']} are about {len(said):,} images with other "
            f"labels than the {len(images):,} of {images.about.title}; name the run's own images "
            "with --data-dir"
        )
    style.use()
    return _TEMPLATE.render(
        title=f"{record['model']} on {record['dataset']['title']}",
        answer=_answer(record, said),
        sections=[
            {
                "title": one.title,
                "text": one.text,
                "table": None if one.table is None else _table(one.table),
                "figures": [(told, _picture(figure)) for told, figure in one.figures],
            }
            for one in _sections(record, said, images, network)
        ],
    )


def _answer(record: Mapping, said: Predictions) -> str:
    """The number, with its interval and what guessing would reach."""
    right, number = int(said.right.sum()), len(said)
    low, high = wilson(right, number)
    most = np.bincount(said.labels, minlength=len(said.classes)).max() / number
    return (
        f"{100 * right / number:.1f} % of {number:,} {said.evaluated_on} images are recognised "
        f"(95 % for other images: {100 * low:.1f} to {100 * high:.1f}); always naming the most "
        f"frequent class would reach {100 * most:.1f} %, and guessing {100 / len(said.classes):.1f}"
        " %. This is one run: another seed would differ, by how much one run cannot say."
    )


def _sections(
    record: Mapping,
    said: Predictions,
    images: Images | None,
    network: tuple[nn.Module, Mapping] | None,
) -> list[Section]:
    return [
        _data(record, said),
        Section("How it learned", "", None, [("Loss and accuracy by epoch.", runs.curves(record))])
        if record["history"]
        else Section("How it learned", "The record holds no history."),
        _classes(said),
        _calibration(record, said),
        _mistakes(said, images),
        _looked_at(said, images, network),
        _made(record),
        Section("How to cite", f"{CITATION}. {_cited(record)}"),
    ]


def _data(record: Mapping, said: Predictions) -> Section:
    told, row = record["dataset"], _row(record)
    counts = np.bincount(said.labels, minlength=len(said.classes))
    rows = {
        "data set": told["title"],
        "kind": told["kind"],
        "training images": f"{told['train']:,}",
        f"{said.evaluated_on} images": f"{len(said):,}",
        "classes": f"{len(said.classes):,}",
        "smallest and largest class": f"{counts.min():,} and {counts.max():,} images",
        "pixels": f"{record['image_size']}",
        "fingerprint (SHA-256)": told["sha256"],
        "licence": row.licence if row else "as its source states",
    }
    text = told.get("note") or ""
    return Section("Data", text, pd.DataFrame({"": rows.keys(), " ": rows.values()}))


def _row(record: Mapping):
    source = record["dataset"].get("source", "")
    return DATASETS.get(source) if source != "folder" else None


def _cited(record: Mapping) -> str:
    row = _row(record)
    return f"The data set: {row.citation}" if row else "And the source of the images."


def _classes(said: Predictions) -> Section:
    table = kept.per_class(said)
    matrix = kept.confusion(said)
    ends = [wilson(right, max(1, n)) for right, n in zip(np.diag(matrix), matrix.sum(1))]
    low, high = np.transpose(ends)
    table["95 %, other images"] = [
        f"{100 * one:.0f} to {100 * other:.0f}" if number else ""
        for one, other, number in zip(low, high, table["images"])
    ]
    figures = []
    if len(said.classes) <= 40:  # beyond that no letter can be read
        figures = [
            (
                "The true class in rows, the predicted one in columns.",
                results.confusion(matrix, said.classes),
            )
        ]
    return Section("Which classes it knows", "", table.round(1), figures)


def _calibration(record: Mapping, said: Predictions) -> Section:
    nll, ece = record["metrics"].get("nll"), kept.metrics(said)["ece"]
    text = f"The expected calibration error is {ece:.1f} points in {kept.BINS} bins"
    text += f", and the cross-entropy {nll:.3f} nats." if nll is not None else "."
    return Section(
        "Whether its probabilities can be believed",
        text,
        None,
        [("How often it is right, by how sure it is.", results.reliability([said]))],
    )


def _mistakes(said: Predictions, images: Images | None) -> Section:
    table = kept.mistakes(said, MISTAKES)
    title = "Its surest mistakes"
    if not len(table):
        return Section(title, "It made none.")
    if images is None:
        shown = table.assign(probability=(100 * table["probability"]).round(1))
        return Section(title, "The images are not at hand here.", shown)
    figure = results.plate(table, [images.pixels[i] for i in table["index"]])
    return Section(title, "", None, [("What it said, and how sure it was.", figure)])


def _looked_at(
    said: Predictions, images: Images | None, network: tuple[nn.Module, Mapping] | None
) -> Section:
    title = "What it looks at"
    if network is None or images is None:
        lacking = "weights" if network is None else "images"
        return Section(title, f"The {lacking} are not at hand here.")
    model, described = network
    if not any(isinstance(module, RelativeAttention) for module in model.modules()):
        return Section(title, "The network has no stage of relative attention to show.")
    order = np.argsort(-said.confidence, kind="stable")
    figures = []
    for what, chosen in (("Surest", order[:LOOKED_AT]), ("Least sure", order[::-1][:LOOKED_AT])):
        for index in map(int, chosen):
            true, named = (said.classes[k] for k in (said.labels[index], said.predicted[index]))
            right = "right" if true == named else f"it is {true}"
            sure = 100 * said.confidence[index]
            figures.append(
                (
                    f"{what}: {named} with {sure:.0f} % ({right}).",
                    networks.attention_over_image(
                        model, images.pixels[index], mean=described["mean"], std=described["std"]
                    ),
                )
            )
    text = (
        "How much each position receives from all others in the attention of each block, on "
        "average over heads: 1 is even. It shows where the network mixes its features, and is no "
        "proof of what it decides by."
    )
    return Section(title, text, None, figures)


def _made(record: Mapping) -> Section:
    table = tables.readable(dict(record)).rename_axis("field").reset_index()
    return Section("How it was made", f"The line that repeats it: {record['command']}", table)


def _table(frame: pd.DataFrame) -> str:
    """Cells are escaped: names of classes and files come from anybody."""
    return frame.to_html(index=False, border=0, escape=True, na_rep="")


def _picture(figure: Figure) -> str:
    """A PNG as an address that holds it."""
    import matplotlib.pyplot as plt

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, bbox_inches="tight")
    plt.close(figure)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


_TEMPLATE = jinja2.Environment(autoescape=True).from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.2rem; }
.answer { font-size: 1.15rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.7rem; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
tr + tr { border-top: 1px solid #8884; }
figure { margin: 1rem 0; } figcaption { font-size: 0.95rem; }
img { max-width: 100%; height: auto; background: white; }
p { overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p class="answer">{{ answer }}</p>
{% for section in sections %}
<h2>{{ section.title }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% for told, picture in section.figures %}
<figure><img src="{{ picture }}" alt="{{ told }}"><figcaption>{{ told }}</figcaption></figure>
{% endfor %}
{% if section.table %}<div class="wide">{{ section.table | safe }}</div>{% endif %}
{% endfor %}
</body>
</html>
""")

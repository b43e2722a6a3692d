"""The verb `report`: one page about one run, which stands alone."""

import argparse
import shlex
import sys
from pathlib import Path

from astroformer.cli.common import add_data_arguments, add_verb, device_of, images_asked_for


def _report(verbs) -> None:
    verb = add_verb(
        verbs,
        "report",
        report,
        "one self-contained HTML page about a run: data, curves, confusion, calibration, mistakes, "
        "what it looks at, how to repeat and cite it",
    )
    verb.add_argument("run", help="of the ledger, such as 9c47b7f77d34, or its runs/RUN/last.pt")
    verb.add_argument("--out", default="report.html", help="the file to write")
    verb.add_argument("--data-dir", help="where its images lie; default: as its command says")
    verb.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")


def report(options) -> None:
    from astroformer.figures import report as page
    from astroformer.ledger import predictions, records
    from astroformer.training import load_trained
    from astroformer.training.run_folder import folder_of

    out = Path(options.out).expanduser()
    if not out.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.parent} for --out; make it, or name one")
    path = Path(options.run).expanduser()
    network = load_trained(path) if path.is_file() else None
    run = network[1]["run"] if network else options.run
    record = records.completed(run)
    if record is None:
        raise ValueError(
            f"the ledger holds no completed record of run {run!r}; `astroformer ledger` lists the "
            "runs"
        )
    weights = folder_of(run) / "last.pt"
    if network is None and weights.is_file():
        network = load_trained(weights)
    images, why = _images(record, network and network[1], options.data_dir)
    said = predictions.read(run)
    if said is None:
        if network is None or images is None:
            lacking = "its weights are not here" if network is None else why
            raise FileNotFoundError(
                f"nothing is kept of what run {run} said about each image, and {lacking}; "
                "`astroformer train` with the command of its record makes it again"
            )
        said = _said(run, network, images, device_of(options.device))
    text = page.html(record, said, images, network)
    part = out.with_name(f".{out.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(out)
    print(f"{out}: {len(text) / 1e6:.1f} MB")
    if images is None:
        print(f"without pictures of its images: {why}", file=sys.stderr)


def _images(record, described, data_dir):
    """The images on which a run was measured, by the command of its record, and why they cannot be
    had.
    """
    from astroformer import data

    parser = argparse.ArgumentParser(exit_on_error=False)
    add_data_arguments(parser)
    for name in ("--validation", "--fraction"):
        parser.add_argument(name, type=float)
    told, _ = parser.parse_known_args(shlex.split(record["command"])[2:])
    asked = images_asked_for(told) | {"image_size": record["image_size"]}
    if data_dir:
        asked["data_dir"] = data_dir
    split = record["dataset"]["evaluated_on"]
    held_out = {"validation": told.validation} if told.validation else {}
    crop = described["crop"] if described else {}
    try:
        images = data.load(told.dataset, split, purpose="evaluate", **asked, **held_out, **crop)
    except (FileNotFoundError, ValueError) as error:
        return None, f"{error}"
    if images.about.sha256 != record["dataset"]["sha256"]:
        return None, f"the images of {images.about.title} here are others than the run's"
    return images, ""


def _said(run, network, images, device):
    from astroformer.ledger import predictions
    from astroformer.training import predict

    model, described = network
    logits = predict(
        model.to(device), images, mean=described["mean"], std=described["std"], device=device
    )
    model.cpu()
    return predictions.of_logits(
        run, logits, images.labels, images.classes, evaluated_on=images.split
    )


VERBS = (_report,)

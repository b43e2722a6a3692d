"""The verb `report`: one page about one run, which stands alone."""

import sys
from pathlib import Path

from astroformer.cli.common import add_verb, device_of


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
    from astroformer.inference import members
    from astroformer.ledger import predictions, records
    from astroformer.training import load_trained
    from astroformer.training.run_folder import folder_of

    out = Path(options.out).expanduser()
    if not out.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.parent} for --out; make it, or name one")
    path = Path(options.run).expanduser()
    path = path if path.is_file() else folder_of(options.run) / "last.pt"
    member = members.member(path) if path.is_file() else None
    run = member.run if member else options.run
    record = records.completed(run)
    if record is None:
        raise ValueError(
            f"the ledger holds no completed record of run {run!r}; `astroformer ledger` lists the "
            "runs"
        )
    images, why = None, "its weights are not here"
    if member:
        try:
            split = record["dataset"]["evaluated_on"]
            images = members.images_of(member, split, options.data_dir)
        except members.NotAtHand as error:
            why = f"{error}"
    network = load_trained(path) if member else None
    said = predictions.read(run)
    if said is None:
        if network is None or images is None:
            raise FileNotFoundError(
                f"nothing is kept of what run {run} said about each image, and {why}; "
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

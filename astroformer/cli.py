"""The command `astroformer`: parse, call, print. Every verb has --help; one that prints a table has --json.

Bad input ends with one line on stderr and status 2; ASTROFORMER_TRACEBACK=1 shows where it was raised.
"""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence

warnings.filterwarnings("ignore", category=FutureWarning)  # torch and fvcore announce TorchScript's end at every import


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses, calls, prints; the exit status is 0, 1 (the work failed), 2 (bad input) or 130 (interrupted)."""
    options = parser().parse_args(arguments)
    try:
        return options.call(options) or 0
    except (ValueError, OSError) as error:
        if os.environ.get("ASTROFORMER_TRACEBACK"):
            raise
        print(f"astroformer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="astroformer", description="Astroformer, re-examined: networks, training, ledger, book.")
    verbs = top.add_subparsers(required=True, metavar="VERB")
    for add in (_models, _cost, _audit, _equivariance, _data, _train, _evaluate, _study, _ledger, _claims, _reproduce):
        add(verbs)
    return top


def _verb(verbs, name: str, call, text: str, *, table: bool = False) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text, description=text)
    verb.set_defaults(call=call)
    if table:
        verb.add_argument("--json", action="store_true", help="print JSON, for programs")
    return verb


def _print_table(rows: list[dict], as_json: bool) -> None:
    import pandas as pd
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        print(pd.DataFrame(rows).to_string(index=False) if rows else "nothing yet")


# models, cost

def _models(verbs) -> None:
    verb = _verb(verbs, "models", models, "the networks, with their sizes", table=True)
    verb.add_argument("--classes", type=int, default=10)


def models(options) -> None:
    from astroformer.analysis.cost import model_cost
    from astroformer.models import MODELS, default_image_size
    rows = []
    for name in MODELS:
        size = default_image_size(name)
        cost = model_cost(name, image_size=size, num_classes=options.classes)
        rows.append({"model": name, "image_size": size, "params": cost["params"], "macs": cost["macs"],
                     **{key: str(value) for key, value in MODELS[name].items()}})
    _print_table(rows, options.json)


def _cost(verbs) -> None:
    verb = _verb(verbs, "cost", cost, "parameters, operations, memory and time of one image", table=True)
    verb.add_argument("model")
    verb.add_argument("--image-size", type=int, help="pixels; default: the network's own")
    verb.add_argument("--classes", type=int, default=10)
    verb.add_argument("--stack", help="kinds of the four stages, C or T, such as CCTT")
    verb.add_argument("--dtype-bytes", type=int, default=4, help="of a real number: 4 for float32, 2 for bfloat16")
    verb.add_argument("--peak-tflops", type=float, help="10^12 operations a second of an accelerator, for a time floor: say 100")
    verb.add_argument("--bandwidth-gb", type=float, help="10^9 bytes a second from and to its memory, for a time floor: say 1000")


def cost(options) -> None:
    from astroformer.analysis import cost as costs
    counted = costs.network_cost(
        options.model, image_size=options.image_size, num_classes=options.classes, stack=options.stack,
        dtype_bytes=options.dtype_bytes, peak_tflops=options.peak_tflops, bandwidth_gb=options.bandwidth_gb)
    print(json.dumps(counted, indent=1) if options.json else costs.described(counted))


# audit

def _audit(verbs) -> None:
    verb = _verb(verbs, "audit", audit, "which configurations print the reported counts, and how easily made-up numbers do", table=True)
    verb.add_argument("--decoys", type=int, default=200, help="made-up numbers for each reported one")
    verb.add_argument("--seed", type=int, default=0, help="of the made-up numbers")
    verb.add_argument("--write", action="store_true", help="into book/ledger/audit.json, from which the book reads")


def audit(options) -> None:
    from astroformer.analysis import audit as found
    from astroformer.ledger import claims as reported
    if options.decoys < 1:
        raise ValueError(f"--decoys {options.decoys}: at least one made-up number is needed to say what chance finds")
    shown = (lambda line: print(f"\r{line}", end="", file=sys.stderr, flush=True)) if sys.stderr.isatty() else lambda line: None
    report = found.audit(reported.read(), decoys=options.decoys, seed=options.seed, report=shown)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if options.write:
        found.write(report)
    print(json.dumps(report, indent=1) if options.json else found.in_words(report))


# equivariance

def _equivariance(verbs) -> None:
    verb = _verb(verbs, "equivariance", equivariance, "how far a network is from moving with its image, and by which part", table=True)
    verb.add_argument("--model", default="astroformer_pico", help="a network of the project, or any of timm's")
    verb.add_argument("--image-size", type=int, help="pixels; default: the network's own")
    verb.add_argument("--checkpoint", help="trained weights; default: random ones")
    verb.add_argument("--seed", type=int, default=0, help="of random weights and of the image")
    kept = verb.add_argument_group("to keep what is measured on a checkpoint: errors, Lie derivative, consistency")
    kept.add_argument("--keep", metavar="NAME", help="add it to book/ledger/equivariance/NAME.jsonl, from which the book reads")
    kept.add_argument("--dataset", default="galaxies", help="of whose test images: galaxies (embedded, synthetic) or folder")
    kept.add_argument("--data-dir", help="the ImageFolder of --dataset folder")
    kept.add_argument("--weights", default="both", choices=("trained", "random", "both"), help="trained, or as drawn before training")
    kept.add_argument("--images", type=int, default=200, help="so many of them, of each class alike")


def equivariance(options) -> None:
    from astroformer.analysis import equivariance as measured
    if options.keep:
        _keep_equivariance(options)
    else:
        _print_table(measured.report(options.model, image_size=options.image_size, checkpoint=options.checkpoint,
                                     seed=options.seed).to_dict("records"), options.json)


def _keep_equivariance(options) -> None:
    from astroformer.analysis import equivariance_records as kept
    from astroformer.training import load_trained
    if options.checkpoint is None:
        raise ValueError("--keep needs --checkpoint FILE: what is kept is a measurement of trained weights, such as runs/RUN/last.pt")
    images = kept.sample(options.dataset, options.images, image_size=load_trained(options.checkpoint)[1]["image_size"],
                              data_dir=options.data_dir)
    found = [kept.measure(options.checkpoint, images, weights=weights)
             for weights in (kept.WEIGHTS if options.weights == "both" else [options.weights])]
    for measurement in found:
        path = kept.keep(measurement, options.keep)
    print(json.dumps(found, indent=1) if options.json else f"kept in {path}")


# data

def _data(verbs) -> None:
    verb = verbs.add_parser("data", help="list, unpack and describe data sets")
    actions = verb.add_subparsers(required=True, metavar="ACTION")
    _verb(actions, "list", data_list, "the table of data sets", table=True)
    unpack = _verb(actions, "unpack", data_unpack, "unpack an archive into an ImageFolder")
    unpack.add_argument("archive")
    unpack.add_argument("destination")
    stats = _verb(actions, "stats", data_stats, "classes, sizes, mean and deviation", table=True)
    _add_data_arguments(stats)


SHORT_NAMES = {"c10": "cifar10", "c100": "cifar100"}  # as ViT-CIFAR's command line has them


def _add_data_arguments(verb) -> None:
    verb.add_argument("--dataset", default="galaxies", type=lambda name: SHORT_NAMES.get(name, name),
                      help="galaxies (embedded, synthetic), folder, cifar10 (or c10), cifar100 (c100), svhn, imagenet1k")
    verb.add_argument("--data-dir", help="the ImageFolder of --dataset folder, or where the files of a named data set lie "
                                         "(default: ASTROFORMER_DATA)")
    verb.add_argument("--image-size", type=int, help="pixels; default: the data set's own")
    verb.add_argument("--train-images", type=int, help="training images of a generated data set")


def data_list(options) -> None:
    from dataclasses import asdict
    from astroformer.data import DATASETS
    rows = [asdict(row) for row in DATASETS.values()]
    unknown = None if options.json else "-"
    _print_table([{name: unknown if value is None else value for name, value in row.items()} for row in rows], options.json)


def data_unpack(options) -> None:
    from astroformer.data import archives
    print(f"unpacked: train with --dataset folder --data-dir {archives.unpack(options.archive, options.destination)}")


def data_stats(options) -> None:
    from astroformer import data
    splits = [data.load(options.dataset, split, image_size=options.image_size, data_dir=options.data_dir,
                        train_images=options.train_images) for split in ("train", "test")]
    rows = [{"class": name, **{images.split: int(images.counts()[i]) for images in splits}}
            for i, name in enumerate(splits[0].classes)]
    mean, std = splits[0].statistics()
    about = splits[0].about
    described = {"title": about.title, "kind": about.kind, "sha256": about.sha256, "image_size": splits[0].image_size,
                 "mean": mean, "std": std, "note": about.note}
    if options.json:
        print(json.dumps(described | {"classes": rows}, indent=1))
    else:
        print("\n".join(f"{key}: {value}" for key, value in described.items()))
        _print_table(rows, False)


# train, evaluate

def _train(verbs) -> None:
    verb = _verb(verbs, "train", train, "train one run and add its record to the ledger")
    verb.add_argument("--model", default="astroformer_pico")
    _add_data_arguments(verb)
    verb.add_argument("--recipe", default="smoke")
    verb.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the recipe")
    verb.add_argument("--label-smoothing", type=float, metavar="MASS", help="short for --set label_smoothing=MASS; over all classes unless --set smoothing_over=others")
    verb.add_argument("--autoaugment", action="store_true",
                      help="AutoAugment with the policy of the data set, as ViT-CIFAR's release has it (cifar10, cifar100, svhn)")
    verb.add_argument("--init", metavar="FILE", help="weights to begin with: of a run (runs/RUN/last.pt) or a released file")
    verb.add_argument("--allow-partial", action="store_true", help="take what fits of --init, and print what is left out")
    verb.add_argument("--stack", help="kinds of the four stages, such as CCTT")
    verb.add_argument("--model-option", action="append", default=[], metavar="NAME=VALUE",
                      help="an argument of the network, such as rel_bias=outside or attn_layer=cbam")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--fraction", type=float, default=1.0, help="part of each class of the training images")
    verb.add_argument("--validation", type=float, default=0.0, help="part of train to hold out and evaluate in place of test")
    verb.add_argument("--force", action="store_true", help="train although the ledger holds the run")
    verb.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")
    verb.add_argument("--workers", type=int, help="processes that augment images")
    verb.add_argument("--checkpoint-seconds", type=float, default=60.0)
    verb.add_argument("--log", action="append", default=[], metavar="KIND",
                      help="csv, tensorboard or wandb: the numbers of each epoch beside the checkpoints; may be given several times")


def train(options) -> int:
    import torch
    from astroformer.data.augment import policy_of
    from astroformer.recipes import get_recipe, parse_changes
    from astroformer.training import Run, fit, parse_option
    own = dict(parse_option(text) for text in options.model_option)
    if options.stack:
        own["stack"] = options.stack
    changes = parse_changes(options.set)
    if options.label_smoothing is not None:
        changes["label_smoothing"] = options.label_smoothing
    if options.autoaugment:
        changes["autoaugment"] = policy_of(options.dataset)
    if options.allow_partial and not options.init:
        raise ValueError("--allow-partial is about the weights of --init FILE, which is missing")
    run = Run(model=options.model, dataset=options.dataset, recipe=get_recipe(options.recipe, **changes),
              init=options.init, allow_partial=options.allow_partial,
              seed=options.seed, options=tuple(sorted(own.items())), image_size=options.image_size, fraction=options.fraction,
              train_images=options.train_images, validation=options.validation, data_dir=options.data_dir)
    fitted = fit(run, device=torch.device(options.device) if options.device else None, force=options.force,
                 workers=options.workers, checkpoint_seconds=options.checkpoint_seconds, logs=options.log,
                 report=lambda line: print(line, flush=True))
    record = fitted.record
    if record["status"] != "completed":
        return 1
    print(f"run {record['run']} on {record['dataset']['title']} ({record['dataset']['kind']}): "
          + ", ".join(f"{name} {value:.2f}" for name, value in record["metrics"].items())
          + f"; {record['epochs']} epochs in {record['seconds'] / 60:.1f} min; "
          + (f"weights in {fitted.weights}" if fitted.weights.is_file() else "its weights are not here, --force makes them"))
    return 0


def _evaluate(verbs) -> None:
    verb = _verb(verbs, "evaluate", evaluate, "metrics and speed of a checkpoint, or of released weights, on a split", table=True)
    verb.add_argument("checkpoint", nargs="?", help="of this project, such as runs/RUN/last.pt")
    verb.add_argument("--weights", metavar="FILE", help="in its place: weights of --model alone, such as a released SpectFormer's")
    verb.add_argument("--model", help="the network of --weights")
    verb.add_argument("--model-option", action="append", default=[], metavar="NAME=VALUE", help="an argument of that network")
    verb.add_argument("--allow-partial", action="store_true", help="evaluate weights that do not fit in full; what is left out is printed")
    _add_data_arguments(verb)
    verb.add_argument("--split", default="test", choices=("train", "test"))
    verb.add_argument("--crop-pct", type=float, help="part of the shorter side that the middle square keeps, such as 0.875; "
                                                     "default: the data set's own")
    verb.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")


def evaluate(options) -> None:
    import torch
    from astroformer import data
    from astroformer.training import evaluate_checkpoint, evaluate_weights, parse_option

    def load_images(size: int) -> data.Images:
        return data.load(options.dataset, options.split, image_size=options.image_size or size, data_dir=options.data_dir,
                         train_images=options.train_images, crop_pct=options.crop_pct)

    if (options.checkpoint is None) == (options.weights is None) or (options.weights is None) != (options.model is None):
        raise ValueError("give either a checkpoint of this project, runs/RUN/last.pt, or --weights FILE with its --model NAME")
    device = torch.device(options.device) if options.device else None
    if options.checkpoint:
        measured = evaluate_checkpoint(options.checkpoint, load_images, device=device)
    else:
        own = dict(parse_option(text) for text in options.model_option)
        measured = evaluate_weights(options.weights, options.model, load_images, options=own, device=device,
                                    allow_partial=options.allow_partial, report=lambda line: print(line, file=sys.stderr))
    _print_table([measured], options.json)


# study

def _study(verbs) -> None:
    verb = _verb(verbs, "study", study, "train what a study lacks: a named set of runs that answer one question", table=True)
    verb.add_argument("name", nargs="?", help="default: list the studies")
    verb.add_argument("--show", action="store_true", help="only what the ledger holds of it, with the commands")
    verb.add_argument("--data-dir", help="the study's folder of images; default: its name below ASTROFORMER_DATA")
    verb.add_argument("--time-budget", type=float, metavar="MINUTES", help="begin no run later than that; the same command goes on")
    verb.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")
    verb.add_argument("--workers", type=int, help="processes that augment images")


def study(options) -> int:
    import torch
    from astroformer.training import studies
    if options.name is None:
        _print_table([{"study": name, "runs": len(one.runs()), "question": one.question}
                      for name, one in studies.STUDIES.items()], options.json)
        return 0
    complete = options.show or studies.run_study(
        options.name, data_dir=options.data_dir, minutes=options.time_budget, workers=options.workers,
        device=torch.device(options.device) if options.device else None,
        report=lambda line: print(line, file=sys.stderr, flush=True))
    rows = [{name: None if value != value else value for name, value in row.items() if name != "history"}
            for row in studies.frame(options.name).to_dict("records")]
    shown = ("variation", "seed", "status", "top1", "balanced_accuracy", "images_per_second", "command")
    _print_table(rows if options.json else [{name: row[name] for name in shown if name in row} for row in rows], options.json)
    return 0 if complete else 1


# ledger, claims, reproduce

def _ledger(verbs) -> None:
    verb = _verb(verbs, "ledger", ledger, "the records: committed and made on this machine", table=True)
    kept = verb.add_mutually_exclusive_group()
    kept.add_argument("--keep", nargs=2, metavar=("RUN", "NAME"), help="copy a local record to book/ledger/NAME.jsonl")
    kept.add_argument("--filters", nargs=2, metavar=("CHECKPOINT", "NAME"),
                      help="copy the spectral gates of trained weights to book/ledger/filters/NAME-RUN.npz")


def ledger(options) -> None:
    from astroformer.ledger import records
    if options.keep:
        print(f"kept in {records.keep(*options.keep)}")
        return
    if options.filters:
        from astroformer.analysis import filters
        print(f"kept in {filters.keep(*options.filters)}")
        return
    found = records.read()
    short = [{"run": r["run"], "status": r["status"], "model": r["model"], "data": r["dataset"]["title"],
              "recipe": r["recipe"]["name"], "seed": r["seed"], "top1": r["metrics"].get("top1"),
              "minutes": round(r["seconds"] / 60, 1), "device": r["device"], "origin": r["origin"]} for r in found]
    _print_table(found if options.json else short, options.json)


def _claims(verbs) -> None:
    verb = _verb(verbs, "claims", claims, "every number that the papers report, with its source and verdict", table=True)
    verb.add_argument("--system", metavar="NAME", help="only the claims about one system, such as Astroformer")


def claims(options) -> None:
    from astroformer.analysis import audit as counted, verdicts
    from astroformer.ledger import claims as reported, records
    found = verdicts.verdicts(reported.read(), records.frame(), counted.read())
    if options.system is not None:
        found = reported.about(found, options.system)
    rows = found.to_dict("records")
    short = [{"model": row["model"] or row["system"], "data": row["dataset"] or "-", "metric": row["metric"],
              "reported": reported.written(row["value"], row["unit"]), "verdict": row["verdict"], "source": row["source"]}
             for row in rows]
    _print_table(rows if options.json else short, options.json)


def _reproduce(verbs) -> None:
    verb = _verb(verbs, "reproduce", reproduce, "execute the pages and build the book")
    verb.add_argument("--profile", default="smoke", choices=("smoke", "gpu", "paper"))
    verb.add_argument("--force", action="store_true", help="execute every page, changed or not")
    verb.add_argument("pages", nargs="*", help="only these pages, such as training")


def reproduce(options) -> int:
    from astroformer.reproduce import reproduce as run_book
    return run_book(options.profile, only=tuple(options.pages), force=options.force)

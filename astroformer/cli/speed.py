"""The verb that measures speed: bench."""

import sys

from astroformer.cli.common import add_verb, device_of, print_table


def _bench(verbs) -> None:
    verb = add_verb(
        verbs,
        "bench",
        bench,
        "training steps of networks in several executions, beside timm's own, in one process",
        table=True,
    )
    verb.add_argument(
        "--models", nargs="+", default=[], metavar="NAME", help="default: a few of each system"
    )
    verb.add_argument("--sizes", nargs="+", type=int, default=[], metavar="PIXELS")
    verb.add_argument(
        "--batch-size", type=int, default=0, help="images of a step; default: 16, on a GPU 256"
    )
    verb.add_argument(
        "--time-budget", type=float, default=300.0, metavar="S", help="seconds in all; default 300"
    )
    verb.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")
    verb.add_argument(
        "--compiled",
        action="store_true",
        default=None,
        help="torch.compile among the executions on a CPU, too, which takes minutes",
    )
    verb.add_argument(
        "--no-compiled", dest="compiled", action="store_false", help="without torch.compile"
    )
    verb.add_argument(
        "--no-epochs",
        action="store_true",
        help="steps alone: no epochs with data, no several processes",
    )
    verb.add_argument(
        "--memory",
        action="store_true",
        help="in place of speed: bytes predicted, and those that PyTorch's allocator hands out on "
        "this machine's CPU; half an hour for all networks",
    )
    verb.add_argument(
        "--keep", metavar="NAME", help="add the measurements to book/ledger/speed/NAME.jsonl"
    )


def bench(options) -> None:
    from astroformer.sizes import NAMES
    from astroformer.speed import kept
    from astroformer.speed.bench import Asked, bench
    from astroformer.training.memory_by_card import measured_rows

    for name in ("batch_size", "time_budget"):
        if getattr(options, name) < 0:
            raise ValueError(f"--{name.replace('_', '-')} is negative; give a positive number")
    if any(size < 1 for size in options.sizes):
        raise ValueError("--sizes are numbers of pixels, at least 1")
    if options.keep:
        kept.file_of(options.keep)  # says what is wrong with the name first
    asked = Asked(
        models=tuple(options.models),
        sizes=tuple(options.sizes),
        batch_size=options.batch_size,
        seconds=options.time_budget,
        compiled=options.compiled,
        epochs=not options.no_epochs,
    )
    rows = []
    device = device_of(options.device)
    found = measured_rows(options.models or NAMES) if options.memory else bench(asked, device, say)
    for row in found:
        rows.append(row)
        if options.keep:
            kept.keep([row], options.keep)
    print_table(rows if options.json else [told(row) for row in rows], options.json)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def told(row: dict) -> dict:
    """What a table shows of a measurement."""
    if row["what"] == "roofline":
        limits = [f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in row["product"].items()]
        return {
            "what": "this device at most",
            "network": f"products {', '.join(limits)}; copy {row['copy'] / 1e9:.3g} GB/s",
        }
    if row["what"] == "training memory":
        held = row.get("measured_bytes")
        return {
            "what": row["what"],
            "network": f"{row['model']} {row['image_size']} px, {row['batch_size']} images",
            "MB predicted": f"{row['predicted_bytes'] / 1e6:,.0f}",
            "MB measured": f"{held / 1e6:,.0f}" if held else row.get("note", ""),
        }
    ratio = row.get("times_as_fast") or row.get("over_steps_alone")
    rate = row.get("images_per_second")
    return {
        "what": row["what"],
        "network": f"{row['model']} {row['image_size']} px, {row['batch_size']} images",
        "execution": row["contestant"],
        "images/s": f"{rate:,.0f}" if rate else row["status"],
        "ratio": f"{ratio:.2f}" if ratio else "",
    }


VERBS = (_bench,)

"""Verbs about images: list, unpack, stats."""

import json

from astroformer.cli.common import add_data_arguments, add_verb, print_table


def _data(verbs) -> None:
    verb = verbs.add_parser("data", help="list, unpack and describe data sets")
    actions = verb.add_subparsers(required=True, metavar="ACTION")
    add_verb(actions, "list", data_list, "the table of data sets", table=True)
    unpack = add_verb(actions, "unpack", data_unpack, "unpack an archive into an ImageFolder")
    unpack.add_argument("archive")
    unpack.add_argument("destination")
    stats = add_verb(actions, "stats", data_stats, "classes, sizes, mean and deviation", table=True)
    add_data_arguments(stats)


def data_list(options) -> None:
    from dataclasses import asdict
    from astroformer.data import DATASETS
    rows = [asdict(row) for row in DATASETS.values()]
    unknown = None if options.json else "-"
    print_table([{name: unknown if value is None else value for name, value in row.items()} for row in rows], options.json)


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
        print_table(rows, False)


VERBS = (_data,)

"""Verbs about images: list, fetch, verify, unpack, derive, cut, example, stats."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path

from astroformer.cli.common import (
    add_data_arguments,
    add_verb,
    dataset_name,
    images_asked_for,
    print_table,
)

# what fits on a line
LISTED = ("name", "title", "kind", "classes", "image_size", "train", "test", "licence")


def _data(verbs) -> None:
    verb = verbs.add_parser("data", help="list, fetch, verify, unpack and describe data sets")
    actions = verb.add_subparsers(required=True, metavar="ACTION")
    add_verb(
        actions,
        "list",
        data_list,
        "the table of data sets, and whether their files are here",
        table=True,
    )
    for name, call, text in (
        ("fetch", data_fetch, "download a data set and check it"),
        ("verify", data_verify, "compare the files of a data set with those published"),
    ):
        action = add_verb(actions, name, call, text, table=call is data_verify)
        action.add_argument("name", type=dataset_name, help="a name of `astroformer data list`")
        action.add_argument(
            "--data-dir", help="where the files go or lie (default: ASTROFORMER_DATA)"
        )
    unpack = add_verb(
        actions,
        "unpack",
        data_unpack,
        "unpack an archive, or all parts of a data set, into a folder",
    )
    unpack.add_argument("archive", nargs="+")
    unpack.add_argument("destination")
    derive = add_verb(
        actions, "derive", data_derive, "make a task of the studies out of another data set"
    )
    derive.add_argument(
        "task", nargs="?", help="a name of --list, or a new name for what --from gives"
    )
    derive.add_argument("--list", action="store_true", help="the tasks, and whether they are here")
    derive.add_argument("--check", metavar="FOLDER", help="compare a folder with its manifest")
    derive.add_argument("--data-dir", help="where the sources lie (default: ASTROFORMER_DATA)")
    derive.add_argument("--out", help="the folder to make (default: NAME in ASTROFORMER_DATA)")
    derive.add_argument(
        "--from", dest="source", metavar="FOLDER", help="another source than a task's"
    )
    own = derive.add_argument_group("what is done to the source that --from names")
    own.add_argument("--title", help="as printed beside a number")
    own.add_argument("--merge", action="append", metavar="NEW=OLD,OLD")
    own.add_argument("--drop", action="append", metavar="CLASS")
    own.add_argument(
        "--classes",
        metavar="N|NAME,NAME",
        help="so many classes, drawn once and for all, or those named",
    )
    own.add_argument("--most", type=int, help="so many training images of each class")
    own.add_argument(
        "--order",
        choices=("name", "sha256"),
        help="which they are: the first in the order of the names (the default), their numbers "
        "counted, or of the names' SHA-256",
    )
    own.add_argument("--unused-to-test", action="store_true", help="test on those not taken, too")
    own.add_argument(
        "--folds", type=int, help="all images in so many parts, one of which is tested on"
    )
    own.add_argument("--fold", type=int, help="which one, from 0")
    cut = add_verb(
        actions,
        "cut",
        data_cut,
        "cut-outs of a FITS mosaic at the positions of a table",
    )
    cut.add_argument("catalogue", help="a CSV, Parquet or FITS table with ra and dec in degrees")
    cut.add_argument("mosaic", nargs="+", help="a FITS image with its WCS, or one for each band")
    cut.add_argument("--size", type=int, required=True, help="pixels, height and width")
    cut.add_argument("--out", required=True, help="the folder to make")
    cut.add_argument(
        "--bands", default="", metavar="g,r,z", help="of several mosaics, in their order"
    )
    cut.add_argument("--id-column", default="", help="what the files are called by, if not found")
    example = add_verb(
        actions,
        "example",
        data_example,
        "a folder of synthetic galaxies, as an astronomer's files have them, to try commands on",
    )
    example.add_argument("out", help="the folder to make")
    example.add_argument(
        "--kind",
        choices=("png", "fits"),  # example.KINDS, whose module brings numpy
        default="png",
        help="png: pictures in a folder for each class; fits: three bands a file, and a catalogue",
    )
    example.add_argument("--each", type=int, default=60, help="labelled galaxies of each class")
    example.add_argument("--new", type=int, default=40, help="galaxies without a label")
    example.add_argument("--size", type=int, default=64, help="pixels, height and width")
    example.add_argument("--seed", type=int, default=0)
    stats = add_verb(
        actions,
        "stats",
        data_stats,
        "classes, sizes, mean and deviation, licence and what to cite",
        table=True,
    )
    stats.add_argument("name", nargs="?", type=dataset_name, help="the same as --dataset NAME")
    add_data_arguments(stats)
    stats.add_argument(
        "--draw",
        metavar="FILE",
        help="a picture (.png, .pdf or .svg) of some training images of each class, with the "
        "histogram of their values before and after the stretch",
    )


def data_list(options) -> None:
    from astroformer.data import DATASETS, root_of
    from astroformer.data.fetch import present

    here = {
        name: present(name, None if name == "folder" else root_of(name, None)) for name in DATASETS
    }
    if options.json:
        print_table([asdict(row) | {"here": here[row.name]} for row in DATASETS.values()], True)
        return
    words = {None: "-", True: "yes", False: "no"}
    print_table(
        [
            {
                key: "-"
                if (value := getattr(row, key)) is None
                else f"{value:,}"
                if isinstance(value, int)
                else value
                for key in LISTED
            }
            | {"here": words[here[row.name]]}
            for row in DATASETS.values()
        ],
        False,
    )


def data_fetch(options) -> None:
    from astroformer.data.fetch import fetch

    fetch(options.name, _root(options), report=lambda line: print(line, flush=True))


def data_verify(options) -> int:
    """Status 1 if a file is missing or is not as published."""
    from astroformer.data.fetch import verify

    checked = verify(options.name, _root(options))
    if options.json:
        print_table([one._asdict() for one in checked], True)
    else:
        print_table(
            [
                {
                    "file": one.file,
                    "state": "as published" if one.ok else one.found,
                    "published": one.expected,
                }
                for one in checked
            ],
            False,
        )
    return 0 if all(one.ok for one in checked) else 1


def _root(options):
    """Where the files lie; None for data that have no place of their own, which `fetch` and
    `verify` refuse.
    """
    from astroformer import data

    return None if options.name == "folder" else data.root_of(options.name, options.data_dir)


def data_unpack(options) -> None:
    from astroformer.data import archives

    folder = archives.unpack(options.archive, options.destination)
    name = "tiny_imagenet" if archives.is_tiny_imagenet(folder) else "folder"
    print(f"unpacked: train with --dataset {name} --data-dir {shlex.quote(str(folder))}")


def data_cut(options) -> None:
    from astroformer.data.cutouts import cut
    from astroformer.data.folder_tree import parsed_bands

    bands = parsed_bands(options.bands)
    table, out = (Path(one).expanduser() for one in (options.catalogue, options.out))
    mosaics = [Path(one).expanduser() for one in options.mosaic]
    cut(table, mosaics, options.size, out, bands=bands, id_column=options.id_column, report=_say)
    words = ["--dataset", "folder", "--data-dir", str(out), "--labels", str(table)]
    words += ["--bands", ",".join(bands)] if len(mosaics) > 1 else []
    print(f"look at them with: astroformer data stats --stretch asinh {shlex.join(words)}")


def data_example(options) -> None:
    from astroformer.data import example

    root = example.write(
        options.out,
        kind=options.kind,
        each=options.each,
        new=options.new,
        size=options.size,
        seed=options.seed,
    )
    words = ["--dataset", "folder", "--data-dir"]
    if options.kind == "fits":
        words += [str(root / "cutouts"), "--labels", str(root / "catalogue.csv")]
        words += ["--bands", ",".join(example.BANDS), "--stretch", example.STRETCH]
    else:
        words += [str(root / "labelled"), "--test-fraction", "0.2"]
    print(f"look at them with: astroformer data stats {shlex.join(words)}")
    print(f"galaxies to predict: {root / 'new'}")


def data_derive(options) -> int:
    """Status 1 if a folder that is checked differs from its manifest."""
    from astroformer import paths
    from astroformer.data import derive
    from astroformer.data.tasks import TASKS, named

    if options.check:
        wrong = derive.check(Path(options.check).expanduser())
        print("\n".join(wrong[:20]) if wrong else f"{options.check} is as it was made")
        if wrong[20:]:
            print(f"and {len(wrong) - 20:,} more")
        return 1 if wrong else 0
    if options.list:
        print_table([_listed(task) for task in TASKS.values()], False)
        return 0
    if options.task is None:
        raise ValueError(f"name a task: {', '.join(TASKS)}; or give --list, --check FOLDER")
    own = _derivation(options)
    place = Path(options.data_dir).expanduser() if options.data_dir else paths.data()
    asked = [own] if own else [task.derivation for task in named(options.task)]
    if options.out and len(asked) > 1:
        raise ValueError(
            f"--out names one folder and {options.task} is {len(asked)}; name one of them: "
            f"{', '.join(one.name for one in asked)}"
        )
    for one in asked:
        out = Path(options.out).expanduser() if options.out else paths.data() / one.name
        out.parent.mkdir(parents=True, exist_ok=True)
        root = Path(one.source).expanduser() if own else None
        if root is None:
            root = derive.found_source(one, place, out.parent, _say)
        derive.derive(one, root, out, report=_say)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _listed(task) -> dict[str, object]:
    """A line of `--list`."""
    from astroformer import paths

    return {
        "task": task.name,
        "title": task.title,
        "from": task.derivation.source,
        "images trained on": ", ".join(f"{n:,} ({size})" for size, n in task.images.items()),
        "pixels": task.image_size,
        "here": "yes" if (paths.data() / task.name).is_dir() else "no",
    }


def _derivation(options):
    """What the flags say is done to the source of --from; None for a task, which takes none."""
    from astroformer.data.derive import Derivation

    names, number = options.classes or "", 0
    if names.isdecimal():
        names, number = "", int(names)
    told = {
        "title": options.title,
        "merge": tuple(_merged(text) for text in options.merge or ()),
        "drop": tuple(options.drop or ()),
        "keep": tuple(filter(None, names.split(","))),
        "classes": number,
        "most": options.most,
        "order": options.order,
        "unused": "test" if options.unused_to_test else "",
        "folds": options.folds,
        "fold": options.fold,
    }
    told = {name: value for name, value in told.items() if value}
    if options.source is None:
        if told:
            raise ValueError(
                f"what a task is made of is fixed, and {', '.join(told)} would change it; name a "
                "source with --from FOLDER to make another data set"
            )
        return None
    if not Path(options.source).expanduser().is_dir():
        raise FileNotFoundError(
            f"there is no folder {options.source}; --from names a folder that is unpacked"
        )
    return Derivation(source=options.source, name=options.task, **told)


def _merged(text: str) -> tuple[str, tuple[str, ...]]:
    """ "spiral=a,b" -> ("spiral", ("a", "b"))."""
    new, equals, old = text.partition("=")
    if not (new and equals and old):
        raise ValueError(f"--merge {text!r} is not NEW=OLD,OLD, such as spiral=left,right")
    return new, tuple(old.split(","))


def data_stats(options) -> None:
    from astroformer import data

    name = options.name or options.dataset
    if options.name and options.dataset not in (options.name, "galaxies"):
        raise ValueError(
            f"two data sets are named, {options.name} and --dataset {options.dataset}; name one"
        )
    asked = images_asked_for(options)
    splits, remarks = [data.load(name, "train", **asked)], []
    try:
        splits.append(data.load(name, "test", **asked))
    except FileNotFoundError as error:  # there may be no test images
        remarks = [str(error)]
    rows = [
        {"class": kind, **{images.split: int(images.counts()[i]) for images in splits}}
        for i, kind in enumerate(splits[0].classes)
    ]
    mean, std = splits[0].statistics()
    about, row = splits[0].about, data.DATASETS[name]
    described = {
        "title": about.title,
        "kind": about.kind,
        "sha256": about.sha256,
        "image_size": splits[0].image_size,
        **({"channels": number} if (number := splits[0].channels) != 3 else {}),
        **{f"{images.split}_images": len(images) for images in splits},
        "mean": mean,
        "std": std,
        "note": about.note,
        "licence": row.licence,
        "citation": row.citation,
    }
    remarks = [*about.remarks, *remarks]
    if options.draw:
        _draw(splits[0], options.draw)
    if options.json:
        print(json.dumps(described | {"remarks": remarks, "classes": rows}, indent=1))
    else:
        print("\n".join([*(f"{key}: {value}" for key, value in described.items()), *remarks]))
        print_table(rows, False)


def _draw(images, place: str) -> None:
    from astroformer.figures.contact_sheet import contact_sheet

    path = Path(place).expanduser()
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"--draw {place}: name a file that ends in .png, .pdf or .svg")
    contact_sheet(images).savefig(path, dpi=130)


VERBS = (_data,)

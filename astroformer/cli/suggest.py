"""The verb `suggest`: what to train on a folder of images, by the records of the studies."""

import json

from astroformer.cli.common import add_data_arguments, add_verb, dataset_name, images_asked_for


def _suggest(verbs) -> None:
    verb = add_verb(
        verbs,
        "suggest",
        suggest,
        "which network, recipe and epochs for so many images, the hours, and the accuracy to "
        "expect, by the records of the studies; or that they do not say it",
        table=True,
    )
    verb.add_argument(
        "images", nargs="?", help="a folder of images, or a data set's name: short for --data-dir"
    )
    add_data_arguments(verb)
    verb.add_argument(
        "--like", choices=("galaxies", "pictures"), default="", help="go by such images alone"
    )
    verb.add_argument(
        "--validation", type=float, default=0.0, help="part of the training images to hold out"
    )
    verb.add_argument(
        "--card", help="say the hours on this card, such as H100 SXM; default: this processor"
    )


def suggest(options) -> None:
    from astroformer import data
    from astroformer.cli.common import print_table
    from astroformer.data.table import DATASETS
    from astroformer.studies.needs import Place
    from astroformer.studies.suggest import Images
    from astroformer.studies.suggest import suggest as suggested

    if options.images:
        named = dataset_name(options.images)
        if named in DATASETS:
            options.dataset = named
        else:
            options.dataset, options.data_dir = "folder", options.images
    asked = images_asked_for(options)
    size = asked.pop("image_size")
    words = ["--dataset", options.dataset]
    words += ["--data-dir", options.data_dir] if options.data_dir else []
    for name, value in asked.items():
        if value and name != "data_dir" and (name, value) != ("class_fraction", 1.0):
            words += [f"--{name.replace('_', '-')}", f"{value}"]
    words += ["--validation", f"{options.validation}"] if options.validation else []
    own = {name: asked[name] for name in data.OWN if name in asked}
    images = Images(
        train=data.train_size(options.dataset, validation=options.validation, **asked),
        classes=len(data.classes(options.dataset, options.data_dir, **own)),
        pixels=size or data.native_image_size(options.dataset, options.data_dir, **own),
        kind=options.like,
        dataset=options.dataset,
        data_dir=options.data_dir,
        read_by=tuple(own.items()),
        words=tuple(words),
    )
    found = suggested(images, Place.named(options.card, "cuda") if options.card else Place())
    if options.json:
        print(json.dumps(found.told(), indent=1))
        return
    if found.near:
        print_table([one.row() for one in found.near], False)
    print("\n".join(found.lines()))


VERBS = (_suggest,)

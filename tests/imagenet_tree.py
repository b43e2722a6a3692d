"""A small tree in ImageNet's layout for tests: JPEG files of several sizes and shapes, one of
them grey and one in CMYK.
"""

import numpy as np
from PIL import Image

WNIDS = ("n01440764", "n01443537", "n02102040")
SIZES = ((90, 60), (60, 90), (64, 64), (150, 40))  # width, height in pixels


def write_tree(root, *, train: int = 4, val: int = 4) -> None:
    """ROOT/train/<wnid>/<wnid>_1.JPEG and ROOT/val/<wnid>/ILSVRC2012_val_00000001.JPEG, ...;
    each class has its own colour.
    """
    generator, number = np.random.default_rng(0), 0
    for split, images in (("train", train), ("val", val)):
        for label, wnid in enumerate(WNIDS):
            (root / split / wnid).mkdir(parents=True)
            for index in range(images):
                width, height = SIZES[index % len(SIZES)]
                pixels = generator.integers(0, 80, (height // 10, width // 10, 3), dtype=np.uint8)
                pixels[..., label] += 150
                image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
                if label == 2 and index < 2:
                    image = image.convert(("L", "CMYK")[index])
                number += 1
                name = (
                    f"{wnid}_{index}.JPEG"
                    if split == "train"
                    else f"ILSVRC2012_val_{number:08d}.JPEG"
                )
                image.save(root / split / wnid / name, format="JPEG", quality=95)

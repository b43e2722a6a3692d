"""A few images in the layout of Tiny ImageNet's archive, for tests; a grey one among them, as in
the archive.
"""

import io
import zipfile

import numpy as np
from PIL import Image

WNIDS = ("n01443537", "n01629819", "n02123045")
WORDS = {
    "n00001740": "entity",
    "n01443537": "goldfish, Carassius auratus",
    "n01629819": "crane",
    "n02123045": "crane, lifting device",
}


def jpeg(color, *, grey=False, size=64):
    """Bytes of a JPEG of one colour."""
    stream = io.BytesIO()
    image = Image.fromarray(np.full((size, size, 3), color, np.uint8))
    (image.convert("L") if grey else image).save(stream, "JPEG")
    return stream.getvalue()


def members(*, train=6, val=4):
    """File below tiny-imagenet-200/ -> bytes: each class has its own brightness, image 1 of each
    is grey.
    """
    files = {
        "wnids.txt": "\n".join(reversed(WNIDS)).encode(),
        "words.txt": "".join(f"{wnid}\t{words}\n" for wnid, words in WORDS.items()).encode(),
    }
    lines = []
    for label, wnid in enumerate(WNIDS):
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b"0\t0\t63\t63\n"
        for i in range(train):
            files[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = jpeg(
                (80 * label + 10, 40, 200), grey=i == 1
            )
        for i in range(val):
            name = f"val_{3 * i + label}.JPEG"
            files[f"val/images/{name}"] = jpeg((80 * label + 10, 40, 200))
            lines.append((3 * i + label, f"{name}\t{wnid}\t0\t32\t44\t62"))
    files["val/val_annotations.txt"] = (
        "\n".join(line for _, line in sorted(lines)) + "\n"
    ).encode()
    return files


def write_tiny_imagenet(root, *, zipped=False, **numbers):
    """ROOT/tiny-imagenet-200/ or ROOT/tiny-imagenet-200.zip; returns it."""
    files = members(**numbers)
    if zipped:
        root.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(root / "tiny-imagenet-200.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"tiny-imagenet-200/{name}", content)
        return root / "tiny-imagenet-200.zip"
    for name, content in files.items():
        path = root / "tiny-imagenet-200" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root / "tiny-imagenet-200"

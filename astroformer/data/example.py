"""A folder of cut-outs to try everything on: synthetic galaxies as an astronomer's files have them.

    DEST/cutouts/*.fits   three bands each, as extensions G, R and Z with a WCS
    DEST/catalogue.csv    id, label, ra, dec of these
    DEST/new/*.fits       others, which the catalogue does not name: to be predicted

or, as pictures: DEST/labelled/<class>/*.png and DEST/new/*.png. The galaxies are those of the data
set `galaxies`, drawn by seeds of their own.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from astroformer.data.folder import ABOUT
from astroformer.data.morphology import CLASS_NAMES, bands, render

KINDS = ("png", "fits")
CLASSES = ("round smooth", "cigar-shaped smooth", "unbarred loose spiral", "edge-on without bulge")
SEED = 20_000  # none of the data set's own
PIXEL = 0.262 / 3600  # degrees, as in the Legacy Surveys
BANDS = ("G", "R", "Z")
STRETCH = "lupton:0.4,7"  # that shows them well
NOTE = "synthetic; drawn by astroformer.data.morphology, not observed"


def write(
    destination: str | Path,
    *,
    kind: str = "png",
    each: int = 60,
    new: int = 40,
    size: int = 64,
    classes: Sequence[str] = CLASSES,
    seed: int = 0,
) -> Path:
    """Writes `each` labelled galaxies of every class, and `new` others, into a folder that is not
    there yet.

    ValueError for a folder that is there, a kind or a class that is not known.
    """
    root = Path(destination).expanduser()
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is not known; choose {' or '.join(KINDS)}")
    if unknown := [name for name in classes if name not in CLASS_NAMES]:
        raise ValueError(f"class {unknown[0]!r} is not known; choose of {', '.join(CLASS_NAMES)}")
    if root.exists():
        raise ValueError(f"{root} is there already; name a folder that is not")
    root.mkdir(parents=True)
    about = {"title": "synthetic galaxies, an example", "kind": "synthetic", "note": NOTE}
    labelled = root / ("cutouts" if kind == "fits" else "labelled")
    labelled.mkdir()
    (labelled / ABOUT).write_text(json.dumps(about))
    rows = []
    for number, (name, draws) in enumerate(_draws(each, classes, seed)):
        known = f"J{number:05d}"
        ra, dec = 150.0 + 0.01 * number, 2.0 + 0.003 * number
        if kind == "fits":
            _write_fits(labelled / f"{known}.fits", name, size, draws, ra, dec)
        else:
            (labelled / name).mkdir(exist_ok=True)
            _write_png(labelled / name / f"{known}.png", name, size, draws)
        rows.append((known, name, f"{ra:.5f}", f"{dec:.5f}"))
    if kind == "fits":
        with open(root / "catalogue.csv", "w", newline="") as file:
            csv.writer(file).writerows([("id", "label", "ra", "dec"), *rows])
    (root / "new").mkdir()
    unseen = _draws(-(-new // len(classes)), classes, seed + 1)
    for number, (name, draws) in zip(range(new), unseen):
        path = root / "new" / f"N{number:05d}.{kind}"
        if kind == "fits":
            _write_fits(path, name, size, draws, 160.0 + 0.01 * number, 2.0)
        else:
            _write_png(path, name, size, draws)
    return root


def _draws(
    each: int, classes: Sequence[str], seed: int
) -> Iterator[tuple[str, np.random.Generator]]:
    for index in range(each):
        for name in classes:
            label = CLASS_NAMES.index(name)
            yield name, np.random.default_rng([SEED, seed, label, index])


def _write_png(path: Path, name: str, size: int, draws: np.random.Generator) -> None:
    Image.fromarray(render(CLASS_NAMES.index(name), size=size, rng=draws)).save(path)


def _write_fits(
    path: Path, name: str, size: int, draws: np.random.Generator, ra: float, dec: float
) -> None:
    from astropy.io import fits
    from astropy.wcs import WCS

    place = WCS(naxis=2)
    place.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    place.wcs.crval, place.wcs.crpix = [ra, dec], [(size + 1) / 2] * 2
    place.wcs.cdelt = [-PIXEL, PIXEL]
    header = place.to_header()
    header["OBJECT"] = path.stem
    images = [
        fits.ImageHDU(one.astype(np.float32), header, name=band)
        for band, one in zip(BANDS, bands(CLASS_NAMES.index(name), size=size, rng=draws))
    ]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)

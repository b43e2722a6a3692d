"""Cut-outs of a mosaic at the positions of a catalogue, each a FITS file that keeps its WCS.

    cut(catalogue, [mosaic], 64, out)        # out/ID.fits, or of several mosaics out/ID_BAND.fits

With the catalogue as the table of labels the folder is a data set: --data-dir OUT --labels TABLE.
"""

import os
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from astroformer.data import catalogue, walk

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

NAME = re.compile(r"[^\w.+-]+", re.ASCII)  # what is replaced in the name of a file
# Keywords of a mosaic's header that are not so of a part of it: its WCS, and its checksums.
OF_THE_MOSAIC = re.compile(
    r"(CD|PC)[12]_[12]|(CDELT|CROTA|CRPIX|CRVAL|CTYPE|CUNIT)[12]|(LON|LAT)POLE|WCSAXES|MJDREF"
    r"|(A|B|AP|BP)_(ORDER|[0-9]_[0-9]|DMAX)|PV[12]_[0-9]+|CHECKSUM|DATASUM|EXTNAME|EXTVER"
)


class Mosaic(NamedTuple):
    image: np.ndarray  # (H, W), read from the disk where it is looked at
    wcs: "WCS"
    header: "Header"
    x: np.ndarray  # pixels of the positions that are cut at, (N,)
    y: np.ndarray


def cut(
    table: Path,
    mosaics: Sequence[Path],
    size: int,
    out: Path,
    *,
    bands: Sequence[str] = (),
    id_column: str = "",
    report: Callable[[str], None] = print,
) -> Counter[str]:
    """Writes a cut-out of `size` x `size` pixels for each row of a table with ra and dec in
    degrees, in one step: an interruption leaves nothing half made. Returns how many are whole,
    partial (the rest is NaN) and outside.

    mosaics: FITS files with a celestial WCS, one for each of `bands`
    id_column: what the files are called by; None takes a column of ids with a usual name, or else
        the position

    FileExistsError for a folder that holds something; ValueError in one line for tables and mosaics
    that cannot be cut by.
    """
    if size < 1:
        raise ValueError(f"--size {size}: give a number of pixels of at least 1")
    if len(mosaics) > 1 and len(bands) != len(mosaics):
        raise ValueError(
            f"{len(mosaics)} mosaics need as many names: give --bands g,r,z, one for each, in "
            "their order"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} holds something; remove it, or name another folder")
    names, ra, dec = positions(table, id_column)
    counts: Counter[str] = Counter()
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with ExitStack() as stack:
            opened = [_opened(path, ra, dec, stack) for path in mosaics]
            ends = [f"_{band}" for band in bands] if len(mosaics) > 1 else [""]
            for row in tqdm(range(len(names)), unit="cut-outs", disable=None):
                parts = [_part(one, row, size) for one in opened]
                if any(one is None for one in parts):
                    counts["outside"] += 1
                    continue
                whole = [_write(part / f"{names[row]}{end}.fits", *one)
                         for end, one in zip(ends, parts) if one]  # fmt: skip
                counts["whole" if all(whole) else "partial"] += 1
        if not counts["whole"] + counts["partial"]:
            raise ValueError(
                f"none of the {len(names):,} positions of {table} lies in {mosaics[0]}; are they "
                "in degrees, and of its field?"
            )
        if out.is_dir():
            out.rmdir()
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    report(
        f"{out}: {counts['whole']:,} cut-outs of {size} x {size} pixels"
        + (f", {counts['partial']:,} partial, filled with NaN" if counts["partial"] else "")
        + (f"; {counts['outside']:,} positions outside" if counts["outside"] else "")
    )
    return counts


def positions(table: Path, id_column: str = "") -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names for files, each different, and positions in degrees, (N,) each."""
    known = catalogue.column_names(table)
    axes = [catalogue.usual_column(known, axis) for axis in ("ra", "dec")]
    if not all(axes):
        raise ValueError(
            f"{table} has no columns ra and dec, only {catalogue.listed(known, 12)}; name them so"
        )
    column = id_column or catalogue.usual_column(known, "id")
    frame = catalogue.read(table, [*axes, *([column] if column else [])], known)
    ra, dec = (catalogue.numbers_of(frame, axis, table) for axis in axes)
    if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
        lost = int((~np.isfinite(ra) | ~np.isfinite(dec)).sum())
        raise ValueError(f"{lost:,} rows of {table} have no position; take them out")
    if column:
        names = []
        for one in catalogue.text_of(frame[column]):
            base = one.replace("\\", "/").rpartition("/")[2]
            suffix = walk.suffix_of(base)
            known_suffix = walk.kind_of(base) != ""
            base = base[: len(base) - len(suffix)] if known_suffix else base
            names.append(NAME.sub("_", base))
    else:
        names = [f"{x:.6f}{y:+.6f}" for x, y in zip(ra, dec)]
    twice = [one for one, number in Counter(names).items() if number > 1 or not one]
    if twice:
        raise ValueError(
            f"{len(twice):,} ids of {table} are empty or there more than once "
            f"({catalogue.listed(twice, 3)}); name a column of ids that differ with --id-column"
        )
    return names, ra, dec


def _opened(path: Path, ra: np.ndarray, dec: np.ndarray, stack: ExitStack) -> Mosaic:
    """A mosaic and where positions lie in it. Plain values are read where they lie; those that
    stand for others (BSCALE, BLANK), or are packed, as a whole.
    """
    from astropy.coordinates import SkyCoord
    from astropy.io import fits
    from astropy.wcs import WCS, NoConvergence
    from astropy.wcs.utils import skycoord_to_pixel

    found, axes = (), 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that are older than the standard
            for mapped in (True, False):
                units = stack.enter_context(fits.open(path, memmap=mapped))
                images = [one for one in units if one.is_image and len(one.shape) == 2]
                axes = len(images)
                known = [(one, WCS(one.header, units)) for one in images]
                on_sky = [(one, wcs) for one, wcs in known if wcs.has_celestial]
                try:
                    found = on_sky and (on_sky[0][0].data, on_sky[0][1], on_sky[0][0].header)
                    break
                except ValueError:  # astropy's, for values that stand for others
                    if not mapped:
                        raise
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no mosaic {path}") from None
    except Exception as error:
        what = " ".join(str(error).split())
        raise ValueError(f"cannot read the mosaic {path} ({what}); is it a FITS image?") from error
    if not found:
        raise ValueError(
            f"{path} has {axes} image{'s' * (axes != 1)} of two axes and none with a celestial "
            "WCS, by which positions are found; solve its astrometry first (CTYPE1, CRVAL1, ...)"
        )
    try:
        x, y = skycoord_to_pixel(SkyCoord(ra, dec, unit="deg"), found[1], origin=0)
    except NoConvergence as error:  # of positions far from the field
        x, y = np.array(error.best_solution, dtype=np.float64).T
        for lost in (error.divergent, error.slow_conv):
            if lost is not None:
                x[lost] = y[lost] = np.nan
    image, wcs, header = found
    return Mosaic(image, wcs, header, np.atleast_1d(x), np.atleast_1d(y))


def _part(mosaic: Mosaic, row: int, size: int) -> "tuple[np.ndarray, WCS, Header, bool] | None":
    """The square around a position with its WCS, the mosaic's header, and whether all of it lies in
    the mosaic; None for one outside of it.
    """
    from astropy.nddata import Cutout2D
    from astropy.nddata.utils import NoOverlapError

    place = float(mosaic.x[row]), float(mosaic.y[row])
    if not np.isfinite(place).all():
        return None
    floating = mosaic.image.dtype.kind == "f"
    fill = np.nan if floating else 0
    try:
        found = Cutout2D(
            mosaic.image, place, size, mosaic.wcs, mode="partial", fill_value=fill, copy=True
        )
    except NoOverlapError:
        return None
    inside, values = found.slices_cutout, found.data
    whole = values[inside].shape == values.shape
    if not whole and not floating:  # integers have no NaN
        values = np.full(values.shape, np.nan, dtype=np.float32)
        values[inside] = found.data[inside]
    return values, found.wcs, mosaic.header, whole


def _write(path: Path, values: np.ndarray, wcs: "WCS", header: "Header", whole: bool) -> bool:
    """The cut-out as a file, with what the mosaic's header says beside its own WCS."""
    from astropy.io import fits

    own = header.copy()
    for name in {*own}:
        if OF_THE_MOSAIC.fullmatch(name):
            own.remove(name, ignore_missing=True, remove_all=True)
    own.update(wcs.to_header(relax=True))
    fits.PrimaryHDU(values, own).writeto(path, output_verify="silentfix")
    return whole

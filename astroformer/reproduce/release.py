"""`make release`: one archive with everything that stands behind a number, ready for Zenodo: the
sources of a commit with ledger and claims, the built pages, their executed copies, the PDF if one
was printed from these pages, how to cite them, and the SHA-256 of each file.

Whoever has it checks it by `astroformer reproduce --check ARCHIVE`. The same commit and the same
pages give the same archive, byte for byte.
"""

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import yaml

from ..version import __version__
from .check import SUMS, check
from .pages import BookError, Layout
from .pdf import NAME as PDF

ZENODO = ".zenodo.json"
NAME = "astroformer-re-examined"


def release(layout: Layout | None = None, *, profile: str = "smoke") -> Path:
    """Writes `_build/release/NAME-VERSION.tar.gz`. BookError for a checkout with changes, and for
    pages that are not built from it.
    """
    layout = layout or Layout()
    if changed := _git(layout, "status", "--porcelain").splitlines():
        raise BookError(
            f"the checkout has changes ({changed[0].strip()}"
            + (f" and {len(changed) - 1} more" if changed[1:] else "")
            + "); commit them, so that the archive has the sources of a commit"
        )
    found = check(profile=profile, layout=layout)
    if found.complaints:
        raise BookError(
            *found.complaints, "the pages are not those of this commit; run `make book`"
        )
    files = {
        name: layout.root / name
        for name in _git(layout, "ls-files", "-z").split("\0")
        if name and (layout.root / name).is_file()
    }
    for folder in (layout.html, layout.executed(profile)):
        for path in folder.rglob("*"):
            if path.is_file():
                files[path.relative_to(layout.root).as_posix()] = path
    if printed_from(layout):
        files[f"_build/{PDF}"] = layout.build / PDF
    contents = {name: path.read_bytes() for name, path in files.items()}
    contents[ZENODO] = zenodo(layout).encode()
    contents[SUMS] = "".join(
        f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents)
    ).encode()
    when = int(_git(layout, "log", "-1", "--format=%ct"))
    target = layout.build / "release" / f"{NAME}-{__version__}.tar.gz"
    target.parent.mkdir(parents=True, exist_ok=True)
    _pack(contents, target, when)
    return target


def printed_from(layout: Layout) -> bool:
    """Whether there is a PDF of the built pages: one that is older than a page is of others."""
    pdf, pages = layout.build / PDF, layout.html.rglob("*.html")
    newest = max((page.stat().st_mtime_ns for page in pages), default=0)
    return pdf.is_file() and pdf.stat().st_mtime_ns >= newest


def _pack(contents: dict[str, bytes], target: Path, when: int) -> None:
    """One folder in a tar, with neither owners nor times of this machine."""
    partial = target.with_name(target.name + ".partial")
    with (
        open(partial, "wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=when) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(contents):
            member = tarfile.TarInfo(f"{target.name.removesuffix('.tar.gz')}/{name}")
            member.size, member.mtime, member.mode = len(contents[name]), when, 0o644
            archive.addfile(member, io.BytesIO(contents[name]))
    partial.replace(target)


def zenodo(layout: Layout) -> str:
    """What Zenodo asks of a deposit, from CITATION.cff."""
    told = yaml.safe_load((layout.root / "CITATION.cff").read_text())
    creators = [
        {"name": one.get("name") or f"{one['family-names']}, {one['given-names']}"}
        | ({"orcid": one["orcid"].rpartition("/")[2]} if "orcid" in one else {})
        for one in told["authors"]
    ]
    related = [
        {"identifier": one["value"], "relation": "reviews", "resource_type": "publication-article"}
        for reference in told.get("references", ())
        for one in reference.get("identifiers", ())
    ]
    if url := told.get("repository-code"):
        related.append({"identifier": url, "relation": "isSupplementTo", "scheme": "url"})
    return json.dumps(
        {
            "title": told["title"],
            "description": " ".join(told["abstract"].split()),
            "upload_type": "software",
            "version": __version__,
            "license": told["license"],
            "creators": creators,
            "keywords": ["reproducibility", "galaxy morphology", "vision transformers"],
            "related_identifiers": related,
        },
        indent=1,
    )


def _git(layout: Layout, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=layout.root, capture_output=True, text=True)
    if done.returncode:
        raise BookError(f"git {words[0]} failed: {done.stderr.strip()}; release from a checkout")
    return done.stdout


def main() -> int:
    layout = Layout()
    try:
        target = release(layout)
    except BookError as error:
        print(error, file=sys.stderr)
        return 2
    if not printed_from(layout):
        print("no PDF of these pages is in it: `make pdf` prints one", file=sys.stderr)
    print(
        f"{target} ({target.stat().st_size / 1e6:.0f} MB); check it by "
        f"`astroformer reproduce --check {target}`"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Where the sources of the book are published, written into everything that leads a reader there:

    make address URL=https://github.com/OWNER/REPOSITORY BRANCH=main

- `_config.yml`: the buttons of the published pages (repository, issues, Binder, Colab).
- Each page: a first cell, not shown in the book, that installs the library where it is missing, as
  on Colab. Elsewhere it does nothing.
- `CITATION.cff`: the address to cite.

Without an address (URL=none) all of it goes again.
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import nbformat

from .pages import BookError, Layout, copies

TAG = "install"  # of the cell; `remove-cell` beside it keeps it out of the published page
CELL = """\
# Outside of a checkout, as on Colab, the library that this page calls is installed first.
import importlib.util
if importlib.util.find_spec("astroformer") is None:
    get_ipython().run_line_magic("pip", "install --quiet '{package}'")"""
BINDER, COLAB = "https://mybinder.org", "https://colab.research.google.com"
# The parts of an address: letters that need no quoting in a link, in YAML or in a requirement.
PART = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Address:
    """`url`: https://HOST/OWNER/REPOSITORY; `branch`: of the sources as they are published."""

    url: str
    branch: str = "main"

    def __post_init__(self) -> None:
        told = urlsplit(self.url)
        parts = told.path.strip("/").split("/")
        plain = told.scheme == "https" and not (told.query or told.fragment or "@" in told.netloc)
        named = len(parts) == 2 and all(map(PART.fullmatch, [told.netloc, *parts]))
        if not plain or not named:
            raise BookError(
                f"{self.url!r} is no address of sources: give https://HOST/OWNER/REPOSITORY"
            )
        if not all(PART.fullmatch(part) for part in self.branch.split("/")):
            raise BookError(f"{self.branch!r} is no name of a branch")
        whole = f"https://{told.netloc}/{'/'.join(parts)}".removesuffix(".git")
        object.__setattr__(self, "url", whole)

    @property
    def package(self) -> str:
        """What pip installs: the library with what executes pages."""
        return f"astroformer[book] @ git+{self.url}@{self.branch}"


def write(layout: Layout, address: Address | None, package: str | None = None) -> list[Path]:
    """Write the address, or none, into the sources; the files that changed.

    package: what the first cell installs instead, a requirement as pip reads it
    """
    texts = {layout.config: configured(layout.config.read_text(), address)}
    citation = layout.root / "CITATION.cff"
    if citation.is_file():
        texts[citation] = cited(citation.read_text(), address)
    for page in sorted(layout.book.glob("*.ipynb")):
        texts[page] = with_cell(page.read_text(), address and (package or address.package))
    changed = [path for path, text in texts.items() if path.read_text() != text]
    for path in changed:
        path.write_text(texts[path])
    return changed


def configured(text: str, address: Address | None) -> str:
    """Jupyter Book's configuration with the address: four lines of it."""
    shown = "true" if address else "false"
    hubs = {}
    if address:
        hubs["binderhub_url"] = BINDER
        if urlsplit(address.url).netloc == "github.com":  # what Colab opens
            hubs["colab_url"] = COLAB
    buttons = {"notebook_interface": "jupyterlab", "thebe": "false", **hubs}
    told = ", ".join(f"{name}: {value}" for name, value in buttons.items())
    url, branch = (address.url, address.branch) if address else ("", "main")
    lines = {
        "repository": f'{{url: "{url}", branch: "{branch}"}}',
        "use_repository_button": shown,
        "use_issues_button": shown,
        "launch_buttons": f"{{{told}}}",
    }
    for name, value in lines.items():
        text, found = re.subn(
            rf"^( *{name}: )[^#\n]*?( *#.*)?$",
            lambda line, value=value: f"{line[1]}{value}{line[2] or ''}",
            text,
            flags=re.MULTILINE,
        )
        if found != 1:
            raise BookError(f"_config.yml has {found} lines `{name}: ...` and must have one")
    return text


def cited(text: str, address: Address | None) -> str:
    """CITATION.cff with the address of the sources, above the references."""
    text = re.sub(r"^repository-code: .*\n", "", text, flags=re.MULTILINE)
    line = f'repository-code: "{address.url}"\n' if address else ""
    return re.sub(r"^(?=license: )", line, text, flags=re.MULTILINE)


def with_cell(text: str, package: str | None) -> str:
    """A page with the cell that installs `package` below its title; None: without such a cell."""
    page = json.loads(text)
    cells = [cell for cell in page["cells"] if TAG not in cell["metadata"].get("tags", [])]
    if package:
        tags = [TAG, "remove-cell"]
        cell = nbformat.v4.new_code_cell(
            CELL.format(package=package), id=TAG, metadata={"tags": tags}
        )
        cells.insert(1, cell | {"source": cell.source.splitlines(keepends=True)})
    page["cells"] = cells
    return json.dumps(page, indent=1, ensure_ascii=False) + "\n"


def lead_to_sources(layout: Layout, html: Path) -> None:
    """The buttons of a page that is one of several copies lead to the notebook of all of them: the
    copy itself is in no repository.
    """
    for document, page in copies(layout).items():
        built = html / f"{document}.html"
        if built.is_file():
            source = f"{document.rpartition('/')[0]}/{page.source.name}"
            link = re.compile(
                rf'(href="(?:{re.escape(BINDER)}|{re.escape(COLAB)})/[^"]*/)'
                rf'{re.escape(document)}\.ipynb(?=")'
            )
            text = built.read_text()
            if (led := link.sub(lambda found, to=source: found[1] + to, text)) != text:
                built.write_text(led)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m astroformer.reproduce.address",
        description="Write where the sources are published into the book's configuration, its "
        "pages and CITATION.cff.",
    )
    parser.add_argument("url", help="https://HOST/OWNER/REPOSITORY, or none")
    parser.add_argument("--branch", default="main")
    told, layout = parser.parse_args(words), Layout()
    try:
        address = None if told.url == "none" else Address(told.url, told.branch)
        changed = write(layout, address)
    except BookError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(changed)} files changed; look at `git diff`, then build the book and commit")
    return 0


if __name__ == "__main__":
    sys.exit(main())

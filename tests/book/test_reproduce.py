"""`reproduce` on a book of three small pages: what it executes and why, what a failing page
does, what it refuses.
"""

import json
import shutil
import signal
import subprocess
import threading
import time

import nbformat
import pytest

from astroformer.reproduce import BookError, Layout, execute, plan, read_book, reproduce, run
from astroformer.reproduce.screenshots import find_browser, look_at_book

TOC = """\
format: jb-book
root: book/index
chapters:
  - file: book/plain
  - file: book/reader
  - file: book/trainer
"""
PARAMETERS = 'profile: str = "smoke"  # which profile runs\nnumber: int = 1'


def write_page(book, name, *cells, trains=False):
    """A notebook with a title, a parameters cell and the given code cells, without outputs."""
    parameters = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(
        metadata={"astroformer": {"trains": True}} if trains else {}
    )
    notebook.cells = [
        nbformat.v4.new_markdown_cell(f"# {name}"),
        parameters,
        *map(nbformat.v4.new_code_cell, cells),
    ]
    nbformat.write(notebook, book / f"{name}.ipynb")


@pytest.fixture
def layout(tmp_path):
    """A checkout in small: three pages, one library file, a ledger, a lock file."""
    for folder in ("book/ledger", "book/_static", "astroformer"):
        (tmp_path / folder).mkdir(parents=True)
    layout = Layout(tmp_path)
    layout.toc.write_text(TOC)
    layout.config.write_text((Layout().config).read_text())
    (layout.book / "index.md").write_text("# A small book\n\nWith a formula, $x^2$.\n")
    (layout.book / "references.bib").write_text("")
    shutil.copytree(Layout().book / "_static", layout.book / "_static", dirs_exist_ok=True)
    write_page(layout.book, "plain", "print('plain line', number)", "number + 1")
    write_page(
        layout.book,
        "reader",
        "from pathlib import "
        "Path\nprint(len(list(Path('ledger').rglob('*.jsonl'))), "
        "'record files')",
    )
    write_page(
        layout.book,
        "trainer",
        "from pathlib import "
        "Path\nPath('ledger/local').mkdir(exist_ok=True)\n"
        "Path('ledger/local/run.jsonl').write_text('{}')\nprint('epoch 1')",
        trains=True,
    )
    (layout.library / "part.py").write_text("x = 1\n")
    (layout.ledger / "committed.jsonl").write_text("{}\n")
    layout.claims.write_text("claim,value\n")
    layout.lock.write_text("torch==2.15\n")
    return layout


@pytest.fixture
def executed(layout, monkeypatch):
    """Names of the pages executed since the last look; execution itself is replaced by a copy,
    and so is the HTML.
    """
    names = []

    def copy_instead(layout, page, parameters, copy):
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(page.source.read_text())
        names.append(page.name)
        return None, 0.0

    monkeypatch.setattr(run, "execute", copy_instead)
    monkeypatch.setattr(run, "build", lambda layout, strict: True)

    def look(**options):
        names.clear()
        assert reproduce(layout=layout, **options) == 0
        return list(names)

    return look


def test_a_book_is_executed_built_and_then_left_alone(layout, capfd):
    subprocess.run(
        "git init -q && printf '/_build/\\nbook/ledger/local/\\n' > .gitignore && git add -A",
        shell=True,
        cwd=layout.root,
        check=True,
    )
    assert reproduce(layout=layout) == 0
    out = capfd.readouterr().out
    assert out.splitlines()[0] == "[1/3] trainer: executing (first execution)"
    assert "      trainer: epoch 1" in out and "      plain: plain line 1" in out
    assert "2 record files" in out, "the reading page runs after the page that trains"
    assert (
        out.splitlines()[-1]
        == "The book lies in _build/html/index.html; open it in a browser or run `make serve`."
    )
    html = (layout.html / "book" / "plain.html").read_text()
    assert "plain line 1" in html and "which profile runs" not in html
    assert "book/index.html" in (layout.html / "index.html").read_text()
    offered = json.loads((layout.html / "_sources" / "book" / "plain.ipynb").read_text())
    assert "papermill" not in str(offered)
    code = [cell for cell in offered["cells"] if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] for cell in code), "the page shows what came of it"

    assert reproduce(layout=layout) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if "up to date" not in line] == lines[-1:], (
        "a second call executes and builds nothing"
    )
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=layout.root, capture_output=True, text=True
    ).stdout
    assert {line[:2] for line in status.splitlines()} == {"A "}, (
        "nothing is written outside what git ignores"
    )


def test_a_failing_page_is_named_and_the_others_are_built(layout, capfd):
    write_page(
        layout.book,
        "plain",
        "fine = 1",
        "first = fine\nraise ValueError('no such galaxy')",
        "print('never reached')",
    )
    assert reproduce(layout=layout) == 1
    out = capfd.readouterr().out
    tail = out[out.index("\nplain failed at") :]
    assert "plain failed at cell In [4]:\n      first = fine\n      raise ValueError" in tail
    assert "ValueError: no such galaxy" in tail and "_build/executed/smoke/plain.ipynb" in tail
    assert (layout.executed("smoke") / "plain.ipynb").is_file()
    assert "record files" in (layout.html / "book" / "reader.html").read_text()
    failing = (layout.html / "book" / "plain.html").read_text()
    assert "This page failed" in failing and "no such galaxy" in failing
    assert "<title>plain" in failing, "the page keeps its own title"

    assert reproduce(layout=layout) == 1
    assert "plain: executing (its last execution failed)" in capfd.readouterr().out


def test_a_warning_of_sphinx_leaves_the_older_book(layout, capsys):
    write_toc(layout, "index")
    assert reproduce(layout=layout) == 0
    before = (layout.html / "book" / "index.html").read_text()
    (layout.book / "index.md").write_text(
        "# A small book\n\nA dangling {ref}`reference-to-nothing`.\n"
    )
    assert reproduce(layout=layout) == 1
    out = capsys.readouterr().out
    assert "book/index.md" in out and "reference-to-nothing" in out and "left as it is" in out
    assert (layout.html / "book" / "index.html").read_text() == before


def write_toc(layout, *names):
    layout.toc.write_text(
        f"format: jb-book\nroot: book/{names[0]}\n"
        + "chapters:\n" * bool(names[1:])
        + "".join(f"  - file: book/{name}\n" for name in names[1:])
    )


WIDE_PAGE = """# A wide page

$$ {formula} $$

| {cells} |
|{rule}|
| {cells} |

```python
{code}
```
""".format(
    formula=" + ".join(f"x_{{{i}}}" for i in range(80)),
    cells=" | ".join(["a_long_word_in_a_cell"] * 12),
    rule="---|" * 11 + "---",
    code="x = " + " + ".join(["1"] * 80),
)


@pytest.mark.browser
def test_a_built_page_asks_no_other_host_and_fits_a_narrow_window(layout):
    browser = find_browser()
    if browser is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    write_toc(layout, "index")
    (layout.book / "index.md").write_text(WIDE_PAGE)
    assert reproduce(layout=layout) == 0
    looks = look_at_book(layout.html, ["book/index"], layout.build / "look", browser)
    assert len(looks) == 4 and all(found.shot.stat().st_size > 10_000 for found in looks)
    assert [found.complaints for found in looks if found.complaints] == []

    page = layout.html / "book" / "index.html"
    page.write_text(
        page.read_text().replace(
            "<h1>A wide",
            "<script src='http://127.0.0.1:9/x.js'></script><script>broken()</script>"
            "<div style='width: 700px'>wide</div><h1>A wide",
        )
    )
    narrow = look_at_book(layout.html, ["book/index"], layout.build / "look", browser)[-1]
    complaints = "\n".join(narrow.complaints)
    assert (
        "another host: http://127.0.0.1:9/x.js" in complaints
        and "Uncaught ReferenceError" in complaints
    )
    assert "wider than the window" in complaints and "pixels: wide" in complaints


def test_two_builds_of_the_same_pages_are_equal_byte_for_byte(layout):
    write_toc(layout, "index", "plain")
    books = []
    for _ in range(2):
        assert reproduce(layout=layout, force=True) == 0
        books.append(
            {
                path.relative_to(layout.html): path.read_bytes()
                for path in layout.html.rglob("*")
                if path.is_file()
            }
        )
        layout.state("book.json").unlink()
    assert books[0] == books[1]


def test_a_page_whose_kernel_dies_is_named_with_its_cell(layout, tmp_path):
    write_page(layout.book, "plain", "fine = 1", "import os\nos._exit(1)")
    page = next(page for page, _ in plan(layout=layout) if page.name == "plain")
    with execute.kernel_environment(layout):
        failure, _ = execute.execute(layout, page, {}, tmp_path / "out" / "plain.ipynb")
    assert (
        failure.cell == "cell In [3]"
        and "os._exit" in failure.source
        and "died" in failure.error.lower()
    )


def touch_source(layout):
    write_page(layout.book, "plain", "print('another line')")


def touch_parameters(layout):
    layout.profiles.write_text("smoke: {reader: {number: 2}}\n")


def touch_library(layout):
    (layout.library / "part.py").write_text("x = 2\n")


def touch_lock(layout):
    layout.lock.write_text("torch==2.16\n")


def touch_committed_ledger(layout):
    (layout.ledger / "gpu.jsonl").write_text("{}\n")


def touch_kept_filters(layout):
    (layout.ledger / "filters").mkdir()
    (layout.ledger / "filters" / "kept.npz").write_bytes(b"1")


def touch_local_predictions(layout):
    (layout.ledger / "local" / "predictions").mkdir(parents=True)
    (layout.ledger / "local" / "predictions" / "mine.npz").write_bytes(b"1")


def touch_local_ledger(layout):
    (layout.ledger / "local").mkdir()
    (layout.ledger / "local" / "mine.jsonl").write_text("{}\n")


def remove_a_copy(layout):
    (layout.executed("smoke") / "plain.ipynb").unlink()


@pytest.mark.parametrize(
    "change, pages, why",
    [
        (touch_source, ["plain"], "source changed"),
        (touch_parameters, ["reader"], "parameters changed: number default -> 2"),
        (touch_library, ["trainer", "plain", "reader"], "library changed: astroformer/part.py"),
        (touch_lock, ["trainer", "plain", "reader"], "dependencies changed: requirements.lock"),
        (
            touch_committed_ledger,
            ["trainer", "plain", "reader"],
            "ledger changed: book/ledger/gpu.jsonl",
        ),
        (
            touch_kept_filters,
            ["trainer", "plain", "reader"],
            "ledger changed: book/ledger/filters/kept.npz",
        ),
        (touch_local_ledger, ["plain", "reader"], "ledger changed: book/ledger/local/mine.jsonl"),
        (
            touch_local_predictions,
            ["plain", "reader"],
            "ledger changed: book/ledger/local/predictions/mine.npz",
        ),
        (remove_a_copy, ["plain"], "its executed copy is missing"),
    ],
)
def test_a_change_executes_exactly_the_pages_it_concerns(
    layout, executed, capsys, change, pages, why
):
    assert executed()[0] == "trainer"  # the others side by side
    assert executed() == []
    change(layout)
    capsys.readouterr()
    assert sorted(executed()) == sorted(pages)
    assert f"{pages[0]}: executing ({why})" in capsys.readouterr().out
    assert executed() == []


def test_one_page_can_be_chosen_and_forced(layout, executed, capsys):
    assert executed(only=["reader"]) == ["reader"]
    assert executed(only=["reader"]) == []
    assert executed(only=["reader"], force=True) == ["reader"]
    assert "[1/1] reader: executing (forced)" in capsys.readouterr().out


def test_a_book_of_which_only_one_page_was_executed_says_so(layout, capsys):
    (layout.book / "index.md").write_text(
        "# A small book\n\nA number of a page not executed: {glue:}`plain.ipynb::number`.\n"
    )
    assert reproduce(layout=layout, only=["reader"]) == 0
    assert "record files" in (layout.html / "book" / "reader.html").read_text()
    assert "This page has not been executed" in (layout.html / "book" / "plain.html").read_text()


def test_ctrl_c_keeps_what_was_executed(layout, executed, monkeypatch, capsys):
    fake = run.execute

    def stop_at_reader(layout, page, parameters, copy):
        if page.name == "reader":
            raise KeyboardInterrupt
        return fake(layout, page, parameters, copy)

    monkeypatch.setattr(run, "execute", stop_at_reader)
    # side by side, the page beside it might be done or not
    monkeypatch.setattr(run, "MOST_LANES", 1)
    assert reproduce(layout=layout) == run.INTERRUPTED
    assert "the same command goes on from here" in capsys.readouterr().err
    monkeypatch.setattr(run, "execute", fake)
    assert executed() == ["reader"]


def test_pages_that_train_come_alone_and_before_all_others(layout, monkeypatch):
    running, seen, lock = set(), {}, threading.Lock()

    def watched(layout, page, parameters, copy):
        with lock:
            running.add(page.name)
        time.sleep(0.3)
        with lock:
            seen[page.name] = set(running)
            running.discard(page.name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(page.source.read_text())
        return None, 0.0

    monkeypatch.setattr(run, "execute", watched)
    monkeypatch.setattr(run, "build", lambda layout, strict: True)
    monkeypatch.setattr(run.os, "cpu_count", lambda: 2)
    assert reproduce(layout=layout) == 0
    assert list(seen)[0] == "trainer" and seen["trainer"] == {"trainer"}
    assert {"plain", "reader"} in seen.values()  # two cores, two pages


def test_an_interrupt_ends_the_kernel_of_a_page_and_leaves_its_older_copy(layout, monkeypatch):
    monkeypatch.setattr(run, "build", lambda layout, strict: True)
    copy = layout.executed("smoke") / "plain.ipynb"
    assert reproduce(layout=layout, only=["plain"]) == 0
    older = copy.read_bytes()
    cells = nbformat.read(layout.book / "plain.ipynb", as_version=4)
    cells.cells[-1].source = "import time\ntime.sleep(60)"
    nbformat.write(cells, layout.book / "plain.ipynb")
    began = time.monotonic()
    threading.Timer(6, signal.raise_signal, [signal.SIGINT]).start()
    # a shell lets what it starts in the background ignore it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert reproduce(layout=layout, only=["plain"]) == run.INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 50 and copy.read_bytes() == older


@pytest.mark.parametrize(
    "profiles, complaint",
    [
        (
            "smoke: {plain: {nummer: 2}}",
            "plain.ipynb has no parameter named nummer; it has: profile, number",
        ),
        (
            "smoke: {plaine: {number: 2}}",
            "no page named plaine; the pages are index, plain, reader, trainer",
        ),
        ("smok: {}", "names the profile smok; the profiles are smoke, gpu, paper"),
        (r'"sm\n\rok": {}', "names the profile sm ok; the profiles are smoke, gpu, paper"),
        (r'paper: {"pla\u2028ine\r": {}}', "no page named pla ine ; the pages are"),
        ("paper: {plain: {nummer: 2}}", "paper, plain: plain.ipynb has no parameter"),
    ],
)
def test_an_unknown_name_in_the_profiles_is_refused_before_anything_runs(
    layout, capsys, profiles, complaint
):
    layout.profiles.write_text(profiles)
    assert reproduce(layout=layout) == run.REFUSED
    streams = capsys.readouterr()
    assert complaint in streams.err and streams.err.count("\n") == 1 and not streams.out
    assert not layout.build.exists()


@pytest.mark.parametrize(
    "options, complaint",
    [
        (
            {"only": ["galaxy"]},
            "no page named galaxy to execute; the pages are trainer, plain, reader",
        ),
        ({"profile": "fast"}, "no profile named fast; choose one of smoke, gpu, paper"),
    ],
)
def test_an_unknown_page_or_profile_in_the_request_is_refused(layout, capsys, options, complaint):
    assert reproduce(layout=layout, **options) == run.REFUSED
    assert capsys.readouterr().err.strip() == complaint


def test_a_gpu_profile_without_cuda_prints_its_plan_and_refuses(layout, capsys, monkeypatch):
    monkeypatch.setattr(run, "cuda_available", lambda: False)
    layout.profiles.write_text("gpu: {trainer: {number: 90}}")
    assert reproduce("gpu", layout=layout) == run.REFUSED
    streams = capsys.readouterr()
    assert "trainer: profile='gpu', number=90" in streams.out
    assert streams.err.startswith(
        "profile gpu needs a CUDA device and torch sees none; use PROFILE=smoke"
    )
    assert not layout.build.exists()


def test_injected_parameters_are_shown_on_request_only_where_they_say_something(layout):
    from astroformer.reproduce.stage import staged_notebook

    page = next(page for page, _ in plan(layout=layout) if page.name == "plain")
    copy = layout.root / "copy.ipynb"
    notebook = nbformat.read(page.source, as_version=4)
    notebook.cells.insert(
        2, nbformat.v4.new_code_cell("profile = 'gpu'", metadata={"tags": ["injected-parameters"]})
    )
    nbformat.write(notebook, copy)
    for parameters, tag in (
        ({"profile": "gpu"}, "remove-input"),
        ({"profile": "gpu", "number": 2}, "hide-input"),
    ):
        staged = staged_notebook(page, copy, parameters, None)
        assert (
            tag in staged.cells[2].metadata.tags and "remove-input" in staged.cells[1].metadata.tags
        )
        assert json.loads(nbformat.writes(staged))["cells"][2]["id"] == "cell-2"


# One notebook, executed as several pages

TITLES = {"rocks": "Rocks", "sand": "Sand and dust"}
WORDS = (
    "See {numref}`fig-kinds`, {ref}`words <fig-kinds>`, [there](#here) and {ref}`elsewhere "
    "<fig-other>`.\n\n(here)=\n## Here"
)
DRAW = (
    'from IPython.display import Markdown, SVG\nSVG(\'<svg xmlns="http://www.w3.org/2000/svg" '
    'width="9" height="9"/>\') if {} else Markdown(\'nothing\')'
)


@pytest.fixture
def two_copies(layout):
    """`plain` beside a notebook that is executed once for each of two values."""
    cells = [
        nbformat.v4.new_markdown_cell("# Generic\n\nFirst words."),
        nbformat.v4.new_code_cell(
            'profile: str = "smoke"\nkind: str = "rocks"\nnumber: int = 1',
            metadata={"tags": ["parameters"]},
        ),
        nbformat.v4.new_markdown_cell(WORDS.replace("{ref}`elsewhere <fig-other>`", "nowhere")),
        nbformat.v4.new_code_cell(
            DRAW.format("True"),
            metadata={"mystnb": {"figure": {"caption": "A square.", "name": "fig-kinds"}}},
        ),
        nbformat.v4.new_code_cell(
            DRAW.format("kind == 'sand'"),
            metadata={"mystnb": {"figure": {"caption": "Or not.", "name": "fig-maybe"}}},
        ),
        nbformat.v4.new_code_cell(
            "print('only on sand') if kind == 'sand' else None", metadata={"tags": ["optional"]}
        ),
        nbformat.v4.new_code_cell("print('about', kind, number)"),
    ]
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata={"astroformer": {"each": {"kind": TITLES}}}),
        layout.book / "each.ipynb",
    )
    write_toc(layout, "index", "each_rocks", "plain", "each_sand")
    return layout


def test_a_notebook_becomes_a_page_for_each_declared_value(two_copies, capsys):
    two_copies.profiles.write_text("smoke: {each: {number: 7}, each_sand: {number: 8}}\n")
    assert reproduce(layout=two_copies) == 0
    shown = {
        name: (two_copies.html / "book" / f"{name}.html").read_text()
        for name in ("each_rocks", "each_sand")
    }
    assert "about rocks 7" in shown["each_rocks"] and "about sand 8" in shown["each_sand"]
    assert "<title>Rocks" in shown["each_rocks"] and "<title>Sand and dust" in shown["each_sand"]
    for name, html in shown.items():
        assert f'href="#fig-kinds-{name.replace("_", "-")}"' in html, (
            "a reference stays on its own page"
        )
    assert "only on sand" not in shown["each_rocks"], (
        "an optional cell without an output is left out, with its source"
    )
    assert shown["each_sand"].count("only on sand") == 2, "source and output"
    assert "Or not." in shown["each_sand"]
    assert "Or not." not in shown["each_rocks"] and "nothing" in shown["each_rocks"], (
        "words are no figure, and have no caption"
    )
    capsys.readouterr()
    assert reproduce(layout=two_copies, only=["each_sand"], force=True) == 0
    assert "[1/1] each_sand: executing (forced)" in capsys.readouterr().out


def test_the_copies_of_a_notebook_are_stale_together_and_chosen_by_its_name(two_copies, executed):
    assert sorted(executed()) == ["each_rocks", "each_sand", "plain"]
    source = two_copies.book / "each.ipynb"
    source.write_text(source.read_text().replace("First words", "Other words"))
    assert sorted(executed()) == ["each_rocks", "each_sand"]
    assert sorted(executed(only=["each"], force=True)) == ["each_rocks", "each_sand"]


def test_labels_of_a_copy_are_its_own_and_those_of_other_pages_stay(two_copies, tmp_path):
    from astroformer.reproduce.stage import staged_notebook

    pages = {page.name: page for page, _ in plan(layout=two_copies)}
    notebook = nbformat.read(pages["each_sand"].source, as_version=4)
    notebook.cells[2].source = WORDS
    nbformat.write(notebook, tmp_path / "copy.ipynb")
    staged = staged_notebook(pages["each_sand"], tmp_path / "copy.ipynb", {"kind": "sand"}, None)
    assert staged.cells[0].source == "# Sand and dust\n\nFirst words."
    assert staged.cells[2].source == (
        "See {numref}`fig-kinds-each-sand`, {ref}`words "
        "<fig-kinds-each-sand>`, [there](#here-each-sand) and "
        "{ref}`elsewhere <fig-other>`.\n\n(here-each-sand)=\n## Here"
    )
    assert staged.cells[3].metadata["mystnb"]["figure"]["name"] == "fig-kinds-each-sand"


@pytest.mark.parametrize(
    "name", ["Untitled", "each-Copy1", "each_rocks_old", "._each", ".~each", "pla"]
)
@pytest.mark.parametrize("content", [b"", b"[]", b"\x00\x05\x16\x07\xff", "each"])
def test_a_notebook_that_the_table_of_contents_does_not_list_is_left_alone(
    two_copies, name, content
):
    before = [page.document for page in read_book(two_copies)]
    content = (two_copies.book / "each.ipynb").read_bytes() if content == "each" else content
    (two_copies.book / f"{name}.ipynb").write_bytes(content)
    assert [page.document for page in read_book(two_copies)] == before


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe"])
@pytest.mark.parametrize("name", ["plain", "each"])
def test_a_listed_notebook_that_is_none_is_named(two_copies, name, content):
    (two_copies.book / f"{name}.ipynb").write_bytes(content)
    with pytest.raises(BookError, match=f"{name}.ipynb is not a notebook"):
        read_book(two_copies)


@pytest.mark.parametrize(
    "listed, each, complaint",
    [
        (
            ["each_rocks", "plain"],
            {"kind": TITLES},
            "each.ipynb is executed as each_sand, too, which "
            "_toc.yml does not list: add `- file: "
            "book/each_sand`",
        ),
        (
            ["each_rocks", "each_sand", "each_dust"],
            {"kind": TITLES},
            "lists book/each_dust, but "
            "neither .ipynb nor .md exists "
            "and no notebook is executed "
            "as it",
        ),
        (
            ["each_rocks", "each_sand", "each"],
            {"kind": TITLES},
            "lists book/each, which is executed once for each kind: list its copies instead",
        ),
        (
            ["each_rocks", "each_sand"],
            {"kinds": TITLES},
            "each.ipynb is executed for each kinds, but has no parameter of that name",
        ),
        (
            ["each_rocks", "each_sand"],
            {"kind": ["rocks", "sand"]},
            'its metadata astroformer.each must be {"parameter": {"value": "Title", ...}}',
        ),
    ],
)
def test_copies_that_do_not_fit_the_table_of_contents_are_refused(
    two_copies, capsys, listed, each, complaint
):
    notebook = nbformat.read(two_copies.book / "each.ipynb", as_version=4)
    notebook.metadata["astroformer"]["each"] = each
    nbformat.write(notebook, two_copies.book / "each.ipynb")
    write_toc(two_copies, "index", *listed)
    assert reproduce(layout=two_copies) == run.REFUSED
    assert complaint in capsys.readouterr().err


def test_a_profile_cannot_change_what_tells_copies_apart(two_copies, capsys):
    two_copies.profiles.write_text("gpu: {each_sand: {kind: rocks}}\n")
    assert reproduce(layout=two_copies) == run.REFUSED
    assert "kind is what tells the copies of each.ipynb apart" in capsys.readouterr().err


def test_the_paper_profile_says_its_price_and_begins_only_when_that_was_read(
    layout, capsys, monkeypatch
):
    monkeypatch.setattr(run, "cuda_available", lambda: False)
    layout.profiles.write_text("paper: {trainer: {number: 90}}")
    assert reproduce("paper", layout=layout) == run.REFUSED
    streams = capsys.readouterr()
    assert "trainer: profile='paper', number=90" in streams.out
    assert "add --yes" in streams.err and "needs a CUDA" not in streams.err
    assert reproduce("paper", yes=True, layout=layout) == run.REFUSED
    assert "needs a CUDA" in capsys.readouterr().err

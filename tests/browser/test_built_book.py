"""Every page of the built book in Debian's chromium, as a reader has it: wide and narrow, light and
dark, by keyboard, in print, below a sub-path and from a file.

`make test-browser` runs this after `make book`. Reads top to bottom: what is served and to whom,
each page, what a reader does.
"""

import contextlib
import functools
import io
import re
from pathlib import Path

import axe_playwright_python
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from astroformer import paths
from astroformer.reproduce.figures_of_pages import LEAST_LETTERS, letters, width_of
from astroformer.reproduce.screenshots import OPTIONS, OVERFLOW, STILL, find_browser, served

HTML = paths.BUILD / "html"
CHROMIUM = find_browser()

pytestmark = [pytest.mark.browser, pytest.mark.built]

SUB_PATH = "some/sub/path"
WIDE, NARROW = 1400, 400  # CSS pixels: a laptop, a telephone
LOOKS = [(width, theme) for width in (WIDE, NARROW) for theme in ("light", "dark")]
PAPER = 718  # CSS pixels: A4 less its margins
PATIENCE = 120_000  # milliseconds; a page of plots on a busy machine
MOST_BYTES = 2_000_000  # of a page with all that it loads
MOST_BYTES_OF_PLOTS = 6_000_000
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
PROBES = Path(__file__).with_name("probes.js").read_text()

FIRST = "book/index.html"
PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in (*HTML.glob("*.html"), *HTML.glob("book/*.html"))
    if path != HTML / "index.html"  # which only leads to the first page
)


@functools.cache
def text_of(page: str) -> str:
    return (HTML / page).read_text()


def first_with(words: str) -> str:
    """The first page whose HTML has these words."""
    page = next((page for page in PAGES if words in text_of(page)), None)
    if page is None:
        pytest.skip(f"no page has {words}")
    return page


@pytest.fixture(scope="session", autouse=True)
def _needed():
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed (apt-get install chromium)")
    if not (HTML / "index.html").is_file():
        pytest.skip("There is no book yet: run `make book` first.")


# What is served and to whom.


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """The book below a sub-path, as on a server with other things."""
    root = tmp_path_factory.mktemp("server")
    place = root / SUB_PATH
    place.parent.mkdir(parents=True)
    place.symlink_to(HTML)
    with served(root) as server:
        yield f"{server}/{SUB_PATH}"


@pytest.fixture(scope="session")
def browser():
    own = [word for word in OPTIONS if "pipe" not in word and word != "--headless"]
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=own)
        yield chromium
        chromium.close()


class Tab:
    """A tab, and what went wrong in it since its page was opened."""

    def __init__(self, browser, width, theme):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
        )
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"uncaught {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", lambda one: self.wrong.append(f"not loaded: {one.url}"))
        self.page.on("response", self._response)

    def _console(self, message):
        if message.type == "error":
            self.wrong.append(f"console: {message.text}")

    def _response(self, response):
        if response.status >= 400:
            self.wrong.append(f"{response.status}: {response.url}")

    def open(self, address, page):
        """Opens a page of the book, and waits until formulas and plots are drawn."""
        self.page.goto("about:blank")  # or the page before goes on
        self.wrong.clear()
        self.asked.clear()
        self.address = address
        self.page.goto(f"{address}/{page}")
        self.page.evaluate(f"window.probes = {PROBES}")
        self.page.evaluate(STILL)
        self.page.evaluate("probes.settled()")

    def probe(self, call):
        return self.page.evaluate(f"probes.{call}")

    def strangers(self):
        """Requests that leave the book."""
        own = (f"{self.address}/", "data:", "blob:", "about:")
        return [f"asks another host: {url}" for url in self.asked if not url.startswith(own)]

    def weight(self):
        """Bytes of all files that the page has asked for."""
        names = {
            re.split("[?#]", url)[0].removeprefix(f"{self.address}/")
            for url in self.asked
            if url.startswith(f"{self.address}/")
        }
        files = [HTML / name for name in names]
        return sum(file.stat().st_size for file in files if file.is_file())


@pytest.fixture(scope="session")
def tabs(browser):
    """A tab for each width and theme, made when it is first asked for."""
    made: dict[tuple[int, str], Tab] = {}

    def tab(width=WIDE, theme="light"):
        if (width, theme) not in made:
            made[width, theme] = Tab(browser, width, theme)
        return made[width, theme]

    yield tab
    for one in made.values():
        one.context.close()


@contextlib.contextmanager
def in_print(page):
    """On paper, as far as the style sheets know."""
    size = page.viewport_size
    page.emulate_media(media="print")
    page.set_viewport_size({"width": PAPER, "height": 1000})
    yield
    page.emulate_media(media="screen")
    page.set_viewport_size(size)


# Each page.


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_all_to_all_readers_and_asks_no_other_host(tabs, address, name):
    found = []
    for width, theme in LOOKS:
        tab = tabs(width, theme)
        tab.open(address, name)
        tab.probe("open()")
        lines = [*tab.wrong, *tab.strangers(), *tab.probe("wide()")]
        if overflow := tab.page.evaluate(OVERFLOW):
            lines.append(overflow)
        if tab.page.evaluate("document.documentElement.dataset.theme") != theme:
            lines.append("the page does not follow the reader's theme")
        if width == WIDE and theme == "light":
            lines += tab.probe("cut()")
        # a theme differs from the other in its colours alone
        lines += inaccessible(tab, ["colours"] if theme == "dark" else ["structure", "colours"])
        found += [f"{name}, {width} pixels, {theme}: {line}" for line in lines]
    most = MOST_BYTES_OF_PLOTS if "vendor/plotly" in text_of(name) else MOST_BYTES
    if (weight := tabs().weight()) > most:
        found.append(f"{name}: loads {weight / 1e6:.2f} MB of at most {most / 1e6:.0f}")
    assert not found, "\n" + "\n".join(found)


def inaccessible(tab, asked):
    """What axe-core finds serious or critical."""
    tab.page.evaluate(AXE)
    return [line for what in asked for line in tab.probe(f"axeFindings('{what}')")]


WITH_FIGURES = [name for name in PAGES if 'class="drawn"' in text_of(name)]


@pytest.mark.parametrize("name", WITH_FIGURES)
def test_letters_of_figures_can_be_read_on_a_telephone(tabs, address, name):
    tab = tabs(NARROW)
    tab.open(address, name)
    images = tab.page.locator(".drawn .only-light").all()
    small = []
    for image in images:
        told = re.search("[0-9a-f]{64}", image.get_attribute("src"))
        drawing = (HTML / "_images" / f"{told[0]}.svg").read_text()
        width = image.bounding_box()["width"]
        shown = min(letters(drawing), default=width_of(drawing)) * width / width_of(drawing)
        if shown < LEAST_LETTERS:
            small.append(f"{image.get_attribute('alt')}: letters of {shown:.1f} pixels")
    assert images and not small, "\n".join(small)


@pytest.mark.parametrize("name", WITH_FIGURES)
def test_no_figure_is_a_white_card_by_night(tabs, address, name):
    tab = tabs(WIDE, "dark")
    tab.open(address, name)
    images = tab.page.locator(".drawn .only-dark").all()
    white = []
    for image in images:
        image.evaluate("one => { one.loading = 'eager'; return one.decode(); }")
        pixels = np.asarray(Image.open(io.BytesIO(image.screenshot())).convert("RGB"))
        if (share := (pixels.min(-1) > 200).mean()) > 0.5:
            white.append(f"{image.get_attribute('alt')}: {share:.0%} white")
    assert images and not white, "\n".join(white)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_from_a_file_and_asks_no_host(tabs, name):
    tab = tabs()
    tab.open(HTML.as_uri(), name)
    found = [*tab.wrong, *tab.strangers()]
    assert not found, "\n".join(f"{name} as a file: {line}" for line in found)


def test_the_address_of_the_book_leads_to_its_first_page(tabs, address):
    tab = tabs()
    tab.page.goto(f"{address}/index.html")
    tab.page.wait_for_url(f"{address}/{FIRST}")


# What a reader does.


def test_a_word_is_searched_and_a_hit_opens(tabs, address):
    tab = tabs()
    tab.open(address, FIRST)
    tab.page.keyboard.press("Control+k")
    field = tab.page.locator("dialog[open] input[type=search], .search-button__wrapper.show input")
    field.fill("equivariance")
    field.press("Enter")
    hits = tab.page.locator("#search-results li a")
    hits.first.wait_for()
    assert hits.count() > 1
    hits.first.click()
    tab.page.wait_for_url(re.compile(f"{SUB_PATH}/book/"))
    tab.page.locator("article .highlighted").first.wait_for()
    assert not tab.strangers()


def test_a_table_is_sorted_by_a_click_by_enter_and_by_the_space_bar(tabs, address):
    tab = tabs()
    tab.open(address, first_with("sortable"))
    heads = tab.page.locator("table.sortable th")
    head = heads.first
    button, table = head.locator("button"), tab.page.locator("table.sortable").first

    def column():
        return [text.strip() for text in table.locator("tbody td:first-child").all_inner_texts()]

    before = column()
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    up = column()
    button.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    down = column()
    button.press("Space")
    assert head.get_attribute("aria-sort") == "ascending" and column() == up
    assert sorted(up) == sorted(down) == sorted(before)
    assert len(set(before)) == 1 or up != down


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_slider_and_its_buttons_answer_to_the_keyboard(tabs, address, theme):
    tab = tabs(WIDE, theme)
    tab.open(address, first_with('"sliders":'))
    slider = tab.page.locator(".interactive [role=slider]").first
    now = int(slider.get_attribute("aria-valuenow"))
    image = tab.page.locator(".interactive image").first
    first = image.get_attribute("href")
    slider.focus()
    assert outlined(tab.page)
    for key, value in (("ArrowRight", now + 1), ("PageUp", now + 6), ("ArrowLeft", now + 5)):
        tab.page.keyboard.press(key)
        valued(tab.page, value)
    assert str(value) in slider.get_attribute("aria-valuetext")
    assert image.get_attribute("href") != first
    tab.page.keyboard.press("Home")
    valued(tab.page, 0)
    play = tab.page.locator(".interactive [role=button][aria-label=play]").first
    play.focus()
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_function("document.querySelector('[role=slider]').ariaValueNow > 1")
    tab.page.locator(".interactive [role=button][aria-label=stop]").first.press("Space")


def valued(page, value):
    page.wait_for_function(
        "value => document.querySelector('[role=slider]').getAttribute('aria-valuenow') == value",
        arg=str(value),
    )


def test_the_contents_open_and_close_on_a_narrow_window(tabs, address):
    tab = tabs(NARROW)
    tab.open(address, FIRST)
    link = tab.page.locator("nav.bd-links a:visible, .bd-sidebar-primary a:visible")
    assert link.count() == 0
    opener = tab.page.locator("button.primary-toggle")
    assert opener.evaluate("one => one.ariaLabel || one.title || one.textContent.trim()")
    opener.focus()
    tab.page.keyboard.press("Enter")
    link.first.wait_for()
    tab.page.keyboard.press("Escape")
    link.first.wait_for(state="hidden")
    opener.click()
    link.nth(3).click()
    tab.page.wait_for_url(re.compile(f"{SUB_PATH}/book/(?!index)"))


def test_the_keyboard_reaches_the_text_first_and_shows_where_it_is(tabs, address):
    tab = tabs()
    tab.open(address, first_with("sortable"))
    tab.page.keyboard.press("Tab")
    skip = tab.page.locator(":focus")
    assert skip.inner_text() == "Skip to main content" and skip.bounding_box()["y"] >= 0
    lost = []
    for _ in range(25):
        tab.page.keyboard.press("Tab")
        if not outlined(tab.page):
            lost.append(tab.page.evaluate("document.activeElement.outerHTML.slice(0, 150)"))
    assert not lost, "without a visible focus:\n" + "\n".join(lost)
    tab.open(address, FIRST)
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    assert tab.page.url.endswith("#main-content")
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("!document.activeElement.closest('.bd-sidebar-primary')")


def outlined(page):
    """Whether what has the keyboard shows it, or something in it does."""
    return page.evaluate("""() => {
        const active = document.activeElement;
        return [active, ...active.querySelectorAll("*")].some(element => {
            const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element);
            return (outlineStyle !== "none" && outlineWidth !== "0px") || boxShadow !== "none";
        });
    }""")


def test_the_reader_chooses_the_theme(tabs, address):
    tab = tabs()
    tab.open(address, FIRST)
    button, themes = tab.page.locator("button.theme-switch-button").first, set()
    for _ in range(3):
        button.click()
        themes.add(tab.page.evaluate("document.documentElement.dataset.theme"))
    assert themes == {"light", "dark"}


def printed_pages():
    """The first page, one with a plot and one with a table of many columns."""
    return [FIRST, first_with('class="interactive"'), first_with("tag_full-width")]


@pytest.mark.parametrize("which", range(3), ids=["first", "plot", "table"])
def test_a_page_is_printed_whole(tabs, address, which):
    tab, name = tabs(), printed_pages()[which]
    tab.open(address, name)
    with in_print(tab.page):
        found = [*tab.probe("wide()"), *tab.probe("cut()")]
        if overflow := tab.page.evaluate(OVERFLOW):
            found.append(overflow)
        assert not found, "\n".join(f"{name}, printed: {line}" for line in found)
        if 'class="interactive"' in text_of(name):  # whose picture is printed instead
            assert tab.page.locator(".for-print").first.is_visible()
            assert not tab.page.locator(".interactive").first.is_visible()
    paper = tab.page.pdf(format="A4")
    assert paper.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", paper)) > 1
    assert b"/Font" in paper

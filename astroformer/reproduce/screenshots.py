"""Look at the built book as a reader would: every page, wide and narrow, light and dark, in
Debian's headless chromium.

`python -m astroformer.reproduce.screenshots` (or `make look`) writes PNG files to `_build/look` and
fails on an uncaught script error, on a request to another host, and on a page wider than a 400
pixel window. Chromium is driven through `--remote-debugging-pipe`: unlike its command-line options,
that allows narrow windows and shots of whole pages.
"""

import base64
import contextlib
import fcntl
import functools
import http.server
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .pages import Layout, documents

WIDTHS = (1400, 400)  # CSS pixels: a laptop, a telephone
THEMES = ("light", "dark")
MAX_HEIGHT = 16_000  # pixels of one shot; chromium's textures end at 16384
SETTLE_MS = 700  # for MathJax and the theme's scripts, after the page's load event
STILL = (
    "document.head.insertAdjacentHTML('beforeend', '<style>* {transition: none !important; "
    "animation: none !important}</style>')"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)

# What sticks out of the window and is in no box that scrolls by itself. The theme clips such things
# without a scrollbar, so the width of the document says nothing. Text for screen readers is placed
# off the page on purpose.
OVERFLOW = """(() => {
  const width = document.documentElement.clientWidth;
  const boxed = element => {
    for (let box = element.parentElement; box && !box.matches("article"); box = box.parentElement)
      if (["auto", "scroll", "hidden"].includes(getComputedStyle(box).overflowX)) return true;
    return false;
  };
  const out = [...document.querySelectorAll("article *")].filter(element =>
    element.getBoundingClientRect().right > width + 1
    && !element.closest("mjx-assistive-mml, .visually-hidden") && !boxed(element));
  if (!out.length) return "";
  const first = out[0], right = Math.round(first.getBoundingClientRect().right);
  const tag = first.tagName.toLowerCase();
  return `wider than the window: <${tag} class="${first.className}"> `
    + `ends at ${right} of ${width} pixels: ` + (first.textContent || "").trim().slice(0, 40);
})()"""


def find_browser() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@dataclass
class Look:
    """What one look at one page found."""

    page: str
    width: int
    theme: str
    shot: Path
    complaints: list[str] = field(default_factory=list)


class Browser:
    """A headless chromium and its debugging pipe: commands in, answers and events out, JSON
    ended by a zero byte.
    """

    def __init__(self, executable: str):
        self.profile = tempfile.TemporaryDirectory(prefix="astroformer-look-")
        commands_out, self._commands = os.pipe()
        self._answers, answers_in = os.pipe()
        # Chromium reads commands from descriptor 3 and writes answers to 4; both ends are first
        # moved out of the way.
        reader, writer = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands_out, answers_in))
        self.process = subprocess.Popen(
            [executable, *OPTIONS, f"--user-data-dir={self.profile.name}", "about:blank"],
            close_fds=False,
            preexec_fn=lambda: (os.dup2(reader, 3), os.dup2(writer, 4)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (commands_out, answers_in, reader, writer):
            os.close(end)
        self._numbers, self._rest, self.events = itertools.count(1), b"", []
        target = next(
            target
            for target in self.send("Target.getTargets")["targetInfos"]
            if target["type"] == "page"
        )
        self._session = self.send(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters) -> dict:
        """One command; waits for its answer and keeps the events that come meanwhile."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"chromium refused {method}: {answer['error']['message']}")
        return answer["result"]

    def wait_for(self, event: str) -> None:
        while not any(seen.get("method") == event for seen in self.events):
            self.events.append(self._read())

    def evaluate(self, script: str, **options):
        return self.send("Runtime.evaluate", expression=script, returnByValue=True, **options)[
            "result"
        ].get("value")

    def _read(self) -> dict:
        while b"\0" not in self._rest:
            chunk = os.read(self._answers, 1 << 20)
            if not chunk:
                raise RuntimeError(
                    f"chromium ended unexpectedly (exit status {self.process.wait()})"
                )
            self._rest += chunk
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # it may already be gone
            self.send("Browser.close")
        self.process.wait()
        os.close(self._commands)
        os.close(self._answers)
        self.profile.cleanup()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder over HTTP on a free port of this machine, as `make serve` shows it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args): ...

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def look(browser: Browser, address: str, page: str, width: int, theme: str, shot: Path) -> Look:
    """Open a page, take a shot of the whole of it, and note what is wrong."""
    found = Look(page, width, theme, shot)
    browser.send(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=900,
        deviceScaleFactor=1,
        mobile=False,
    )
    browser.send(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}]
    )
    browser.events.clear()
    browser.send("Page.navigate", url=f"{address}/{page}.html")
    browser.wait_for("Page.loadEventFired")
    browser.evaluate(STILL)  # or a sidebar is caught half open
    browser.evaluate(f"new Promise(done => setTimeout(done, {SETTLE_MS}))", awaitPromise=True)
    height = min(int(browser.evaluate("document.documentElement.scrollHeight")), MAX_HEIGHT)
    if width == min(WIDTHS) and (overflow := browser.evaluate(OVERFLOW)):
        found.complaints.append(overflow)
    browser.send(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=1,
        mobile=False,
    )
    image = browser.send("Page.captureScreenshot")["data"]
    shot.parent.mkdir(parents=True, exist_ok=True)
    shot.write_bytes(base64.b64decode(image))
    found.complaints += _events(browser.events, address)
    return found


def _events(events: list[dict], address: str) -> list[str]:
    """Script errors, failed requests and requests that leave the book, among what the browser
    reported.
    """
    complaints = []
    for event in events:
        method, details = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            thrown = details["exceptionDetails"]
            text = thrown.get("exception", {}).get("description", thrown["text"])
            complaints.append(f"Uncaught {text.splitlines()[0]}")
        elif method == "Network.requestWillBeSent" and not details["request"]["url"].startswith(
            (address, "data:", "blob:", "about:")
        ):
            complaints.append(f"a request to another host: {details['request']['url']}")
        elif method == "Network.responseReceived" and details["response"]["status"] >= 400:
            complaints.append(f"missing: {details['response']['url'].removeprefix(address)}")
    return complaints


def look_at_book(html: Path, pages: list[str], into: Path, executable: str) -> list[Look]:
    """Every page at every width in every theme."""
    shutil.rmtree(into, ignore_errors=True)
    browser = Browser(executable)
    try:
        with served(html) as address:
            return [
                look(
                    browser,
                    address,
                    page,
                    width,
                    theme,
                    into / f"{Path(page).name}-{width}-{theme}.png",
                )
                for page in pages
                for width in WIDTHS
                for theme in THEMES
            ]
    finally:
        browser.close()


def main() -> int:
    layout, executable = Layout(), find_browser()
    if executable is None:
        print("no chromium found: install it (Debian: apt-get install chromium)", file=sys.stderr)
        return 2
    if not (layout.html / "index.html").is_file():
        print("there is no book yet: run `make book` first", file=sys.stderr)
        return 2
    looks = look_at_book(layout.html, documents(layout.toc), layout.build / "look", executable)
    for found in looks:
        print(f"{layout.show(found.shot)}: {'; '.join(found.complaints) or 'fine'}")
    return 1 if any(found.complaints for found in looks) else 0


if __name__ == "__main__":
    sys.exit(main())

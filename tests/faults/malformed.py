"""What malformed inputs are made of, and what must become of each: it is read, or refused in one
line that the command prints; never a traceback, an internal error, or a wait without an end.
"""

import contextlib
import io
import signal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from astroformer.cli.errors import complaint
from astroformer.reproduce import BookError

NUMBER = {
    "lines": 1_500,
    "records": 1_200,
    "predictions": 600,
    "curves": 600,
    "checkpoints": 500,
    "weights": 400,
    "about": 1_000,
    "images": 900,
    "values": 500,
    "tables": 250,
    "folders": 250,
    "archives": 450,
    "designs": 800,
    "profiles": 700,
    "settings": 700,
    "shards": 300,
    "options": 500,
    "flags": 300,
    "words": 300,
}
LONG = 20  # seconds after which an input counts as one that is waited for without an end


def many(kind):
    return settings(
        max_examples=NUMBER[kind],
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


class Hung(BaseException):
    """An input was waited for too long."""


@contextlib.contextmanager
def in_time():
    def late(*_):
        raise Hung(f"no answer within {LONG} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LONG)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def answered(call, *arguments, **named):
    """What a call gives, or None if it was refused in one line."""
    with in_time(), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            return call(*arguments, **named)
        except BookError as error:  # which `reproduce` prints as it is
            line = str(error)
        except SystemExit as end:  # argparse has said what is wrong
            assert end.code in (0, 2)
            return None
        except Exception as error:
            line, status = complaint(error)
            assert status == 2, f"{type(error).__name__}: {line}"
    assert line and len(line.splitlines()) == 1 and not line.startswith("internal error"), line
    assert "Traceback" not in said.getvalue()
    return None


# What inputs are made of


TEXTS = st.text(max_size=6) | st.sampled_from(
    [
        "",
        "nan",
        "inf",
        "-1",
        "1e999",
        "0x1",
        "9" * 5000,
        "é\u0301",
        "\ud800",
        "\0",
        "a\nb",
        "²",
        "٣",
    ]
)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**400), 2**63, 1e308, float("nan"), float("inf"), -0.0])
)
PLAIN = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def nested(depth, text='{"a":'):
    return text * depth + "1" + ("}" if text[0] == "{" else "]") * depth


STRANGE = [
    b"",
    b"\0" * 50,
    b"\xff\xfe\0{",
    b"\xef\xbb\xbf{}",
    b"null",
    b"NaN",
    b"[]",
    b"{",
    b'{"a": 1',
    b'"\xff"',
    nested(100_000).encode(),
    nested(900).encode(),
    nested(100_000, "[").encode(),
    b"[" * 50_000,
    b'{"run": "' + b"x" * 10_000_000 + b'"}',  # ten megabytes
    b"1" * 10_000,
    b"1e400",
]


@st.composite
def spoiled(draw, content):
    """Bytes of a file that is cut, changed, lengthened, or another one."""
    broken = bytearray(content)
    how = draw(st.integers(0, 9))
    if how == 0:
        return (
            draw(st.binary(max_size=200)) if draw(st.booleans()) else draw(st.sampled_from(STRANGE))
        )
    if how <= 3:
        del broken[draw(st.integers(0, len(content))) :]
    # beginnings and ends say what is in between
    edges = st.integers(0, 400) | st.integers(-400, -1) | st.integers(0, max(0, len(content) - 1))
    for place in draw(st.lists(edges, max_size=5)):
        if -len(broken) <= place < len(broken):
            broken[place] = draw(st.integers(0, 255))
    if how == 4:
        at = draw(st.integers(0, len(broken)))
        broken[at:at] = draw(st.binary(max_size=50))
    return bytes(broken)

"""The bar of a training: drawn where somebody watches, full when the network is measured, and gone
before a line is printed.
"""

import io

import torch

from astroformer.machine import is_open_notebook, is_watched
from astroformer.training.pace import Pace


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on(monkeypatch, screen):
    """Within the test: pytest takes stderr anew before each."""
    monkeypatch.setattr("sys.stderr", screen)
    return screen


def trained(pace, *, steps, epochs):
    for epoch in range(epochs):
        for step in range(1, steps + 1):
            pace.after_step(steps - step, steps * (epochs - epoch) - step)


def test_a_terminal_shows_the_steps_until_the_network_is_measured(monkeypatch):
    terminal = on(monkeypatch, Terminal())
    monkeypatch.setenv("TQDM_MININTERVAL", "0")
    assert is_watched() and not is_open_notebook()
    pace = Pace(torch.device("cpu"), print)
    trained(pace, steps=4, epochs=2)
    written = terminal.getvalue()
    assert written.count("0/4") == 2, "a bar for each epoch"
    assert pace.bar is None
    assert not written.split("\r")[-1].strip(), "a full bar is taken away"


def test_a_log_and_other_processes_get_no_bar(monkeypatch):
    terminal = on(monkeypatch, Terminal())
    trained(Pace(torch.device("cpu"), print, bar=False), steps=4, epochs=2)
    assert terminal.getvalue() == ""
    log = on(monkeypatch, io.StringIO())
    assert not is_watched()
    trained(Pace(torch.device("cpu"), print), steps=4, epochs=2)
    assert log.getvalue() == ""


def test_an_interrupted_epoch_begins_a_bar_of_what_is_left(monkeypatch):
    on(monkeypatch, Terminal())
    pace = Pace(torch.device("cpu"), print)
    pace.after_step(2, 9)  # two steps are left of this one's epoch
    assert pace.bar.total == 3 and pace.bar.n == 1

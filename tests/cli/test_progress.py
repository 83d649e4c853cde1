"""Progress without a terminal: plain lines."""

import io
import sys

import pytest

from autoseg.cli import progress as module


class Clock:
    """A clock that goes as the test says."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def step(progress, done, **more):
    event = {"step": done, "num_steps": 500, "configuration": "2d", "fold": "0", **more}
    progress.on_event(event)


def test_lines_of_training_tell_the_time_that_is_left(clock, capsys):
    with module.Progress() as progress:
        step(progress, 100)  # resumed: what was done before says nothing about the pace
        for done in (110, 120, 500):
            clock.now += 20
            step(progress, done, loss=0.5)
    assert capsys.readouterr().err.splitlines() == [
        "2d fold 0: 100/500",
        "2d fold 0: 110/500  loss 0.500  13 min left",
        "2d fold 0: 120/500  loss 0.500  13 min left",
        "2d fold 0: 500/500  loss 0.500",
    ]


def test_lines_come_not_too_often_but_the_last_one_always(clock, capsys):
    with module.Progress() as progress:
        for done in (1, 2, 500):
            clock.now += 1
            step(progress, done)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[3] for line in lines] == ["1/500", "500/500"]


def test_what_bounds_the_speed_is_said(clock, capsys):
    with module.Progress() as progress:
        for done, waiting in ((1, 0.34), (2, 0.0)):
            clock.now += 20
            step(progress, done, waiting=waiting)
    lines = capsys.readouterr().err.splitlines()
    assert "bound by data (34% waiting)" in lines[0]
    assert "bound by compute" in lines[1]


def test_numbers_that_an_event_lacks_stay_as_they_were(clock, capsys):
    with module.Progress() as progress:
        step(progress, 1, loss=0.5, dice=0.75, patches_per_second=8.0)
        clock.now += 20
        step(progress, 2, lr=0.01)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("2d fold 0: 2/500  loss 0.500  Dice 0.750  lr 1.0e-02  patches/s 8.0")


def test_on_a_terminal_every_fold_has_a_bar_with_its_numbers(monkeypatch, clock):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    with module.Progress() as progress:
        for fold in ("0", "1"):
            step(progress, 10, fold=fold, loss=0.5, waiting=0.5)
        clock.now += 20
        step(progress, 20, loss=0.25)
        progress.on_event({"event": "validated", "configuration": "2d", "done": 1, "total": 2})
    shown = terminal.getvalue()
    last = shown[shown.rindex("2d fold 0") :]
    assert "20/500" in last
    assert "loss 0.250" in last
    assert "16 min left" in last
    assert "bound by data" in last
    assert "2d fold 1" in last

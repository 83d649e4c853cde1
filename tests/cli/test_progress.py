"""Progress without a terminal: plain lines."""

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

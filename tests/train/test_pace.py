from types import SimpleNamespace
from typing import Any

import pytest

from autoseg.train import training
from autoseg.train.checkpoint import Standing
from autoseg.train.schedule import Schedule


class Clock:
    """A clock that goes as the test says."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(training, "time", clock)
    return clock


def pace(clock, *, budget_s=100.0, num_steps=None, step=0, elapsed_s=0.0):
    job: Any = SimpleNamespace(num_steps=num_steps, budget_s=budget_s)
    standing = Standing(plan_digest="", step=step, elapsed_s=elapsed_s)
    settings: Any = SimpleNamespace(seconds_per_step=1.0)
    return training._Pace(job, settings, standing, clock.now)


def drive(who, clock, schedule, seconds_per_step, steps):
    """Pass steps at a speed; return what was affordable after each."""
    found = {}
    for step in steps:
        clock.now += seconds_per_step
        affordable = who.affordable_steps(step, schedule)
        if affordable is not None:
            found[step] = affordable
    return found


def test_run_on_time_keeps_its_steps(clock):
    found = drive(pace(clock), clock, Schedule(90), 1.0, range(1, 91))
    assert list(found) == [25, 60]
    assert all(steps >= 90 for steps in found.values())


def test_run_that_is_slow_for_a_moment_keeps_its_steps(clock):
    found = drive(pace(clock), clock, Schedule(80), 5.0, range(1, 6))
    assert found == {5: 5 + int(0.97 * 75)}


def test_run_that_stays_slow_ends_in_time(clock):
    found = drive(pace(clock), clock, Schedule(90), 2.0, range(1, 31))
    assert found[30] == 30 + int(0.97 * 40 / 2)


def test_given_steps_are_never_revised(clock):
    assert not drive(pace(clock, num_steps=50), clock, Schedule(50), 9.0, range(1, 51))


def test_resumed_run_counts_the_time_before(clock):
    who = pace(clock, budget_s=60.0, step=40, elapsed_s=40.0)
    assert who.elapsed_s() == 40
    found = drive(who, clock, Schedule(90), 2.0, range(41, 60))
    assert found == {50: 50 + int(0.97 * 40 / 2)}


def test_decision_of_an_interrupted_run_stands(clock):
    who = pace(clock, budget_s=95.0, step=5, elapsed_s=5.0)
    schedule = Schedule(90).revised(100, 110)
    assert not drive(who, clock, schedule, 10.0, range(6, 15))

from types import SimpleNamespace
from typing import Any

import pytest

from autoseg.train import pace as module
from autoseg.train.pace import Pace
from autoseg.train.schedule import Schedule, trunk_steps
from autoseg.workspace import FoldFolder


class Clock:
    """A clock that goes as the test says."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def make_pace(clock, tmp_path):
    def make(
        *,
        budget_s=100.0,
        num_steps=None,
        elapsed_s=0.0,
        validation_s=None,
        branches=False,
        trial=None,
    ):
        job: Any = SimpleNamespace(
            num_steps=num_steps,
            budget_s=budget_s,
            validation_s=validation_s,
            folder=FoldFolder(tmp_path),
            trial=trial,
        )
        settings: Any = SimpleNamespace(seconds_per_step=1.0, stops_at_plateau=branches)
        made = Pace(job, settings, clock.now)
        made.begin(elapsed_s)
        return made

    return make


def drive(who, clock, schedule, seconds_per_step, steps, validation_s=None):
    """Pass steps at a speed; return after how many the run must end, at each check."""
    found = {}
    for step in steps:
        clock.now += seconds_per_step
        if who.is_check_due():
            found[step] = who.revised_steps(step, schedule, validation_s)
    return found


def test_a_run_that_lost_steps_late_is_looked_at_again(clock, make_pace):
    pace = make_pace()
    drive(pace, clock, Schedule(97), 1.0, range(1, 91))
    pace.check_again()  # after 90 s it goes on from step 30
    found = drive(pace, clock, Schedule(97), 1.0, range(31, 40))
    assert list(found) == [35]
    assert found[35] is not None
    assert found[35] <= 40


def test_run_on_time_keeps_its_steps(clock, make_pace):
    found = drive(make_pace(), clock, Schedule(97), 1.0, range(1, 98))
    assert found == {25: None, 60: None, 85: None}


def test_run_that_is_slow_for_a_moment_keeps_its_steps(clock, make_pace):
    found = drive(make_pace(), clock, Schedule(77), 5.0, range(1, 6))
    assert found == {5: None}


def test_run_that_stays_slow_ends_in_time(clock, make_pace):
    who, schedule, step = make_pace(), Schedule(90), 0
    while step < schedule.num_steps:
        step += 1
        clock.now += 2.0
        if who.is_check_due():
            steps = who.revised_steps(step, schedule, None)
            schedule = schedule if steps is None else schedule.revised(step, steps)
    assert 95 <= 2.0 * step <= 101


def test_run_that_was_planned_too_short_gets_more_steps(clock, make_pace):
    found = drive(make_pace(), clock, Schedule(60), 0.5, range(1, 51))
    assert found[50] == 50 + int(0.97 * 75 / 0.5)


def test_run_that_is_at_its_end_gets_no_steps_whose_rate_would_be_zero(clock, make_pace):
    found = drive(make_pace(), clock, Schedule(50), 0.5, range(1, 51))
    assert found == {50: None}


def test_small_gains_of_time_change_nothing(clock, make_pace):
    found = drive(make_pace(), clock, Schedule(96), 1.0, range(1, 26))
    assert found == {25: None}


def test_validation_that_takes_longer_than_kept_for_takes_its_time_from_training(clock, make_pace):
    who = make_pace(validation_s=10.0)
    found = drive(who, clock, Schedule(97), 1.0, range(1, 26), validation_s=40.0)
    assert found == {25: 25 + int(0.97 * (100 - 30 - 25))}


def test_validation_that_takes_less_than_kept_for_gives_training_the_rest(clock, make_pace):
    who = make_pace(validation_s=50.0)
    found = drive(who, clock, Schedule(97), 1.0, range(1, 26), validation_s=10.0)
    assert found == {25: 25 + int(0.97 * (100 + 40 - 25))}


def test_given_steps_are_never_revised(clock, make_pace):
    who = make_pace(num_steps=50)
    assert not who.may_add_steps
    assert not drive(who, clock, Schedule(50), 9.0, range(1, 51))


def test_resumed_run_counts_the_time_before(clock, make_pace):
    who = make_pace(budget_s=60.0, elapsed_s=40.0)
    assert who.elapsed_s() == 40
    found = drive(who, clock, Schedule(90), 2.0, range(41, 70))
    # A quarter had passed before: the next checks are at 60 and at 85 of 100 seconds.
    assert list(found) == [50, 63]
    assert found[50] == 50 + int(0.97 * 40 / 1.0)
    assert found[63] == 63 + int(0.97 * 14 / 2.0)


def test_first_step_of_a_resumed_run_is_no_measure_of_the_rest(clock, make_pace):
    who = make_pace(budget_s=16.0, elapsed_s=84.0)
    clock.now += 5.0  # kernels and cases are loaded anew
    assert not who.is_check_due()
    clock.now += 1.0
    assert who.is_check_due()
    assert who.revised_steps(86, Schedule(95), None) is None


def test_a_trial_that_is_gone_on_with_gets_no_more_time_than_others(clock, make_pace):
    pace = make_pace(budget_s=100.0, elapsed_s=50.0, trial="trial 1")
    found = drive(pace, clock, Schedule(97), 1.0, range(51, 98))
    assert found == {60: None, 85: None}


def test_decision_of_an_interrupted_run_stands(clock, make_pace):
    who = make_pace(budget_s=95.0, elapsed_s=5.0)
    schedule = Schedule(90).revised(100, 110)
    assert set(drive(who, clock, schedule, 10.0, range(6, 15)).values()) == {None}


def test_time_between_the_parts_of_a_run_is_no_steps_time(clock, make_pace):
    who = make_pace()
    drive(who, clock, Schedule(97), 1.0, range(1, 11))
    clock.now += 30.0
    who.begin(10.0)
    assert who.elapsed_s() == 40
    clock.now += 1.0
    assert who.is_check_due()
    assert who.seconds_per_step == pytest.approx(1.0)


def test_time_for_annealed_copies_is_kept(clock, make_pace):
    found = drive(make_pace(branches=True), clock, Schedule(97), 1.0, range(1, 26))
    left = trunk_steps(0.97 * 75, 25, 25 / 97)
    assert found == {25: 25 + int(left)}
    assert left < 0.97 * 75

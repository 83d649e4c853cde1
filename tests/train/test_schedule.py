import pytest

from autoseg.train.schedule import (
    ANNEALED_FRACTION,
    BRANCH_AT,
    LOOK_FRACTION,
    Branch,
    Schedule,
    trunk_steps,
)


def test_progress_of_an_unrevised_run_is_linear():
    schedule = Schedule(8)
    assert [schedule.progress(step) for step in (0, 2, 8)] == [0, 0.25, 1]


def test_revision_keeps_progress_continuous_and_ends_at_one():
    schedule = Schedule(100).revised(40, 60).revised(50, 52)
    assert schedule.num_steps == 52
    assert schedule.progress(40) == pytest.approx(0.4)
    assert schedule.progress(50) == pytest.approx(0.7)
    assert schedule.progress(51) == pytest.approx(0.85)
    assert schedule.progress(52) == pytest.approx(1.0)


def test_steps_before_a_revision_are_as_they_were():
    before, after = Schedule(100), Schedule(100).revised(40, 60)
    assert [before.progress(s) for s in range(41)] == [after.progress(s) for s in range(41)]


def test_a_run_with_copies_costs_what_can_be_afforded():
    steps = trunk_steps(1000.0)
    copies = sum(ANNEALED_FRACTION * part * steps for part in BRANCH_AT)
    looks = len(BRANCH_AT) * LOOK_FRACTION * steps
    assert steps + copies + looks == pytest.approx(1000.0)
    assert steps >= 1000.0 / 1.25


def test_steps_left_are_the_same_however_often_they_are_asked_for():
    steps = trunk_steps(1000.0)
    step = 0.3 * steps
    done = step + sum((ANNEALED_FRACTION * part + LOOK_FRACTION) * steps for part in BRANCH_AT[:3])
    assert trunk_steps(1000.0 - done, round(step), 0.3) == pytest.approx(steps - step, rel=0.01)


def test_a_copy_falls_from_the_rate_where_it_was_made_to_zero():
    branch = Branch(100, 20)
    assert branch.end == 120
    assert [branch.factor(step) for step in (100, 110, 120)] == [1.0, 0.5, 0.0]

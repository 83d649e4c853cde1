import pytest

from autoseg.train.schedule import Schedule, poly_lr


def rate(step, num_steps=100, warmup=10):
    return poly_lr(step, num_steps, peak=2.0, power=0.9, warmup=warmup)


def test_rate_rises_over_the_warm_up_and_falls_to_zero():
    rates = [rate(step) for step in range(101)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == 0


def test_rate_follows_the_polynomial_after_the_warm_up():
    assert rate(50) == pytest.approx(2.0 * 0.5**0.9)


def test_without_warm_up_the_first_rate_is_the_peak():
    assert rate(0, warmup=0) == 2.0


def test_short_runs_warm_up_for_a_tenth_only():
    assert rate(2, num_steps=20, warmup=50) == pytest.approx(2.0 * 0.9**0.9)


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

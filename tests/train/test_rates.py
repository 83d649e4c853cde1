from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from autoseg.testing.plans import TRAINING
from autoseg.train.rates import ReductionState, planned_rate, reduced

STEPS = 100


def rate(step, num_steps=STEPS, warmup=10, **changes):
    values = {"peak_lr": 2.0, "warmup_steps": warmup, **changes}
    return planned_rate(TRAINING.revised(**values), step, num_steps)


def rates(**changes):
    return [rate(step, **changes) for step in range(STEPS)]


def torch_rates(make: Any, *, start=2.0):
    """Return the rates that one of torch's schedulers gives, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=start)
    scheduler = make(optimizer)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


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


def test_poly_is_that_of_torch():
    expected = torch_rates(lambda o: lr_scheduler.PolynomialLR(o, STEPS, 0.9))
    assert rates(warmup=0) == pytest.approx(expected)


def test_cosine_is_that_of_torch():
    expected = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS))
    assert rates(warmup=0, schedule="cosine") == pytest.approx(expected)


def test_one_cycle_is_that_of_torch():
    expected = torch_rates(
        lambda o: lr_scheduler.OneCycleLR(o, 2.0, total_steps=STEPS + 1, cycle_momentum=False)
    )
    found = [rate(step, STEPS + 1, 0, schedule="one_cycle") for step in range(STEPS)]
    assert found == pytest.approx(expected)


def test_warm_up_is_that_of_torch_whatever_follows():
    plain = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS))
    rise = torch_rates(
        lambda o: lr_scheduler.LinearLR(o, start_factor=1 / 11, total_iters=10), start=1.0
    )
    expected = [a * b for a, b in zip(plain, rise, strict=True)]
    assert rates(schedule="cosine") == pytest.approx(expected)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("schedule", ["poly", "cosine", "one_cycle", "reduce_on_plateau"])
def test_the_shortest_runs_have_rates_too(schedule, num_steps):
    found = [rate(step, num_steps, 0, schedule=schedule) for step in range(num_steps + 1)]
    assert 1.0 < max(found) <= 2.0
    assert min(found) >= 0


@pytest.mark.parametrize("schedule", ["poly", "cosine", "one_cycle"])
def test_places_between_steps_have_rates_between(schedule):
    before, now, after = (rate(step, warmup=0, schedule=schedule) for step in (60, 60.5, 61))
    assert before > now > after


def test_reductions_are_those_of_torch():
    scores = [0.1, 0.2, 0.2, 0.200001, 0.1, 0.3, 0.3, 0.29, 0.3, 0.2, 0.1, 0.0, 0.0, 0.4, 0.4]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=2)
    training = TRAINING.revised(reduce_factor=0.5, reduce_patience=2)
    state, found, expected = ReductionState(), [], []
    for score in scores:
        state = reduced(state, score, training)
        scheduler.step(score)
        found.append(state.factor)
        expected.append(optimizer.param_groups[0]["lr"])
    assert found == expected
    assert found[-1] < 0.5

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.errors import PlanError
from autoseg.plan.budget import (
    MIN_FOLD_S,
    affordable,
    finishing_seconds,
    kept_folds,
    preferred_order,
    refuse_short_budget,
    seconds_per_fold,
    smallest_budget_s,
)
from autoseg.runtime.recipe import Labels
from autoseg.testing.plans import small_configuration, small_plan


@given(available_s=st.floats(0, 1e6), folds=st.integers(1, 20), workers=st.integers(1, 8))
def test_all_folds_together_leave_time_for_what_comes_after(available_s, folds, workers):
    share_s = seconds_per_fold(available_s, folds, workers)
    rounds = -(-folds // workers)
    assert share_s * rounds < max(available_s, 1e-9)


@given(most=st.integers(0, 12))
def test_as_many_folds_are_affordable_as_fit_in_the_order_of_dropping(most):
    folds = [(name, fold) for name in ("3d_fullres", "2d", "3d_lowres") for fold in "012"]
    found = affordable(folds, lambda kept: len(kept) <= most)
    assert found == kept_folds(folds, len(found))
    assert len(found) == max(len(kept_folds(folds, n)) for n in range(min(most, 9) + 1))


def test_the_smallest_budget_is_the_first_that_affords_a_fold():
    assert seconds_per_fold(smallest_budget_s(), 1, 1) >= MIN_FOLD_S
    assert seconds_per_fold(smallest_budget_s() - 1, 1, 1) < MIN_FOLD_S


def plan_with(*names, num_blocks=2, step_operations=3e9):
    item = small_configuration((16, 16, 16))
    (stage,) = item.network.stages
    item = item.revised(
        batch_size=2,
        median_shape=(20, 16, 16),
        network=item.network.revised(stages=(stage.revised(num_blocks=num_blocks),)),
        cost=item.cost.revised(step_operations=step_operations),
    )
    labels = Labels(names=("background", "ball"), values=(0, 1))
    return small_plan(labels, tuple(item.revised(name=name) for name in names))


def test_finishing_takes_longer_with_folds_blocks_operations_and_configurations():
    one = finishing_seconds(plan_with("2d"), [("2d", "0")], 1e11)
    assert 20 < one < 40
    for plan, folds in (
        (plan_with("2d"), [("2d", "0"), ("2d", "1")]),
        (plan_with("2d", num_blocks=4), [("2d", "0")]),
        (plan_with("2d", step_operations=9e9), [("2d", "0")]),
        (plan_with("2d", "3d_fullres"), [("2d", "0"), ("3d_fullres", "0")]),
    ):
        assert finishing_seconds(plan, folds, 1e11) > one + 0.1


def test_finishing_takes_as_long_as_was_measured():
    plan = plan_with("2d", num_blocks=12, step_operations=6.3e10)
    times = [finishing_seconds(plan, [("2d", str(k)) for k in range(n)], 1.8e11) for n in (1, 5)]
    assert times == pytest.approx([31, 66], rel=0.15)


def test_a_budget_that_training_would_refuse_is_refused_and_the_remedy_is_not():
    refuse_short_budget(None)
    refuse_short_budget(smallest_budget_s())
    with pytest.raises(PlanError, match="a budget of 40 s") as caught:
        refuse_short_budget(40.0)
    proposed = float(caught.value.fix.partition("--budget ")[2].partition("s")[0])
    assert proposed > smallest_budget_s()
    assert str(smallest_budget_s()) not in str(caught.value), "two numbers leave a choice"
    refuse_short_budget(proposed)


def plan_of(spacing, median_shape) -> Any:
    """Return what is read of a plan whose 3d_fullres has this spacing and shape."""
    full = SimpleNamespace(
        name="3d_fullres", recipe=SimpleNamespace(spacing=spacing), median_shape=median_shape
    )
    return SimpleNamespace(configurations=(SimpleNamespace(name="2d"), full))


def order(plan, *names):
    return [name for name, _ in preferred_order(plan, [(name, "0") for name in names])]


@pytest.mark.parametrize(
    ("spacing", "median_shape", "best"),
    [
        ((1.0, 1.0, 1.0), (40, 50, 35), "3d_fullres"),
        ((10.0, 1.5, 1.5), (10, 250, 250), "2d"),
        ((10.0, 1.5, 1.5), (60, 250, 250), "3d_fullres"),
        ((2.0, 1.0, 1.0), (10, 250, 250), "3d_fullres"),
    ],
)
def test_few_coarse_slices_are_best_seen_one_by_one(spacing, median_shape, best):
    plan = plan_of(spacing, median_shape)
    names = ("3d_cascade_fullres", "3d_lowres", "2d", "3d_fullres")
    worse = "2d" if best == "3d_fullres" else "3d_fullres"
    assert order(plan, *names) == [best, worse, "3d_lowres", "3d_cascade_fullres"]


def test_a_plan_without_volumes_has_an_order_too():
    plan: Any = SimpleNamespace(configurations=(SimpleNamespace(name="2d"),))
    assert order(plan, "2d") == ["2d"]


def test_whole_configurations_are_dropped_before_single_folds():
    folds = [(name, fold) for name in ("3d_fullres", "2d", "3d_lowres") for fold in "012"]
    assert kept_folds(folds, 9) == tuple(folds)
    assert kept_folds(folds, 8) == tuple(folds[:6])
    assert kept_folds(folds, 5) == tuple(folds[:3])
    assert kept_folds(folds, 2) == tuple(folds[:2])
    assert kept_folds(folds, 0) == ()

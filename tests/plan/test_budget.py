from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.errors import PlanError
from autoseg.plan.budget import (
    MIN_FOLD_S,
    affordable_folds,
    kept_folds,
    preferred_order,
    refuse_short_budget,
    seconds_per_fold,
    smallest_budget_s,
)


@given(available_s=st.floats(0, 1e6), folds=st.integers(1, 20), workers=st.integers(1, 8))
def test_all_folds_together_leave_time_for_what_comes_after(available_s, folds, workers):
    share_s = seconds_per_fold(available_s, folds, workers)
    rounds = -(-folds // workers)
    assert share_s * rounds < max(available_s, 1e-9)


@given(available_s=st.floats(0, 1e6), folds=st.integers(1, 20), workers=st.integers(1, 8))
def test_every_affordable_fold_has_its_minimum(available_s, folds, workers):
    count = affordable_folds(available_s, folds, workers)
    assert count == 0 or seconds_per_fold(available_s, count, workers) >= MIN_FOLD_S


def test_folds_are_dropped_when_the_budget_is_short():
    assert affordable_folds(3600, 5, 1) == 5
    assert 0 < affordable_folds(90, 5, 1) < 5
    assert affordable_folds(20, 5, 1) == 0


def test_the_smallest_budget_is_the_first_that_affords_a_fold():
    assert affordable_folds(smallest_budget_s(), 1, 1) == 1
    assert affordable_folds(smallest_budget_s() - 1, 1, 1) == 0


def test_a_budget_that_training_would_refuse_is_refused_and_the_remedy_is_not():
    refuse_short_budget(None)
    refuse_short_budget(smallest_budget_s())
    with pytest.raises(PlanError, match=f"at least {smallest_budget_s()} s") as caught:
        refuse_short_budget(40.0)
    proposed = float(caught.value.fix.partition("--budget ")[2].partition("s")[0])
    assert proposed > smallest_budget_s()
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

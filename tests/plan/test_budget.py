from hypothesis import given
from hypothesis import strategies as st

from autoseg.plan.budget import MIN_FOLD_S, affordable_folds, seconds_per_fold


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

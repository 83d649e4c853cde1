import pytest

from autoseg.errors import PlanError
from autoseg.plan.search_budget import (
    MAX_FINALISTS,
    MIN_RUN_S,
    NUM_SEEDS,
    RUNGS,
    Layout,
    confirmation,
    finalists_allowed,
    folds_needed,
    is_clearly_bad,
    refuse_short_search,
    rung_of,
    smallest_search_s,
    trial_seconds,
)


def confirm(left_s, **changes):
    usual = {
        "trial_s": 100.0,
        "overhead_s": 10.0,
        "num_finalists": 9,
        "num_folds": (2, 4),
        "longest_s": 1000.0,
    }
    return confirmation(left_s, 1, **{**usual, **changes})


def test_a_budget_too_short_names_the_shortest():
    with pytest.raises(PlanError) as caught:
        refuse_short_search(60)
    assert f"{smallest_search_s()}s" in caught.value.fix
    refuse_short_search(smallest_search_s())


def test_the_shortest_budget_confirms_something():
    left_s = smallest_search_s() / 2
    found = confirm(left_s / 0.97, trial_s=MIN_RUN_S, overhead_s=5.0, longest_s=600.0)
    assert found is not None
    assert found.num_finalists == 1


def test_trials_are_equal_shares_but_never_longer_than_a_training():
    assert trial_seconds(3600, 1, 1e9) == pytest.approx(150)
    assert trial_seconds(3600, 2, 1e9) == pytest.approx(300)
    assert trial_seconds(3600, 1, 60.0) == 60.0
    assert trial_seconds(330, 1, 1e9) == MIN_RUN_S


@pytest.mark.parametrize("left_s", [300, 900, 1800, 3600, 10_000, 100_000])
def test_confirmation_keeps_its_time(left_s):
    found = confirm(left_s)
    assert found is not None
    assert found.num_folds >= 2
    assert 1 <= found.num_finalists <= MAX_FINALISTS
    assert found.num_runs * (found.run_s + 10.0) <= left_s
    assert found.run_s <= 1000.0


def test_more_time_gives_more_finalists_and_then_more_folds():
    layouts = [confirm(left_s) for left_s in (600, 1500, 2500, 100_000)]
    assert [item.num_finalists for item in layouts if item] == [1, 2, 3, 3]
    assert [item.num_folds for item in layouts if item] == [2, 2, 2, 4]


def test_without_time_nothing_is_confirmed():
    assert confirm(100) is None


def test_enough_folds_are_taken_for_a_test_to_be_able_to_tell():
    def folds(*sizes):
        return [[f"{index}.{case}" for case in range(n)] for index, n in enumerate(sizes)]

    assert folds_needed(folds(10, 10, 10)) == 2
    assert folds_needed(folds(2, 2, 2, 2)) == 3
    assert folds_needed(folds(1, 1, 1)) is None
    assert folds_needed(folds(50)) is None
    assert smallest_search_s(4) == 2 * smallest_search_s(2)


def test_a_case_that_several_folds_hold_out_counts_once():
    assert folds_needed([["a", "b", "c", "d"]] * 3) is None
    assert folds_needed([["a", "b", "c"], ["b", "c", "d"], ["e", "f"]]) == 3


def test_there_are_no_more_finalists_than_the_cases_can_tell_apart():
    assert [finalists_allowed(num_cases) for num_cases in (5, 6, 7, 1000)] == [0, 1, 3, 3]


def test_trainings_shorter_than_the_shortest_run_can_be_confirmed():
    found = confirm(10_000, trial_s=MIN_RUN_S, longest_s=MIN_RUN_S / 2)
    assert found is not None
    assert found.run_s == MIN_RUN_S


def test_every_plan_has_as_many_runs():
    assert Layout(3, 2, 1.0).num_runs == 4 * 2 * NUM_SEEDS


def test_only_looks_at_a_rung_may_end_a_run():
    assert rung_of(25, 100) == 0.25
    assert rung_of(49, 100) == 0.5
    assert rung_of(38, 100) is None
    assert rung_of(88, 100) is None


def test_a_run_is_ended_only_when_it_is_far_behind_and_among_the_worst():
    rivals = [0.8, 0.7, 0.6, 0.5]
    margin = RUNGS[0.5]
    assert is_clearly_bad(0.4, rivals, 0.5)
    assert not is_clearly_bad(0.8 - margin, rivals, 0.5)
    assert not is_clearly_bad(0.65, rivals, 0.5), "half of the others are worse"
    assert not is_clearly_bad(0.1, rivals[:2], 0.5), "too few to compare with"


def test_close_runs_are_never_ended():
    assert not is_clearly_bad(0.79, [0.8, 0.8, 0.8, 0.8], 0.5)

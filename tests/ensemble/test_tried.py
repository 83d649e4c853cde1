"""The rule for what is tried after training: cross-fitted, enough to matter, more than chance."""

import numpy as np
import pytest

from autoseg.ensemble.tried import group_cases, judge, prefer, prefer_by_case

NUM_CASES = 20


def tables(gain, noise, seed=0):
    rng = np.random.default_rng(seed)
    before = rng.uniform(0.7, 0.9, size=(NUM_CASES, 2))
    after = before + gain + rng.normal(scale=noise, size=(NUM_CASES, 1))
    return before, after, after


def patients(each=1):
    return [f"patient {index // each}" for index in range(NUM_CASES)]


def test_a_clear_gain_is_used_and_reported():
    found = judge("weights", tables(0.02, 0.01), patients(), best="both", min_gain=0.002)
    assert found.used
    assert found.gain == pytest.approx(0.02, abs=0.01)
    assert "It helps" in found.reason


@pytest.mark.parametrize(
    ("gain", "noise", "word"),
    [(0.001, 1e-5, "not worth"), (0.004, 0.05, "Chance"), (-0.02, 0.01, "not worth")],
)
def test_a_gain_that_is_small_or_chance_is_not_used(gain, noise, word):
    found = judge("weights", tables(gain, noise), patients(), best="both", min_gain=0.002)
    assert not found.used
    assert word in found.reason
    assert "kept as planned" in found.reason


def test_many_cases_of_few_patients_prove_nothing():
    given = tables(0.02, 0.0)
    assert judge("weights", given, patients(), best="both", min_gain=0.002).used
    assert not judge("weights", given, patients(each=5), best="both", min_gain=0.002).used


def test_a_gain_by_which_most_patients_lose_is_not_used():
    before = np.full((NUM_CASES, 2), 0.8)
    before[1:, 1] = np.nan  # of a class that one patient has
    after = before.copy()
    after[0, 1] = 1.0
    after[1:, 0] -= 0.02
    found = judge("weights", (before, after, after), patients(), best="both", min_gain=0.002)
    assert found.gain is not None
    assert found.gain > 0.05
    assert not found.used
    assert "The mean over patients falls" in found.reason


def test_the_planned_setting_is_never_a_change():
    found = judge("weights", tables(0.02, 0.0), patients(), best="as planned", min_gain=0.002)
    assert not found.used


def test_what_nobody_can_judge_is_not_used():
    before, after, _ = tables(0.02, 0.0)
    nothing = np.full_like(before, np.nan)
    found = judge("weights", (before, after, nothing), patients(), best="both", min_gain=0.002)
    assert (found.cross_fitted, found.p_value, found.used) == (None, None, False)


def test_of_equal_options_the_first_is_preferred():
    table = np.full((3, 2, 4), 0.5)
    table[:, 1, 2:] = 0.6
    assert prefer(table) == (0, 2)


def test_each_case_gets_what_the_other_groups_prefer():
    table = np.zeros((4, 1, 2))
    table[:2, 0, 1] = 1.0  # the first group likes option 1
    table[2:, 0, 0] = 1.0
    groups = np.array([0, 0, 1, 1])
    assert prefer_by_case(table, groups) == [(0,), (0,), (1,), (1,)]
    assert prefer_by_case(table, np.zeros(4, int)) == []


def test_a_single_fold_is_divided_by_patients():
    groups, kind = group_cases(["0"] * NUM_CASES, patients(each=2), seed=0)
    assert kind == "halves"
    assert set(groups.tolist()) == {0, 1}
    assert all(len(set(groups[start : start + 2])) == 1 for start in range(0, NUM_CASES, 2))


def test_folds_that_share_a_patient_are_one_group():
    folds = ["0", "0", "1", "1", "2", "2"]
    shared = ["a", "b", "b", "c", "d", "e"]
    groups, kind = group_cases(folds, shared, seed=0)
    assert kind == "folds"
    assert groups[0] == groups[1] == groups[2] == groups[3] != groups[4] == groups[5]


def test_folds_that_all_share_patients_are_divided_by_patients():
    folds, shared = ["0", "1"] * 4, ["a", "a", "b", "b", "c", "c", "d", "d"]
    groups, kind = group_cases(folds, shared, seed=0)
    assert kind == "halves"
    assert (groups[::2] == groups[1::2]).all()
    assert set(groups.tolist()) == {0, 1}


def test_what_is_no_longer_found_where_nothing_is_counts():
    before = np.full((NUM_CASES, 1), 0.9)
    before[:8] = 0.0  # nothing is there, something was found
    after = before.copy()
    after[:8] = np.nan  # and no longer is
    found = judge("sizes", (before, after, after), patients(), best="both", min_gain=0.001)
    assert found.used

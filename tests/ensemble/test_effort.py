"""A setting of prediction changes only where it is better, or as good and clearly faster."""

from dataclasses import replace

import numpy as np
import pytest

from autoseg.ensemble.effort import (
    MARGIN,
    Outcomes,
    Setting,
    decide,
    other_mirroring,
    other_overlaps,
)
from autoseg.testing.plans import small_configuration

HALF = Setting(0.5, mirrored=True)
PLAIN = Setting(0.5, mirrored=False)
WORDS = ("mirrored", "not mirrored")


def outcomes(gains, *, calls=(80, 10), num_patients=8, noise=0.0, cases_each=1):
    """Return what comes of settings that gain so much Dice, over cases of unequal difficulty."""
    rng = np.random.default_rng(0)
    num_cases = num_patients * cases_each
    base = rng.uniform(0.6, 0.8, size=(num_cases, 2))
    drawn = noise * rng.standard_normal((len(gains), num_cases, 1))
    table = np.stack(
        [base, *(base + gain + one for gain, one in zip(gains, drawn, strict=True))], 1
    )
    patients = [f"p{index // cases_each}" for index in range(num_cases)]
    folds = tuple(str(int(name[1:]) % 2) for name in patients)
    return Outcomes(table=table, calls=tuple(calls), folds=folds, patients=tuple(patients))


def test_mirroring_is_dropped_where_it_changes_next_to_nothing():
    found, tried = decide("mirroring", (HALF, PLAIN), WORDS, outcomes([-0.0001], noise=3e-4), 0)
    assert found == 1
    assert tried.used
    assert tried.best == "not mirrored"
    assert "8.0 times fewer network calls" in tried.reason
    assert tried.before is not None
    assert tried.in_sample == pytest.approx(tried.before - 0.0001, abs=5e-4)


def test_a_loss_above_the_margin_is_never_worth_the_time():
    found, tried = decide("mirroring", (HALF, PLAIN), WORDS, outcomes([-2 * MARGIN]), 0)
    assert found == 0
    assert not tried.used


def test_what_could_be_worse_by_chance_is_not_taken_as_equal():
    found, _ = decide("mirroring", (HALF, PLAIN), WORDS, outcomes([0.0], noise=0.01), 0)
    assert found == 0


def test_a_setting_that_is_hardly_faster_must_be_better():
    found, _ = decide("mirroring", (HALF, PLAIN), WORDS, outcomes([0.0], calls=(14, 10)), 0)
    assert found == 0


@pytest.mark.parametrize(("gain", "used"), [(0.01, True), (0.001, False)])
def test_a_slower_setting_is_used_only_if_it_gains_enough(gain, used):
    case = outcomes([gain], calls=(10, 80))
    found, tried = decide("mirroring", (PLAIN, HALF), WORDS[::-1], case, 0)
    assert (found == 1) == used == tried.used


@pytest.mark.parametrize("gain", [-0.0001, 0.05])
def test_five_patients_decide_nothing_however_many_cases_they_have(gain):
    case = outcomes([gain], num_patients=5, cases_each=4)
    assert decide("mirroring", (HALF, PLAIN), WORDS, case, 0)[0] == 0


def test_time_is_never_saved_by_tiles_that_overlap_less_than_half():
    settings = (HALF, Setting(0.25, mirrored=True))
    found, _ = decide("tile overlap", settings, ("0.5", "0.25"), outcomes([0.0]), 0)
    assert found == 0


def test_less_overlap_is_used_where_it_is_better():
    settings = (HALF, Setting(0.25, mirrored=True))
    found, _ = decide("tile overlap", settings, ("0.5", "0.25"), outcomes([0.02]), 0)
    assert found == 1


def test_an_overlap_that_was_planned_smaller_stays_allowed():
    settings = (Setting(0.25, mirrored=True), Setting(0.25, mirrored=False))
    assert decide("mirroring", settings, WORDS, outcomes([0.0]), 0)[0] == 1


def test_of_several_faster_ones_the_fastest_that_is_as_good_is_taken():
    settings = tuple(Setting(overlap, mirrored=False) for overlap in (0.75, 0.625, 0.5))
    words = ("0.75", "0.625", "0.5")
    calls = (90, 40, 20)
    case = outcomes([0.0, -0.01], calls=calls)
    assert decide("tile overlap", settings, words, case, 0)[0] == 1
    case = outcomes([0.0, 0.0], calls=calls)
    assert decide("tile overlap", settings, words, case, 0)[0] == 2


def test_every_other_setting_is_told():
    _, tried = decide("mirroring", (HALF, PLAIN), WORDS, outcomes([-0.01]), 0)
    assert "not mirrored: -0.0100 Dice" in tried.reason
    assert "0.12 times" in tried.reason


def test_nothing_is_mirrored_that_the_plan_does_not_mirror():
    recipe = small_configuration((16, 16), median_shape=(20, 24)).recipe
    assert other_mirroring(PLAIN, recipe) == (HALF,)
    assert other_mirroring(PLAIN, replace(recipe, mirror_axes=())) == ()


def test_the_current_overlap_is_not_tried_again():
    assert [item.overlap for item in other_overlaps(HALF)] == [0.25, 0.625]
    assert all(item.mirrored for item in other_overlaps(HALF))

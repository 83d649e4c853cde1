import pytest

from autoseg.plan.small_sets import (
    DECAY_FACTOR,
    MANY_PASSES,
    SMALL_SET,
    SMALL_SET_DROPOUT,
    augmentation_strength,
    decay_factor,
    dropout,
    may_overfit,
    passes,
)

FEW, MANY = SMALL_SET - 1, SMALL_SET
RARELY, OFTEN = MANY_PASSES, MANY_PASSES + 1


def test_passes_count_how_often_each_voxel_is_shown():
    assert passes(100, 2 * 64**2, 8 * 128**2, 0.5) == pytest.approx(100 * 2 / (8 * 4 * 0.5))


@pytest.mark.parametrize(
    ("num_cases", "seen", "expected"),
    [(FEW, OFTEN, True), (FEW, RARELY, False), (MANY, OFTEN, False)],
)
def test_few_cases_shown_often_may_be_learnt_by_heart(num_cases, seen, expected):
    assert may_overfit(num_cases, seen) is expected


def test_only_then_dropout_and_more_weight_decay_are_planned():
    assert dropout(FEW, OFTEN).value == SMALL_SET_DROPOUT
    assert decay_factor(FEW, OFTEN).value == DECAY_FACTOR
    assert dropout(FEW, RARELY).value == dropout(MANY, OFTEN).value == 0
    assert decay_factor(FEW, RARELY).value == decay_factor(MANY, OFTEN).value == 1


@pytest.mark.parametrize(
    ("num_cases", "seen", "is_short", "expected"),
    [
        (FEW, OFTEN, True, "usual"),
        (FEW, RARELY, True, "light"),
        (FEW, OFTEN, False, "strong"),
        (MANY, OFTEN, False, "usual"),
    ],
)
def test_augmentation_grows_a_step_where_cases_are_few(num_cases, seen, is_short, expected):
    found = augmentation_strength(num_cases, seen, is_short=is_short)
    assert found.value == expected
    assert found.reason.endswith(".")

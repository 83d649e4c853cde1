import pytest

from autoseg.plan.after import (
    LONGER,
    NARROWEST,
    OVERFITTING_GAP,
    STILL_RISING,
    ConfigurationEvidence,
    RunEvidence,
    bounded_by,
    budget_after,
    configurations_after,
    decay_after,
    width_after,
)


def evidence(
    train: float | None = 0.9,
    validation=0.85,
    gain: float | None = 0.0,
    folds: tuple[str, ...] = ("0", "1"),
):
    return ConfigurationEvidence(
        name="2d",
        width=32,
        weight_decay=0.01,
        folds=folds,
        train_dice=train,
        validation_dice=validation,
        late_gain=gain,
    )


def run(*folds):
    items = tuple(evidence(folds=tuple(map(str, range(count)))) for count in folds)
    return RunEvidence(plan_digest="0", num_folds=5, configurations=items)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (evidence(0.9, 0.9 - OVERFITTING_GAP - 0.01, 1.0), "data"),
        (evidence(gain=STILL_RISING + 0.001), "time"),
        (evidence(train=None, gain=STILL_RISING + 0.001), "time"),
        (evidence(gain=STILL_RISING / 2), "network"),
        (evidence(train=None), "unknown"),
        (evidence(gain=None), "unknown"),
    ],
)
def test_a_run_says_what_bounded_it(found, expected):
    advice = bounded_by(found)
    assert advice.value == expected
    assert advice.reason.endswith(".")


def test_overfitting_halves_a_wide_network_and_decays_a_narrow_one():
    assert width_after("data", 2 * NARROWEST).value == NARROWEST
    assert decay_after("data", 2 * NARROWEST, 0.01, 3).value == 0.01
    assert width_after("data", 2 * NARROWEST - 1).value == 2 * NARROWEST - 1
    assert decay_after("data", 2 * NARROWEST - 1, 0.01, 3).value == pytest.approx(0.03)


def test_a_network_that_had_learnt_all_it_could_grows():
    assert width_after("network", 16).value == 24
    assert width_after("time", 16).value == width_after("unknown", 16).value == 16


def test_a_run_that_was_still_rising_gets_more_time():
    assert budget_after("time", 600.0).value == LONGER * 600
    assert budget_after("network", 600.0).value == 600


def test_a_run_that_dropped_folds_leads_to_one_configuration():
    assert run(5, 3).num_dropped == 2
    assert configurations_after(run(5, 3), 2).value == 1
    assert configurations_after(run(5, 5), 2).value == 2
    assert configurations_after(None, 2).value == 2

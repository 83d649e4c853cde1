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
    **more,
):
    return ConfigurationEvidence(
        name="2d",
        width=32,
        weight_decay=0.01,
        folds=folds,
        train_dice=train,
        validation_dice=validation,
        late_gain=gain,
        **more,
    )


RISING = STILL_RISING + 0.04


def run(*items, num_dropped=0):
    return RunEvidence(num_dropped=num_dropped, configurations=items)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (evidence(0.9, 0.9 - OVERFITTING_GAP - 0.01, 1.0), "data"),
        (evidence(gain=STILL_RISING + 0.001), "time"),
        (evidence(train=None, gain=STILL_RISING + 0.001), "time"),
        (evidence(gain=STILL_RISING / 2), "network"),
        (evidence(train=None), "unknown"),
        (evidence(gain=None), "unknown"),
        (evidence(gain=RISING, ended_by="steps"), "unknown"),
        (evidence(gain=0.0, ended_by="steps"), "unknown"),
        (evidence(0.9, 0.5, ended_by="steps"), "data"),
        (evidence(gain=RISING, ended_by="choice"), "unknown"),
        (evidence(gain=0.0, ended_by="choice"), "network"),
        (evidence(gain=RISING, ended_by="plateau"), "network"),
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


def test_a_run_that_was_still_rising_gets_twice_its_own_time():
    found = budget_after(run(evidence(gain=RISING, budget_s=900.0)), 600.0)
    assert found is not None
    assert found.value == LONGER * 900
    assert found.reason.startswith("Twice the 15 min of the run before, whose second half still")
    assert "default" not in found.reason
    unknown = budget_after(run(evidence(gain=RISING)), 600.0)
    assert unknown is not None
    assert unknown.value == LONGER * 600


@pytest.mark.parametrize(
    "before",
    [
        None,
        run(evidence(gain=0.0, budget_s=600.0)),
        run(evidence(gain=RISING, budget_s=600.0, ended_by="steps")),
        run(evidence(gain=RISING, budget_s=600.0, ended_by="choice")),
        run(evidence(gain=RISING, budget_s=120.0)),
    ],
    ids=["no run", "network", "steps", "some folds", "the default is longer anyway"],
)
def test_the_default_budget_stays_where_time_was_no_bound(before):
    assert budget_after(before, 600.0) is None


def test_a_run_that_dropped_folds_leads_to_one_configuration():
    assert configurations_after(run(evidence(), num_dropped=2), 2).value == 1
    assert configurations_after(run(evidence()), 2).value == 2
    assert configurations_after(None, 2).value == 2

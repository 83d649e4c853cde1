import pytest

from autoseg.plan.expectation import ADAMW, NOTHING, SGD, expected_accuracy, planned_steps
from autoseg.runtime.recipe import Labels
from autoseg.testing.plans import small_configuration, small_plan

TRAINING = small_configuration((16, 16, 16)).training
FAST = TRAINING.revised(optimizer="adamw")


def test_fewer_steps_than_a_known_run_are_said_to_be_below_it():
    found = expected_accuracy(FAST, 1123)
    assert str(found).startswith("about 1,100 steps a fold: below the 1,600 that gave mean Dice")
    assert "0.8865 on hippocampus" in found.evidence
    assert found.accuracy == ADAMW[0].accuracy


def test_what_is_expected_grows_with_the_steps():
    found = [expected_accuracy(FAST, steps).accuracy for steps in (10, 60, 1600, 5000, 10**6)]
    names = [run.accuracy for run in ADAMW]
    assert found == [NOTHING, *names, names[-1]]
    assert "at least the 4,149" in expected_accuracy(FAST, 10**6).evidence


def test_what_nnunet_needs_is_measured_against_its_own_runs():
    slow = TRAINING.revised(optimizer="sgd")
    assert str(SGD[-1].dice) in expected_accuracy(slow, 5000).evidence
    assert expected_accuracy(slow, 250_000).accuracy == SGD[-1].accuracy


@pytest.mark.parametrize("runs", [ADAMW, SGD])
def test_known_runs_are_in_order(runs):
    assert list(runs) == sorted(runs, key=lambda run: (run.steps, run.dice))


def test_planned_steps_are_those_of_the_budget_else_the_default():
    item = small_configuration((16, 16, 16))
    item = item.revised(
        cost=item.cost.revised(step_seconds=2.0),
        training=item.training.revised(default_steps=77, default_budget_s=None),
    )
    labels = Labels(names=("background", "ball"), values=(0, 1))
    plan = small_plan(labels, (item,), num_folds=1)
    assert planned_steps(plan.revised(budget_s=None), item) == 77
    assert planned_steps(plan.revised(budget_s=1000.0), item) == pytest.approx(
        (1000 * 0.92 - 30) / 2
    )

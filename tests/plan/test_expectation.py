import pytest

from autoseg.machine import Gpu
from autoseg.plan.expectation import (
    ACCURACIES,
    ADAMW,
    COARSE,
    FIRST,
    GOOD,
    LITTLE,
    NOTHING,
    SGD,
    expected_accuracy,
    planned_steps,
    with_accuracy,
    work_of_step,
)
from autoseg.plan.plan import Decision
from autoseg.plan.registry import load_planner
from autoseg.plan.training import adamw_training
from autoseg.runtime.recipe import Labels
from autoseg.testing.fingerprints import fingerprint_of, machine_of, request_of
from autoseg.testing.plans import small_configuration, small_network, small_plan

GB = 10**9
BRAINS = fingerprint_of([(36, 50, 35)] * 208)
CELLS = fingerprint_of([(512, 512)] * 20, (1.0, 1.0))
LARGE = fingerprint_of([(60, 160, 160)] * 20)


def auto(fingerprint, **options):
    return load_planner("auto")(request_of(fingerprint, **options))


def trained(plan):
    return next(item for item in plan.configurations if item.train_by_default)


REFERENCE = trained(auto(BRAINS, budget_s=1200.0))
"""The configuration that the hippocampus runs were trained with."""
NNUNET = load_planner("nnunet")(request_of(BRAINS)).configuration("3d_fullres")
SLOW = REFERENCE.revised(training=REFERENCE.training.revised(optimizer="sgd"))


def test_less_work_than_a_known_run_is_said_to_be_a_part_of_it():
    found = expected_accuracy(REFERENCE, 1123)
    assert str(found).startswith("about 1,100 steps a fold: 71 % of the work of the 1,600 that")
    assert "Dice 0.8865 on hippocampus" in found.evidence
    assert found.accuracy == FIRST
    longer = expected_accuracy(REFERENCE, 8300)
    assert "2.0 times the work of the 4,149" in longer.evidence
    assert "less than 1 % of the work" in expected_accuracy(REFERENCE, 0.1).evidence


def test_what_is_expected_grows_with_the_steps():
    found = [expected_accuracy(REFERENCE, steps).accuracy for steps in (10, 60, 1700, 4300, 10**6)]
    assert found == [NOTHING, FIRST, COARSE, GOOD, GOOD]
    slow = [expected_accuracy(SLOW, 12 * steps).accuracy for steps in (100, 3000, 13_000, 260_000)]
    assert slow == [LITTLE, FIRST, COARSE, GOOD]


def test_what_nnunet_needs_is_measured_against_its_own_runs():
    assert str(SGD[1].dice) in expected_accuracy(SLOW, 5000).evidence


@pytest.mark.parametrize("runs", [ADAMW, SGD])
def test_known_runs_are_in_order(runs):
    assert list(runs) == sorted(runs, key=lambda run: (run.steps, run.work, run.dice))
    ranks = [ACCURACIES.index(run.accuracy) for run in runs]
    assert ranks == sorted(set(ranks))
    assert all(run.least_steps <= run.steps for run in runs)


def test_the_work_of_the_known_runs_is_that_of_their_networks():
    assert work_of_step(REFERENCE) == pytest.approx(ADAMW[-1].step_work, rel=0.05)
    assert work_of_step(NNUNET) == pytest.approx(SGD[-1].step_work, rel=0.05)


def test_the_known_runs_reach_what_they_reached():
    for item, runs in ((REFERENCE, ADAMW[1:]), (NNUNET, SGD)):
        found = [expected_accuracy(item, run.steps).accuracy for run in runs]
        assert found == [run.accuracy for run in runs]


def test_smaller_patches_and_narrower_networks_need_more_steps_for_the_same():
    smaller = REFERENCE.revised(patch_size=(24, 24, 24))
    assert expected_accuracy(REFERENCE, 4300).accuracy == GOOD
    assert expected_accuracy(smaller, 4300).accuracy == FIRST
    assert expected_accuracy(smaller, 10 * 4300).accuracy == GOOD


def test_few_steps_are_no_good_model_however_much_work_each_is():
    found = expected_accuracy(REFERENCE.revised(batch_size=2000), 50)
    assert found.accuracy == FIRST
    assert "and a coarse model takes 1,000 or more" in found.evidence


def test_nothing_is_learnt_from_computing_twice_or_from_a_dearer_augmentation():
    training = REFERENCE.training.revised(recompute=True)
    assert work_of_step(REFERENCE.revised(training=training)) == work_of_step(REFERENCE)


@pytest.mark.parametrize("fingerprint", [BRAINS, CELLS, LARGE], ids=["brains", "cells", "large"])
@pytest.mark.parametrize(
    ("budget_s", "speed"), [(300.0, 0.3), (1200.0, 1.0), (7200.0, 1.0), (7200.0, 5.0)]
)
def test_less_memory_never_promises_more(fingerprint, budget_s, speed):
    machine = machine_of()
    machine = machine.revised(flops=speed * machine.flops)
    ranks = []
    for memory in (0.5, 0.7, 4):
        plan = auto(fingerprint, machine=machine, memory_bytes=int(memory * GB), budget_s=budget_s)
        item = trained(plan)
        expected = expected_accuracy(item, planned_steps(plan, item))
        ranks.append(ACCURACIES.index(expected.accuracy))
    assert ranks == sorted(ranks)


def test_a_large_gpu_promises_no_less_than_a_small_processor():
    gpu = machine_of(Gpu(name="NVIDIA A100", memory_bytes=40 * 2**30))
    found = []
    for machine in (machine_of(flops=5e10), gpu):
        plan = auto(CELLS, machine=machine)
        item = trained(plan)
        found.append(expected_accuracy(item, planned_steps(plan, item)).accuracy)
    assert ACCURACIES.index(found[0]) <= ACCURACIES.index(found[1])


def test_a_plan_says_what_to_expect_of_what_it_trains_and_of_nothing_else():
    plan = auto(BRAINS, budget_s=1200.0)
    names = [item.name for item in plan.decisions]
    assert "3d_fullres.accuracy" in names
    other = tuple(
        item.revised(train_by_default=not item.train_by_default) for item in plan.configurations
    )
    changed = [item.name for item in with_accuracy(plan.revised(configurations=other)).decisions]
    assert "2d.accuracy" in changed
    assert "3d_fullres.accuracy" not in changed
    assert with_accuracy(plan) == plan


def test_what_else_a_planner_decided_stays():
    network = small_network(3, stages=((4, 1), (8, 2)))
    training = adamw_training((16, 16, 16), supervised=1, batch_dice=False)
    item = small_configuration((16, 16, 16), network=network, training=training)
    told = Decision(name="memory", value="1 GB", rule="mine", inputs={}, reason="Why not.")
    labels = Labels(names=("background", "a", "b"), values=(0, 1, 2))
    plan = small_plan(labels, (item,), num_folds=1).revised(decisions=(told,))
    assert with_accuracy(plan).decisions[0] == told


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

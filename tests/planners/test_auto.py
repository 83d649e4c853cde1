import time

import pytest
from hypothesis import given, settings

from autoseg.machine import Gpu
from autoseg.plan.cost import overhead_seconds
from autoseg.plan.plan import SidePair
from autoseg.plan.registry import load_planner
from autoseg.plan.speed import step_speed
from autoseg.runtime.recipe import Labels
from autoseg.testing.fingerprints import fingerprint_of, machine_of, request_of
from autoseg.testing.strategies import plan_requests

AUTO = load_planner("auto")
GPU = Gpu(name="NVIDIA A100-SXM4-40GB", memory_bytes=40 * 10**9)
BRAINS = [(36, 50, 35)] * 208
HEARTS = [(10, 256, 216)] * 30
CELLS = [(512, 512)] * 20


def ask(*data, machine=None, **options):
    return AUTO(request_of(fingerprint_of(*data), machine, **options))


def trained(plan):
    return [item for item in plan.configurations if item.train_by_default]


@settings(deadline=None, max_examples=15)
@given(request=plan_requests())
def test_memory_is_kept_and_something_is_trained(request):
    plan = AUTO(request)
    assert trained(plan)
    for item in plan.configurations:
        smallest = item.batch_size == 2 and max(item.patch_size) <= 8
        assert item.cost.memory_bytes <= plan.memory_bytes or smallest
    if request.memory_bytes is not None:
        assert plan.memory_bytes <= request.memory_bytes


@settings(deadline=None, max_examples=15)
@given(request=plan_requests())
def test_a_cpu_trains_one_configuration_and_nobody_a_cascade(request):
    plan = AUTO(request)
    names = [item.name for item in trained(plan)]
    assert "3d_cascade_fullres" not in names
    assert request.device != "cpu" or len(names) == 1


def test_small_volumes_on_a_cpu_get_the_network_that_was_measured():
    (item,) = trained(ask(BRAINS, budget_s=1200.0))
    assert item.name == "3d_fullres"
    assert (item.patch_size, item.batch_size) == ((40, 56, 40), 2)
    assert [stage.features for stage in item.network.stages] == [16, 32, 64, 128]
    assert item.training.optimizer == "adamw"
    assert (item.recipe.order, item.recipe.padding) == ("resample-normalise", "mirror")


def test_more_time_for_one_fold_makes_a_wider_network():
    (short,) = trained(ask(BRAINS, budget_s=1200.0, num_folds=1))
    (long,) = trained(ask(BRAINS, budget_s=3600.0, num_folds=1))
    assert long.network.stages[0].features > short.network.stages[0].features


def test_few_slices_far_apart_are_trained_in_2d_on_a_cpu():
    (item,) = trained(ask(HEARTS, (10.0, 1.5, 1.5), budget_s=1800.0))
    assert item.name == "2d"
    assert "slices" in item.why
    assert item.cost.step_seconds < 0.5


def test_many_slices_are_trained_in_3d():
    (item,) = trained(ask([(40, 256, 216)] * 30, (10.0, 1.5, 1.5)))
    assert item.name == "3d_fullres"


def test_images_get_a_patch_that_leaves_enough_steps():
    (item,) = trained(ask(CELLS, (1.0, 1.0), budget_s=1800.0))
    assert item.name == "2d"
    assert item.cost.train_seconds / item.cost.step_seconds > 900
    assert min(item.patch_size) >= 192


def test_large_volumes_on_a_cpu_are_trained_coarsely():
    plan = ask([(187, 512, 512)] * 41, (1.6, 0.8, 0.8))
    (item,) = trained(plan)
    assert item.name == "3d_lowres"
    assert all(other.why for other in plan.configurations)


def test_pixels_are_mirrored_on_a_cpu_and_bodies_are_not():
    (cells,) = trained(ask(CELLS, (1.0, 1.0)))
    (brains,) = trained(ask(BRAINS))
    assert cells.recipe.mirror_axes == (0, 1)
    assert brains.recipe.mirror_axes == ()
    assert not brains.recipe.test_time_mirroring


def test_a_gpu_gets_the_training_of_nnunet_and_both_configurations():
    plan = ask(BRAINS, machine=machine_of(GPU))
    assert {item.name for item in trained(plan)} == {"2d", "3d_fullres"}
    item = plan.configuration("3d_fullres")
    assert (item.training.optimizer, item.network.stages[0].features) == ("sgd", 32)
    assert item.training.default_budget_s == 12 * 3600
    assert item.recipe.mirror_axes == (0, 1, 2)


def test_a_gpu_with_more_memory_gets_a_larger_patch():
    volumes = [(300, 300, 300)] * 50
    sizes = [
        ask(volumes, machine=machine_of(GPU), memory_bytes=memory).configuration("3d_fullres")
        for memory in (4_000_000_000, 16_000_000_000)
    ]
    assert sizes[0].patch_size < sizes[1].patch_size


def test_a_gpu_is_not_filled_to_the_last_byte():
    plan = ask([(300, 300, 300)] * 50, machine=machine_of(GPU))
    assert plan.memory_bytes == int(0.9 * GPU.memory_bytes)
    assert all(item.cost.memory_bytes <= plan.memory_bytes for item in plan.configurations)
    asked = ask(BRAINS, machine=machine_of(GPU), memory_bytes=GPU.memory_bytes)
    assert asked.memory_bytes == GPU.memory_bytes


def test_the_default_budget_is_that_of_the_device():
    (item,) = trained(ask(BRAINS))
    assert item.training.default_budget_s == 2 * 3600
    assert item.training.default_steps is None
    assert item.cost.train_seconds == pytest.approx(7200 / 5, rel=0.15)


def test_decisions_say_why_in_sentences():
    plan = ask(BRAINS)
    for decision in plan.decisions:
        assert decision.reason.endswith(".")
        assert decision.rule
    names = [decision.name for decision in plan.decisions]
    assert {"spacing", "3d_fullres.patch_size", "2d.train_by_default", "memory"} <= set(names)


@pytest.mark.parametrize(("budget_s", "is_told"), [(None, True), (7200.0, False)])
def test_a_default_budget_is_told_with_the_option_that_changes_it(budget_s, is_told):
    plan = ask(BRAINS, budget_s=budget_s)
    (decision,) = (item for item in plan.decisions if item.name == "time of a fold")
    assert decision.inputs["budget"] == "2 h 00 min"
    assert ("the default (--budget sets it)" in decision.reason) is is_told


def test_an_axis_that_swaps_left_and_right_is_not_mirrored():
    labels = Labels(names=("background", "left lung", "right lung"), values=(0, 1, 2))
    volumes = fingerprint_of([(60, 90, 100)] * 12, (1.0, 1.0, 1.0), labels=labels)
    volumes = volumes.revised(
        cases=tuple(case.revised(orientation="LPS") for case in volumes.cases)
    )
    plan = AUTO(request_of(volumes, machine_of(GPU)))
    assert plan.configuration("3d_fullres").recipe.mirror_axes == (0, 1)
    assert plan.configuration("2d").recipe.mirror_axes == (0,)
    augmentation = plan.configuration("3d_fullres").training.augmentation
    assert augmentation.side_pairs == (SidePair(axis=2, first=1, second=2),)
    assert augmentation.side_mirror_probability == 0
    assert plan.configuration("2d").training.augmentation.side_pairs[0].axis == 1
    told = next(item for item in plan.decisions if item.name == "mirroring")
    assert told.value == "not along axis 2"
    assert "left lung and right lung" in told.reason
    nnunet = load_planner("nnunet")(request_of(volumes, machine_of(GPU)))
    assert nnunet.configuration("3d_fullres").recipe.mirror_axes == (0, 1, 2)


def test_the_axis_that_is_not_mirrored_follows_the_transpose():
    labels = Labels(names=("background", "left lung", "right lung"), values=(0, 1, 2))
    volumes = fingerprint_of([(100, 60, 20)] * 12, (1.0, 1.0, 5.0), labels=labels)
    volumes = volumes.revised(
        cases=tuple(case.revised(orientation="LPS") for case in volumes.cases)
    )
    recipe = AUTO(request_of(volumes, machine_of(GPU))).configuration("3d_fullres").recipe
    assert recipe.transpose == (2, 0, 1)
    assert recipe.mirror_axes == (1, 2)


LEADS = [(5000,)] * 480


def test_signals_get_one_configuration_that_sees_them_the_right_way_round():
    plan = ask(LEADS, (0.002,), budget_s=1200.0)
    (item,) = plan.configurations
    assert (item.name, item.train_by_default) == ("1d", True)
    assert item.recipe.spacing == (0.002,)
    assert (item.recipe.mirror_axes, item.recipe.test_time_mirroring) == ((), False)
    assert item.training.augmentation.rotation_probability == 0.0
    assert plan.nsd_tolerance == 0.002
    reason = next(entry.reason for entry in plan.decisions if entry.name == "mirroring")
    assert "backwards" in reason


def test_a_patch_of_a_signal_grows_with_the_time_within_its_limits():
    def patch(seconds, length=5000):
        plan = ask([(length,)] * 100, (0.002,), budget_s=seconds)
        return plan.configurations[0].patch_size[0]

    assert 1024 <= patch(120.0) <= patch(7200.0) <= 5120
    assert patch(10 * 86400.0, length=10**7) <= 65_536


def test_a_batch_whose_arithmetic_costs_nothing_is_not_made_small():
    (item,) = ask(LEADS, (0.002,), budget_s=180.0).configurations
    assert item.batch_size > 2
    overhead_s = overhead_seconds(item.network, step_speed(machine_of(), "cpu", 1))
    assert item.cost.step_seconds <= 2 * overhead_s


def test_many_short_signals_are_planned_quickly():
    request = request_of(fingerprint_of([(5000,)] * 2000, (0.002,)))
    start = time.process_time()
    AUTO(request)
    assert time.process_time() - start < 2


def test_a_gpu_takes_signals_too():
    (item,) = ask(LEADS, (0.002,), machine=machine_of(GPU)).configurations
    assert item.recipe.mirror_axes == ()
    assert item.patch_size[0] >= 4096

import math

import pytest

from autoseg.machine import Gpu
from autoseg.plan.cost import overhead_seconds, step_cost, step_work, work_seconds
from autoseg.plan.counting import forward_operations
from autoseg.plan.speed import GPU_FLOPS, STEP_OVERHEAD_S, estimated_speed, step_speed
from autoseg.plan.training import adamw_training, sgd_training
from autoseg.record import LossPlan, NetworkPlan, StagePlan
from autoseg.testing.fingerprints import machine_of

PATCH = (32, 32, 32)


def network(features=16, dims=3, **changes):
    plan = NetworkPlan(
        encoder="plain",
        in_channels=1,
        num_classes=3,
        stages=tuple(
            StagePlan(
                features=features * 2**level,
                kernel_size=(3,) * dims,
                strides=(1 if level == 0 else 2,) * dims,
                num_blocks=2,
            )
            for level in range(4)
        ),
        decoder_convs=2,
        num_supervised=2,
    )
    return plan.revised(**changes)


def work(plan=None, patch=PATCH, batch_size=2, training=None):
    return step_work(plan or network(), patch, batch_size=batch_size, training=training)


def training(**changes):
    return adamw_training(PATCH, supervised=2, batch_dice=False).revised(**changes)


def test_half_empty_vectors_take_as_long_as_full_ones():
    assert work(network(features=15)).operations == work(network(features=16)).operations
    assert work(network(features=17)).operations > 1.5 * work(network(features=16)).operations
    assert work(network(features=15)).values < work(network(features=16)).values


def test_work_grows_with_patch_and_batch_but_not_what_belongs_to_the_weights():
    one, two = work(batch_size=1), work(batch_size=2)
    assert two.operations == 2 * one.operations
    assert two.values == pytest.approx(2 * one.values)
    assert (two.parameters, two.layers) == (one.parameters, one.layers)
    large = work(patch=(64, 32, 32))
    assert large.operations == 2 * two.operations


@pytest.mark.parametrize(
    "changes",
    [
        {"recompute": True},
        {"loss": LossPlan(kind="cldice")},
        {"loss": LossPlan(kind="dice_ce_cldice")},
        {"loss": LossPlan(kind="dice_ce_boundary")},
        {"augmentation": training().augmentation.revised(elastic_probability=1.0)},
    ],
)
def test_what_takes_longer_is_more_work(changes):
    usual, more = work(training=training()), work(training=training(**changes))
    assert more.values > usual.values


def test_heads_of_deep_supervision_and_more_classes_are_work():
    assert work(network(num_supervised=3)).operations > work(network()).operations
    assert work(network(num_classes=40)).values > 1.3 * work(network()).values


def test_the_light_augmentation_is_what_is_expected_without_a_training():
    assert work(training=training()) == work()


@pytest.mark.parametrize("flops", [1e10, 2e11])
def test_a_step_takes_inverse_to_the_speed_of_the_matrix_product_but_for_the_calls(flops):
    speed = step_speed(machine_of(flops=flops), "cpu", 3)
    seconds = work_seconds(work(), speed) - overhead_seconds(network(), speed)
    assert seconds * flops == pytest.approx(
        work_seconds(work(), estimated_speed(machine_of(flops=1.0), "cpu"))
        - overhead_seconds(network(), speed)
    )


def test_a_network_that_was_measured_takes_what_was_measured():
    # 0.505 s on one core whose matrix product reaches 9e10 (16 features, two of 40 x 56 x 40).
    machine = machine_of(flops=9e10).revised(num_cpus=1)
    speed = step_speed(machine, "cpu", 3)
    _, seconds = step_cost(network(), (40, 56, 40), batch_size=2, speed=speed)
    assert seconds == pytest.approx(0.505, rel=0.1)


def test_operations_leave_out_the_idle_places():
    operations, _ = step_cost(
        network(), PATCH, batch_size=2, speed=step_speed(machine_of(), "cpu", 3)
    )
    assert operations == 3 * 2 * forward_operations(network(), PATCH)
    again, _ = step_cost(
        network(),
        PATCH,
        batch_size=2,
        speed=step_speed(machine_of(), "cpu", 3),
        training=training(recompute=True),
    )
    assert again == pytest.approx(4 / 3 * operations)


def test_a_gpu_is_as_fast_as_its_name_says():
    speed = step_speed(machine_of(Gpu(name="NVIDIA T4", memory_bytes=15 * 2**30)), "cuda", 3)
    assert 1 / speed.operation_s == GPU_FLOPS["T4"]
    assert overhead_seconds(network(), speed) == pytest.approx(STEP_OVERHEAD_S["cuda"], rel=0.5)


def test_valid_convolutions_are_counted_where_they_are():
    plan = network(padding="valid", downsampling="max", num_supervised=1)
    patch = plan.patch_around((20, 20, 20))
    padded = network(downsampling="max", num_supervised=1)
    assert work(plan, patch).operations < work(padded, patch).operations
    assert work(plan, patch).parameters == work(padded, patch).parameters
    sgd = sgd_training(patch, supervised=1, batch_dice=False)
    assert math.isfinite(work(plan, patch, training=sgd).values)

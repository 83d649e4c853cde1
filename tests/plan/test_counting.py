import pytest

from autoseg.network.build import build_network
from autoseg.plan.counting import forward_operations, num_parameters, stage_voxels
from autoseg.plan.memory import feature_values, training_memory
from autoseg.record import NetworkPlan, StagePlan


def network(encoder="plain", dims=3, num_supervised=2):
    blocks = (1, 2, 2) if encoder == "residual" else (2, 2, 2)
    strides = ((1,) * dims, (1,) * (dims - 2) + (2, 2), (2,) * dims)
    plan = NetworkPlan(
        encoder="plain",
        in_channels=2,
        num_classes=3,
        stages=tuple(
            StagePlan(features=f, kernel_size=(3,) * dims, strides=s, num_blocks=n)
            for f, s, n in zip((8, 16, 16), strides, blocks, strict=True)
        ),
        decoder_convs=1 if encoder == "residual" else 2,
        num_supervised=num_supervised,
    )
    return plan.revised(encoder=encoder)


@pytest.mark.parametrize("encoder", ["plain", "residual"])
@pytest.mark.parametrize("dims", [2, 3])
def test_parameters_are_those_of_the_network_that_is_built(encoder, dims):
    plan = network(encoder, dims)
    built = sum(parameter.numel() for parameter in build_network(plan).parameters())
    assert num_parameters(plan) == built


def test_voxels_of_a_stage_follow_the_strides():
    assert stage_voxels(network().stages, (8, 16, 16)) == [2048, 512, 64]


def test_operations_grow_with_the_patch():
    small, large = (forward_operations(network(), size) for size in ((8, 16, 16), (16, 32, 32)))
    assert large == 8 * small


def test_operations_of_one_convolution_are_two_a_multiplication():
    plan = NetworkPlan(
        encoder="plain",
        in_channels=1,
        num_classes=2,
        stages=(StagePlan(features=4, kernel_size=(3, 3), strides=(1, 1), num_blocks=1),),
        decoder_convs=1,
        num_supervised=1,
    )
    assert forward_operations(plan, (10, 10)) == 2 * 100 * (9 * 4 + 4 * 2)


@pytest.mark.parametrize(
    ("encoder", "patch", "values"),
    [
        # convolutions, upsampling and head by hand: 2048, 512 and 64 voxels
        ("plain", (8, 16, 16), 5 * 8 * 2048 + 5 * 16 * 512 + 2 * 16 * 64 + 3 * 2048),
        (
            "residual",
            (8, 16, 16),
            (1 + 2 + 2) * 8 * 2048 + (5 + 2) * 16 * 512 + 5 * 16 * 64 + 3 * 2048,
        ),
    ],
)
def test_feature_values_are_what_the_convolutions_put_out(encoder, patch, values):
    assert feature_values(network(encoder), patch, 3) == values


def test_half_precision_needs_less_memory():
    plan = network()
    half, full = (
        training_memory(plan, (32, 64, 64), batch_size=2, precision=precision)
        for precision in ("bf16", "fp32")
    )
    assert half < full

from typing import Any

import pytest
import torch
from torch.nn import functional

from autoseg.network.blocks import BottleneckBlock, ConvBlock, MedNeXtBlock, ResidualBlock
from autoseg.network.build import build_network, initialise
from autoseg.network.decoders import UpBlock
from autoseg.network.layers import Materials
from autoseg.record import NetworkPlan, StagePlan


def network_plan(dimensions=3, encoder="plain", supervised=2, strides=(1, 2, 2), **changes):
    stages = tuple(
        StagePlan(
            features=4 * 2**index,
            kernel_size=(3,) * dimensions,
            strides=(stride,) * dimensions,
            num_blocks=2,
        )
        for index, stride in enumerate(strides)
    )
    values = {
        "encoder": encoder,
        "in_channels": 2,
        "num_classes": 3,
        "stages": stages,
        "decoder_convs": 1,
        "num_supervised": supervised,
    }
    return NetworkPlan(**{**values, **changes})


def built(plan, seed=0) -> Any:
    model = build_network(plan)
    initialise(model, seed)
    return model


@pytest.mark.parametrize("encoder", ["plain", "residual"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_training_gives_one_output_a_supervised_resolution(dimensions, encoder):
    model = built(network_plan(dimensions, encoder))
    outputs = model(torch.randn(2, 2, *(8,) * dimensions))
    assert [tuple(output.shape) for output in outputs] == [
        (2, 3, *(8,) * dimensions),
        (2, 3, *(4,) * dimensions),
    ]


def test_evaluation_gives_the_finest_logits_only():
    model = built(network_plan())
    x = torch.randn(1, 2, 8, 8, 8)
    torch.testing.assert_close(model.eval()(x), model.train()(x)[0])


def test_without_deep_supervision_no_further_head_is_built():
    model = built(network_plan(supervised=1))
    assert len(model.heads) == 1
    assert model(torch.randn(1, 2, 8, 8, 8)).shape == (1, 3, 8, 8, 8)


def test_more_supervised_resolutions_than_the_decoder_has_are_refused():
    with pytest.raises(ValueError, match="supervised"):
        build_network(network_plan(supervised=3))


def test_unequal_strides_and_kernels_keep_the_shape():
    plan = network_plan()
    flat = plan.stages[1].revised(strides=(1, 2, 2), kernel_size=(1, 3, 3))
    model = built(plan.revised(stages=(plan.stages[0], flat, plan.stages[2])))
    outputs = model(torch.randn(1, 2, 6, 8, 12))
    assert [tuple(output.shape[2:]) for output in outputs] == [(6, 8, 12), (6, 4, 6)]


@pytest.mark.parametrize("block", [ConvBlock, ResidualBlock, BottleneckBlock, MedNeXtBlock])
@pytest.mark.parametrize(
    ("kernel", "stride"), [((3,), (2,)), ((1, 3), (1, 2)), ((3, 3, 3), (1, 2, 2))]
)
def test_blocks_divide_the_shape_by_their_stride(block, kernel, stride):
    shape = (4, 8, 8)[: len(kernel)]
    materials = Materials(dimensions=len(kernel))
    made = block(3, 5, kernel=kernel, stride=stride, materials=materials)
    out = made(torch.randn(2, 3, *shape))
    assert out.shape == (2, 5, *(n // s for n, s in zip(shape, stride, strict=True)))


def test_up_block_reaches_the_shape_of_its_skip():
    materials = Materials(dimensions=3)
    block = UpBlock(8, 4, kernel=(1, 3, 3), stride=(1, 2, 2), num_convs=2, materials=materials)
    out = block(torch.randn(1, 8, 3, 4, 4), torch.randn(1, 4, 3, 8, 8))
    assert out.shape == (1, 4, 3, 8, 8)


def test_plain_network_has_the_published_number_of_parameters():
    stages = network_plan(strides=(1, 2, 2, 2)).stages
    widths = (32, 64, 128, 256)
    stages = tuple(s.revised(features=w) for s, w in zip(stages, widths, strict=True))
    plan = network_plan(stages=stages, in_channels=1, decoder_convs=2, supervised=1)
    count = sum(p.numel() for p in build_network(plan).parameters())
    convs = [(1, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    convs += [(256, 128), (128, 128), (128, 64), (64, 64), (64, 32), (32, 32)]
    ups = [(256, 128), (128, 64), (64, 32)]
    expected = sum(27 * a * b + 3 * b for a, b in convs) + sum(8 * a * b + b for a, b in ups)
    assert count == expected + 32 * 3 + 3


def test_convolutions_start_he_normal_with_zero_bias():
    block = built(network_plan()).encoder[2][1].conv
    fan_in = 16 * 27
    assert block.weight.std().item() == pytest.approx((2 / 1.0001 / fan_in) ** 0.5, rel=0.05)
    assert block.bias.abs().max() == 0


@pytest.mark.parametrize("encoder", ["residual", "bottleneck"])
def test_residual_block_starts_as_its_shortcut(encoder):
    block = built(network_plan(encoder=encoder)).encoder[0][1]
    x = torch.randn(1, 4, 8, 8, 8)
    torch.testing.assert_close(block(x), functional.leaky_relu(x, 0.01))


def test_mednext_block_starts_as_its_shortcut():
    block = built(network_plan(encoder="mednext")).encoder[0][1]
    x = torch.randn(1, 4, 8, 8, 8)
    torch.testing.assert_close(block(x), x)

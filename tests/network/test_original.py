"""The original U-Net: Ronneberger et al. 2015, padded and with valid convolutions."""

import math

import pytest
import torch
from torch import nn

from autoseg.network.build import build_network
from autoseg.plan.counting import forward_operations, num_parameters
from autoseg.plan.memory import feature_values
from autoseg.record import NetworkPlan, StagePlan

VALID = {"padding": "valid", "downsampling": "max", "num_supervised": 1, "norm": "batch"}


def original(**changes):
    """Return the network of figure 1, with batch normalisation."""
    stages = tuple(
        StagePlan(features=features, kernel_size=(3, 3), strides=(stride,) * 2, num_blocks=2)
        for features, stride in ((64, 1), (128, 2), (256, 2), (512, 2), (1024, 2))
    )
    values = {
        "encoder": "plain",
        "in_channels": 3,
        "num_classes": 1,
        "stages": stages,
        "decoder_convs": 2,
        "num_supervised": 1,
        "downsampling": "max",
        "norm": "batch",
    }
    return NetworkPlan(**{**values, **changes})


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_original_network_has_the_known_number_of_parameters(padding):
    with torch.device("meta"):
        model = build_network(original(padding=padding))
    assert sum(parameter.numel() for parameter in model.parameters()) == 31_043_521


def test_the_original_network_turns_572_pixels_into_388():
    plan = original(padding="valid")
    with torch.device("meta"):
        model = build_network(plan).eval()
        assert model(torch.empty(1, 3, 572, 572)).shape == (1, 1, 388, 388)
    assert plan.output_margin == (92, 92)


def test_what_the_original_network_does_is_counted_from_its_plan():
    plan, operations, values = original(padding="valid"), [], []

    def count(module, inputs, output):
        where = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        operations.append(2 * module.weight.numel() * math.prod(where.shape[2:]))
        values.append(output[0].numel())

    with torch.device("meta"):
        model = build_network(plan)
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                module.register_forward_hook(count)
        model(torch.empty(1, 3, 572, 572))
    assert forward_operations(plan, (572, 572)) == sum(operations)
    assert feature_values(plan, (572, 572), 1) == sum(values)
    assert num_parameters(plan) == 31_043_521


def test_the_original_patch_is_the_smallest_around_its_output():
    plan = original(padding="valid")
    assert plan.patch_around((388, 388)) == (572, 572)
    assert plan.patch_around((373, 388)) == (572, 572)
    assert plan.patch_around((372, 388)) == (556, 572)
    assert plan.patch_problem((572, 572)) is None
    assert "(572, 572) they can" in (plan.patch_problem((570, 572)) or "")


@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_valid_network_takes_the_patches_that_fit_and_no_others(make_plan, dimensions):
    plan = make_plan(dimensions=dimensions, **VALID)
    smallest = plan.patch_around((1,) * dimensions)
    with torch.device("meta"):
        model = build_network(plan).eval()
        for more in range(2 * plan.total_strides[0]):
            shape = tuple(size + more for size in smallest)
            try:
                left = model(torch.empty(1, plan.in_channels, *shape)).shape[2:]
            except (ValueError, RuntimeError):
                assert plan.patch_problem(shape) is not None
            else:
                assert plan.patch_problem(shape) is None
                assert left[0] == shape[0] - 2 * plan.output_margin[0]


def test_a_padded_network_has_no_margin(make_plan):
    assert make_plan(dimensions=3).output_margin == (0, 0, 0)


@pytest.mark.parametrize(
    ("dimensions", "shape"), [(1, (56,)), (2, (36, 56)), (3, (36, 40, 48))], ids=str
)
def test_a_valid_network_loses_its_margin(make_plan, make_network, dimensions, shape):
    plan = make_plan(dimensions=dimensions, **VALID)
    logits = make_network(dimensions=dimensions, **VALID).eval()(torch.randn(1, 2, *shape))
    lost = [size - left for size, left in zip(shape, logits.shape[2:], strict=True)]
    assert lost == [2 * margin for margin in plan.output_margin]


@pytest.mark.parametrize("upsampling", ["transposed", "shuffle"])
def test_a_valid_network_sees_no_border(make_network, upsampling):
    """A tile anywhere gives what the whole image gives there: there is nothing to blend."""
    model = make_network(**VALID, upsampling=upsampling).eval()
    image = torch.randn(1, 2, 48, 88)
    tile = image[..., 4:44, 16:72]
    whole, part = model(image), model(tile)
    height, width = part.shape[2:]
    expected = whole[..., 4 : 4 + height, 16 : 16 + width]
    torch.testing.assert_close(part, expected)


def test_a_valid_network_refuses_sizes_that_do_not_pool_evenly(make_network):
    with pytest.raises(ValueError, match="cannot be pooled"):
        make_network(**VALID).eval()(torch.randn(1, 2, 33, 56))


def test_gradients_reach_every_parameter_of_a_valid_network(make_network):
    model = make_network(**VALID)
    model(torch.randn(2, 2, 36, 60)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_nearest_patch_that_fits_is_named():
    plan = original(padding="valid")
    assert "(572, 572) they can" in (plan.patch_problem((573, 579)) or "")
    assert "(588, 572) they can" in (plan.patch_problem((581, 572)) or "")

import torch
from torch import nn

from autoseg.network.build import build_network
from autoseg.testing.plans import small_network
from autoseg.train.gradients import layer_gradients


def network():
    torch.manual_seed(0)
    return build_network(small_network(2, num_classes=2, stages=((4, 1), (8, 2), (8, 2))))


def test_the_first_and_the_deepest_convolution_are_compared():
    model = network()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    convolutions = [
        next(
            item for name, item in model.named_parameters() if name.startswith(f"encoder.{level}.")
        )
        for level in range(3)
    ]
    for value, parameter in enumerate(convolutions, start=1):
        parameter.grad = torch.full_like(parameter, float(value))
    assert layer_gradients(model) == (1.0, 3.0)


def test_without_gradients_nothing_is_known():
    assert layer_gradients(network()) is None


def test_other_networks_are_not_judged():
    assert layer_gradients(nn.Conv2d(1, 1, 3)) is None

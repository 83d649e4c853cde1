"""Counting a network's parameters and operations from its plan; nothing is built or run."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from autoseg.record import NetworkPlan, StagePlan


class _Layer(NamedTuple):
    """A convolution (or transposed convolution) with the normalisation after it."""

    weights: int
    biases: int
    norm_values: int
    voxels: int
    """Positions at which the weights are applied."""


def stage_voxels(stages: Sequence[StagePlan], patch_size: Sequence[int]) -> list[int]:
    """Return the voxels of a feature map of each stage."""
    shape, voxels = list(patch_size), []
    for stage in stages:
        shape = [n // s for n, s in zip(shape, stage.strides, strict=True)]
        voxels.append(math.prod(shape))
    return voxels


def num_parameters(network: NetworkPlan) -> int:
    """Return the number of trained values of the network, heads of deep supervision included."""
    layers = _layers(network, network.total_strides)
    return sum(layer.weights + layer.biases + layer.norm_values for layer in layers)


def forward_operations(network: NetworkPlan, patch_size: Sequence[int]) -> float:
    """Return the floating-point operations of one image's forward pass (two a multiplication)."""
    return 2.0 * sum(layer.weights * layer.voxels for layer in _layers(network, patch_size))


def _layers(network: NetworkPlan, patch_size: Sequence[int]) -> Iterator[_Layer]:
    """Yield every convolution of the network."""
    voxels = stage_voxels(network.stages, patch_size)
    encoder = _residual_encoder if network.encoder == "residual" else _plain_encoder
    yield from encoder(network, voxels)
    finer, coarser = network.stages[:-1], network.stages[1:]
    for level, (stage, below) in enumerate(zip(finer, coarser, strict=True)):
        features, kernel = stage.features, math.prod(stage.kernel_size)
        up = features * below.features * math.prod(below.strides)
        yield _Layer(up, features, 0, voxels[level + 1])
        for index in range(network.decoder_convs):
            inputs = 2 * features if index == 0 else features
            yield _Layer(inputs * features * kernel, features, 2 * features, voxels[level])
    for level in range(network.num_supervised):
        weights = network.stages[level].features * network.num_classes
        yield _Layer(weights, network.num_classes, 0, voxels[level])


def _plain_encoder(network: NetworkPlan, voxels: Sequence[int]) -> Iterator[_Layer]:
    inputs = network.in_channels
    for stage, size in zip(network.stages, voxels, strict=True):
        for _ in range(stage.num_blocks):
            weights = inputs * stage.features * math.prod(stage.kernel_size)
            yield _Layer(weights, stage.features, 2 * stage.features, size)
            inputs = stage.features


def _residual_encoder(network: NetworkPlan, voxels: Sequence[int]) -> Iterator[_Layer]:
    first = network.stages[0]
    inputs = first.features
    stem = network.in_channels * inputs * math.prod(first.kernel_size)
    yield _Layer(stem, inputs, 2 * inputs, voxels[0])
    for stage, size in zip(network.stages, voxels, strict=True):
        features, kernel = stage.features, math.prod(stage.kernel_size)
        for _ in range(stage.num_blocks):
            yield _Layer(inputs * features * kernel, features, 2 * features, size)
            yield _Layer(features * features * kernel, features, 2 * features, size)
            if inputs != features:
                yield _Layer(inputs * features, 0, 2 * features, size)  # the shortcut
            inputs = features

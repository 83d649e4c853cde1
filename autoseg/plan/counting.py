"""Counting a network's parameters, operations and features from its plan; nothing is built.

The layers follow `autoseg.network` block by block: what is built there is listed here.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from autoseg.record import BOTTLENECK_FACTOR, EXPANSION_FACTOR, MIN_SQUEEZED, NetworkPlan, StagePlan

VECTOR_CHANNELS = 16
"""Channels that a processor multiplies at once: a vector of 512 bits holds 16 float32 numbers, and
kernels for reduced precision are laid out the same. Further ones of a started vector are idle."""


BACKBONE_LAYERS = 60
"""Convolutions of a pretrained encoder, about: a ResNet-34 has 36, an EfficientNet-B0 81."""


class Layer(NamedTuple):
    """A convolution (or transposed convolution) with the normalisation after it."""

    weights: int
    biases: int
    norm_values: int
    voxels: int
    """Positions at which the weights are applied."""
    values: int
    """What it puts out for one image."""
    lanes: int
    """The weights as vectors hold them, with the idle places (see `VECTOR_CHANNELS`)."""


class Block(NamedTuple):
    """Where a block of the encoder stands."""

    inputs: int
    outputs: int
    kernel: int
    """Voxels of the kernel."""
    voxels: int
    """Of its output."""
    stride: int
    """Voxels of its input for one of its output."""


def stage_voxels(stages: Sequence[StagePlan], patch_size: Sequence[int]) -> list[int]:
    """Return the voxels of a feature map of each stage."""
    shape, voxels = list(patch_size), []
    for stage in stages:
        shape = [n // s for n, s in zip(shape, stage.strides, strict=True)]
        voxels.append(math.prod(shape))
    return voxels


def num_parameters(network: NetworkPlan) -> int:
    """Return the number of trained values of the network, heads of deep supervision included."""
    layers = all_layers(network, network.patch_around((1,) * network.dimensions))
    backbone = 0 if network.backbone is None else network.backbone.parameters
    return backbone + sum(layer.weights + layer.biases + layer.norm_values for layer in layers)


def forward_operations(network: NetworkPlan, patch_size: Sequence[int]) -> float:
    """Return the floating-point operations of one image's forward pass (two a multiplication)."""
    each = 0.0 if network.backbone is None else network.backbone.multiplications
    own = sum(layer.weights * layer.voxels for layer in all_layers(network, patch_size))
    return 2.0 * (each * math.prod(patch_size) + own)


def num_layers(network: NetworkPlan) -> int:
    """Return the number of convolutions; of a pretrained encoder a typical one."""
    own = len(all_layers(network, network.patch_around((1,) * network.dimensions)))
    return own if network.backbone is None else own + BACKBONE_LAYERS


def all_layers(network: NetworkPlan, patch_size: Sequence[int]) -> list[Layer]:
    """Return every convolution that is our own."""
    return [*body_layers(network, patch_size), *head_layers(network, patch_size)]


def body_layers(network: NetworkPlan, patch_size: Sequence[int]) -> Iterator[Layer]:
    """Yield every convolution of encoder and decoder that is our own.

    A pretrained encoder counts as a whole, as its plan says.
    """
    if network.padding == "valid":
        yield from _valid_layers(network, patch_size)
        return
    voxels = stage_voxels(network.stages, patch_size)
    yield from _encoder(network, voxels)
    for level in range(len(network.stages) - 1):
        if network.decoder == "attention":
            yield from _gate(network, level, voxels)
        columns = len(network.stages) - 1 - level if network.decoder == "nested" else 1
        for num_skips in range(1, columns + 1):
            yield from _up_block(network, level, voxels, num_skips)


def head_layers(network: NetworkPlan, patch_size: Sequence[int]) -> Iterator[Layer]:
    """Yield the convolution of every head, that of the final prediction first."""
    margin = zip(patch_size, network.output_margin, strict=True)
    voxels = stage_voxels(network.stages, [n - 2 * m for n, m in margin])
    for index in range(network.num_supervised):
        level = 0 if network.decoder == "nested" else index
        yield _bare(network.stages[level].features, network.num_classes, voxels[level])


def _encoder(network: NetworkPlan, voxels: Sequence[int]) -> Iterator[Layer]:
    block, first = BLOCKS[network.encoder], network.stages[0]
    inputs = network.seen_channels
    if network.encoder != "plain":
        yield _conv(inputs, first.features, voxels[0], math.prod(first.kernel_size))
        inputs = first.features
    own = network.stages[: network.num_own_stages]
    for stage, size in zip(own, voxels, strict=False):
        stride = math.prod(stage.strides)
        for index in range(stage.num_blocks):
            place = Block(
                inputs=inputs,
                outputs=stage.features,
                kernel=math.prod(stage.kernel_size),
                voxels=size,
                stride=stride if index == 0 and network.downsampling == "strided" else 1,
            )
            yield from block(place)
            yield from _squeeze(stage.features, network.squeeze_reduction)
            inputs = stage.features


def _valid_layers(network: NetworkPlan, patch_size: Sequence[int]) -> Iterator[Layer]:
    """Yield the convolutions of a network without padding: each loses the margin of its kernel."""
    shape, inputs = tuple(patch_size), network.seen_channels
    for stage in network.stages:
        shape = tuple(n // s for n, s in zip(shape, stage.strides, strict=True))
        for index in range(stage.num_blocks):
            shape = _without_margin(shape, stage.kernel_size)
            width = inputs if index == 0 else stage.features
            kernel = math.prod(stage.kernel_size)
            yield _conv(width, stage.features, math.prod(shape), kernel)
            yield from _squeeze(stage.features, network.squeeze_reduction)
        inputs = stage.features
    for stage, below in zip(network.stages[-2::-1], network.stages[:0:-1], strict=True):
        step, coarse = math.prod(below.strides), math.prod(shape)
        shape = tuple(n * s for n, s in zip(shape, below.strides, strict=True))
        yield _upsampling(network, stage.features, below.features, (coarse, step))
        for index in range(network.decoder_convs):
            shape = _without_margin(shape, stage.kernel_size)
            width = 2 * stage.features if index == 0 else stage.features
            kernel = math.prod(stage.kernel_size)
            yield _conv(width, stage.features, math.prod(shape), kernel)


def _without_margin(shape: Sequence[int], kernel_size: Sequence[int]) -> tuple[int, ...]:
    return tuple(n - 2 * (kernel // 2) for n, kernel in zip(shape, kernel_size, strict=True))


def _squeeze(features: int, reduction: int | None) -> Iterator[Layer]:
    """Yield the convolutions of squeeze-and-excitation, if there is any."""
    if reduction is not None:
        middle = max(MIN_SQUEEZED, features // reduction)
        yield _bare(features, middle, 1)
        yield _bare(middle, features, 1)


def _plain(block: Block) -> Iterator[Layer]:
    yield _conv(block.inputs, block.outputs, block.voxels, block.kernel)


def _residual(block: Block) -> Iterator[Layer]:
    yield _conv(block.inputs, block.outputs, block.voxels, block.kernel)
    yield _conv(block.outputs, block.outputs, block.voxels, block.kernel)
    yield from _shortcut(block)


def _bottleneck(block: Block) -> Iterator[Layer]:
    middle = max(1, block.outputs // BOTTLENECK_FACTOR)
    yield _conv(block.inputs, middle, block.voxels * block.stride)
    yield _conv(middle, middle, block.voxels, block.kernel)
    yield _conv(middle, block.outputs, block.voxels)
    yield from _shortcut(block)


def _mednext(block: Block) -> Iterator[Layer]:
    wide = EXPANSION_FACTOR * block.inputs
    depthwise = _conv(block.inputs, block.inputs, block.voxels, block.kernel)
    lanes = _filled(block.inputs) * block.kernel
    yield depthwise._replace(weights=block.inputs * block.kernel, lanes=lanes)
    yield _bare(block.inputs, wide, block.voxels)
    yield _bare(wide, block.outputs, block.voxels)
    yield from _shortcut(block)


BLOCKS = {
    "plain": _plain,
    "residual": _residual,
    "bottleneck": _bottleneck,
    "mednext": _mednext,
}
"""The layers of each kind of block, its shortcut included."""


def _shortcut(block: Block) -> Iterator[Layer]:
    if block.inputs != block.outputs:
        yield _conv(block.inputs, block.outputs, block.voxels)._replace(biases=0)
    elif block.stride > 1:  # pooling alone
        yield Layer(0, 0, 0, block.voxels, block.outputs * block.voxels, lanes=0)


def _up_block(
    network: NetworkPlan, level: int, voxels: Sequence[int], num_skips: int
) -> Iterator[Layer]:
    """Yield upsampling and convolutions of the block that leads to a level from the one below."""
    stage, below = network.stages[level : level + 2]
    features, step = stage.features, math.prod(below.strides)
    yield _upsampling(network, features, below.features, (voxels[level + 1], step))
    for index in range(network.decoder_convs):
        inputs = (1 + num_skips) * features if index == 0 else features
        yield _conv(inputs, features, voxels[level], math.prod(stage.kernel_size))


def _upsampling(network: NetworkPlan, features: int, below: int, size: tuple[int, int]) -> Layer:
    """Return the way up to `features` from those `below`.

    Parameters
    ----------
    size
        Voxels there, and how many each of them becomes.
    """
    voxels, step = size
    values = features * voxels * step
    coarse = _bare(below, features, voxels)
    if network.upsampling == "linear":
        return coarse._replace(values=coarse.values + values)
    biases = features * step if network.upsampling == "shuffle" else features
    weights, lanes = coarse.weights * step, coarse.lanes * step
    return coarse._replace(weights=weights, lanes=lanes, biases=biases, values=values)


def _gate(network: NetworkPlan, level: int, voxels: Sequence[int]) -> Iterator[Layer]:
    """Yield the convolutions of an attention gate; the gated skip counts as a value, too."""
    stage, below = network.stages[level : level + 2]
    middle, coarse = max(1, stage.features // 2), voxels[level + 1]
    skip = _bare(stage.features, middle, coarse, math.prod(below.strides))
    yield skip._replace(biases=0)
    yield _bare(below.features, middle, coarse)
    weight = _bare(middle, 1, coarse)
    yield weight._replace(values=coarse + stage.features * voxels[level])


def _conv(inputs: int, outputs: int, voxels: int, kernel: int = 1) -> Layer:
    """Return a convolution with bias and normalisation; the kernel is given by its voxels."""
    return Layer(
        weights=inputs * outputs * kernel,
        biases=outputs,
        norm_values=2 * outputs,
        voxels=voxels,
        values=outputs * voxels,
        lanes=_filled(inputs) * _filled(outputs) * kernel,
    )


def _bare(inputs: int, outputs: int, voxels: int, kernel: int = 1) -> Layer:
    """Return a convolution with bias, without normalisation."""
    return _conv(inputs, outputs, voxels, kernel)._replace(norm_values=0)


def _filled(channels: int) -> int:
    """Return the channels that the vectors hold which are needed for some."""
    return math.ceil(channels / VECTOR_CHANNELS) * VECTOR_CHANNELS

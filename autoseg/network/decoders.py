"""From the encoder's features back to full resolution.

A decoder takes the features of all encoder stages, finest first, and returns the features from
which logits are made, those of the final prediction first.

Letters in shapes: B batch, C input channels, F features, G features below, S spatial axes.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from autoseg.network.blocks import ConvBlock
from autoseg.network.layers import Materials
from autoseg.network.recompute import Run, called
from autoseg.network.upsampling import upsampling
from autoseg.record import NetworkPlan

GATE_BIAS = 3.0
"""Attention gates start open, as their authors ask: a sigmoid of about 0.95."""


def concatenated(x: Tensor, skips: Sequence[Tensor]) -> Tensor:
    """Return features and skips of one size as one tensor."""
    return torch.cat([x, *skips], dim=1)


def concatenated_inside(x: Tensor, skips: Sequence[Tensor]) -> Tensor:
    """Return features and the centres of larger skips as one tensor."""
    return torch.cat([x, *(centre(skip, x.shape[2:]) for skip in skips)], dim=1)


def centre(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the centre (B, F, *shape) of (B, F, *S)."""
    for axis, size in enumerate(shape, start=2):
        x = x.narrow(axis, (x.shape[axis] - size) // 2, size)
    return x


@final
class UpBlock(nn.Module):
    """Upsample, join skips, convolve: (B, C, *S), (B, F, *S * stride)... -> (B, F, *S * stride)."""

    def __init__(
        self,
        in_channels: int,
        features: int,
        *,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        num_convs: int,
        materials: Materials,
        num_skips: int = 1,
    ) -> None:
        super().__init__()
        self.upsample = upsampling(in_channels, features, stride=stride, materials=materials)
        self.join = concatenated if materials.padding == "same" else concatenated_inside
        widths = [(1 + num_skips) * features] + [features] * (num_convs - 1)
        self.convs = nn.Sequential(
            *(
                ConvBlock(
                    width, features, kernel=kernel, stride=materials.ones, materials=materials
                )
                for width in widths
            )
        )

    def forward(self, x: Tensor, *skips: Tensor, run: Run = called) -> Tensor:
        """Return the features at the skips' resolution."""
        first, *others = self.convs

        def merge(x: Tensor, *skips: Tensor) -> Tensor:
            return first(self.join(self.upsample(x), skips))

        x = run(merge, x, *skips)
        for conv in others:
            x = run(conv, x)
        return x


@final
class AttentionGate(nn.Module):
    """Weigh each voxel of a skip by features from below: (B, F, *S), (B, G, *S / stride) -> skip.

    x * up(sigmoid(psi relu(W x + V g))), the sum at the coarser resolution: Oktay et al. 2018,
    "Attention U-Net", equations 1 and 2.
    """

    def __init__(
        self, features: int, gate_features: int, *, stride: tuple[int, ...], materials: Materials
    ) -> None:
        super().__init__()
        layers, middle = materials.layers, max(1, features // 2)
        self.skip = layers.conv(features, middle, stride, stride, bias=False)
        self.gate = materials.pointwise(gate_features, middle)
        self.activation = nn.ReLU(inplace=True)
        self.weight = materials.pointwise(middle, 1)
        scale = tuple(float(step) for step in stride)
        self.upsample = nn.Upsample(scale_factor=scale, mode=layers.interpolation)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Return the skip, weighted."""
        together = self.activation(self.skip(skip) + self.gate(below))  # (B, F / 2, *S / stride)
        return skip * self.upsample(self.weight(together).sigmoid())

    def start(self) -> None:
        """Let all of the skip pass at first."""
        nn.init.constant_(self.weight.bias, GATE_BIAS)  # pyright: ignore[reportArgumentType]


@final
class GatedUpBlock(nn.Module):
    """An UpBlock whose skip is gated by the features from below."""

    def __init__(self, gate: AttentionGate, block: UpBlock) -> None:
        super().__init__()
        self.gate = gate
        self.block = block

    def forward(self, x: Tensor, skip: Tensor, *, run: Run = called) -> Tensor:
        """Return the features at the skip's resolution."""
        return self.block(x, run(self.gate, skip, x), run=run)


@final
class PlainDecoder(nn.ModuleList):
    """One block a stage, coarsest first; the blocks may gate their skips."""

    def forward(self, skips: Sequence[Tensor], run: Run) -> list[Tensor]:
        """Return the features of each resolution, finest first."""
        levels = [skips[-1]]
        for block, skip in zip(self, reversed(skips[:-1]), strict=True):
            levels.append(block(levels[-1], skip, run=run))
        return levels[::-1]


@final
class NestedDecoder(nn.ModuleList):
    """U-Net++: between encoder and decoder, columns of blocks that refine the skips.

    The block of column j at level i sees the level's features of all columns before it, and the
    upsampled features of column j - 1 at level i + 1: Zhou et al. 2018, "UNet++", equation 1.
    """

    def forward(self, skips: Sequence[Tensor], run: Run) -> list[Tensor]:
        """Return the features of full resolution, those of the last column first."""
        rows = [[skip] for skip in skips]
        for column in self:
            before = [row[-1] for row in rows]
            assert isinstance(column, nn.ModuleList)
            for level, block in enumerate(column):
                rows[level].append(block(before[level + 1], *rows[level], run=run))
        return rows[0][:0:-1] or rows[0]


def build_decoder(plan: NetworkPlan, materials: Materials) -> PlainDecoder | NestedDecoder:
    """Return the decoder of a plan."""
    levels = range(len(plan.stages) - 1)
    if plan.decoder == "nested":
        return NestedDecoder(
            nn.ModuleList(
                _up_block(plan, level, materials, num_skips=column)
                for level in levels[: len(levels) + 1 - column]
            )
            for column in range(1, len(levels) + 1)
        )
    build = _gated_block if plan.decoder == "attention" else _up_block
    return PlainDecoder(build(plan, level, materials) for level in reversed(levels))


def _up_block(
    plan: NetworkPlan, level: int, materials: Materials, *, num_skips: int = 1
) -> UpBlock:
    """Return the block that leads to a level from the one below."""
    stage, below = plan.stages[level : level + 2]
    return UpBlock(
        below.features,
        stage.features,
        kernel=stage.kernel_size,
        stride=below.strides,
        num_convs=plan.decoder_convs,
        materials=materials,
        num_skips=num_skips,
    )


def _gated_block(plan: NetworkPlan, level: int, materials: Materials) -> GatedUpBlock:
    stage, below = plan.stages[level : level + 2]
    gate = AttentionGate(stage.features, below.features, stride=below.strides, materials=materials)
    return GatedUpBlock(gate, _up_block(plan, level, materials))

"""Ways back to a finer resolution.

Letters in shapes: B batch, C input channels, F features, S spatial axes, P voxels of a stride.
"""

import itertools
import math
from typing import final

import torch
from torch import Tensor, nn

from autoseg.network.layers import Materials


def upsampling(
    in_channels: int, features: int, *, stride: tuple[int, ...], materials: Materials
) -> nn.Module:
    """Return what takes (B, C, *S) to (B, F, *S * stride)."""
    layers = materials.layers
    if materials.upsampling == "shuffle":
        return VoxelShuffle(in_channels, features, stride=stride, materials=materials)
    if materials.upsampling == "linear":
        # A 1x1 convolution commutes with interpolation, and is cheaper before it.
        scale = tuple(float(step) for step in stride)
        interpolation = nn.Upsample(scale_factor=scale, mode=layers.interpolation)
        return nn.Sequential(materials.pointwise(in_channels, features), interpolation)
    return layers.transposed_conv(in_channels, features, stride, stride)


@final
class VoxelShuffle(nn.Module):
    """Pixel shuffle for any number of axes: (B, C, *S) -> (B, F, *S * stride).

    Shi et al. 2016, "Real-time single image super-resolution", equation 4: P features of a voxel
    become one feature of the P voxels that take its place. It starts as nearest neighbour (ICNR,
    Aitken et al. 2017, section 4), so without the checkerboard of a transposed convolution that
    is drawn at random; with 1x1 kernels the two are otherwise the same map.
    """

    def __init__(
        self, in_channels: int, features: int, *, stride: tuple[int, ...], materials: Materials
    ) -> None:
        super().__init__()
        self.stride = stride
        self.conv = materials.pointwise(in_channels, features * math.prod(stride))

    def forward(self, x: Tensor) -> Tensor:
        """Return the finer features."""
        axes = len(self.stride)
        shape = x.shape[2:]
        x = self.conv(x).unflatten(1, (-1, *self.stride))  # (B, F, *stride, *S)
        pairs = ((2 + axes + axis, 2 + axis) for axis in range(axes))
        x = x.permute(0, 1, *itertools.chain.from_iterable(pairs))  # (B, F, S0, stride0, S1, ...)
        sizes = [size * step for size, step in zip(shape, self.stride, strict=True)]
        return x.reshape(x.shape[0], x.shape[1], *sizes)

    def start(self) -> None:
        """Let all voxels that take one voxel's place begin alike."""
        weight, count = self.conv.weight, math.prod(self.stride)
        assert isinstance(weight, Tensor)  # (F * P, C, 1, ...)
        with torch.no_grad():
            weight.copy_(weight[::count].repeat_interleave(count, dim=0))

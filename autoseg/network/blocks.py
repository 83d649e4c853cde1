"""Blocks of the U-Net.

Letters in shapes: B batch, C input channels, F features, S spatial axes (ZYX, YX or X).
"""

from typing import final

import torch
from torch import Tensor, nn

from autoseg.network.layers import LAYERS

SLOPE = 0.01
"""Slope of the leaky ReLU for negative values."""

NORM_EPSILON = 1e-5


def convolution(
    in_channels: int, features: int, *, kernel: tuple[int, ...], stride: tuple[int, ...]
) -> nn.Module:
    """Return a convolution with bias that keeps the size up to its stride (odd kernels)."""
    return LAYERS[len(kernel)].conv(
        in_channels, features, kernel, stride, padding=tuple(size // 2 for size in kernel)
    )


def instance_norm(features: int, dimensions: int) -> nn.Module:
    """Return an instance normalisation with learnt scale and shift."""
    return LAYERS[dimensions].norm(features, eps=NORM_EPSILON, affine=True)


@final
class ConvBlock(nn.Module):
    """Convolution, instance norm, leaky ReLU: (B, C, *S) -> (B, F, *S / stride)."""

    def __init__(
        self, in_channels: int, features: int, *, kernel: tuple[int, ...], stride: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.conv = convolution(in_channels, features, kernel=kernel, stride=stride)
        self.norm = instance_norm(features, len(kernel))
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        return self.activation(self.norm(self.conv(x)))


@final
class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut: (B, C, *S) -> (B, F, *S / stride)."""

    def __init__(
        self, in_channels: int, features: int, *, kernel: tuple[int, ...], stride: tuple[int, ...]
    ) -> None:
        super().__init__()
        ones = (1,) * len(kernel)
        self.first = ConvBlock(in_channels, features, kernel=kernel, stride=stride)
        self.conv = convolution(features, features, kernel=kernel, stride=ones)
        self.norm = instance_norm(features, len(kernel))
        self.shortcut = shortcut(in_channels, features, stride)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        change = self.norm(self.conv(self.first(x)))  # (B, F, *S / stride)
        return self.activation(change + self.shortcut(x))


def shortcut(in_channels: int, features: int, stride: tuple[int, ...]) -> nn.Module:
    """Return average pooling where the size changes, then a projection where the width does."""
    layers = LAYERS[len(stride)]
    steps: list[nn.Module] = []
    if max(stride) > 1:
        steps.append(layers.pool(stride, stride))
    if in_channels != features:
        steps.append(layers.conv(in_channels, features, 1, bias=False))
        steps.append(instance_norm(features, len(stride)))
    return nn.Sequential(*steps) if steps else nn.Identity()


@final
class UpBlock(nn.Module):
    """Upsample, join the skip, convolve: (B, C, *S), (B, F, *S * stride) -> (B, F, *S * stride)."""

    def __init__(
        self,
        in_channels: int,
        features: int,
        *,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        num_convs: int,
    ) -> None:
        super().__init__()
        self.upsample = LAYERS[len(kernel)].transposed_conv(in_channels, features, stride, stride)
        ones = (1,) * len(kernel)
        widths = [2 * features] + [features] * (num_convs - 1)
        self.convs = nn.Sequential(
            *(ConvBlock(width, features, kernel=kernel, stride=ones) for width in widths)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return the features at the skip's resolution."""
        return self.convs(torch.cat([self.upsample(x), skip], dim=1))

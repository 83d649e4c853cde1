"""Blocks of the encoder; plain ones serve the decoder, too.

Letters in shapes: B batch, C input channels, F features, S spatial axes (ZYX, YX or X).
"""

from typing import final

from torch import Tensor, nn

from autoseg.network.layers import Materials
from autoseg.record import BOTTLENECK_FACTOR, EXPANSION_FACTOR, MIN_SQUEEZED

SLOPE = 0.01
"""Slope of the leaky ReLU for negative values."""


@final
class ConvBlock(nn.Module):
    """Convolution, normalisation, leaky ReLU: (B, C, *S) -> (B, F, *S / stride)."""

    def __init__(
        self,
        in_channels: int,
        features: int,
        *,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        materials: Materials,
    ) -> None:
        super().__init__()
        self.conv = materials.conv(in_channels, features, kernel=kernel, stride=stride)
        self.norm = materials.normalisation(features)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        return self.activation(self.norm(self.conv(x)))


@final
class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut: (B, C, *S) -> (B, F, *S / stride)."""

    def __init__(
        self,
        in_channels: int,
        features: int,
        *,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        materials: Materials,
    ) -> None:
        super().__init__()
        ones = materials.ones
        self.first = ConvBlock(
            in_channels, features, kernel=kernel, stride=stride, materials=materials
        )
        self.conv = materials.conv(features, features, kernel=kernel, stride=ones)
        self.norm = materials.normalisation(features)
        self.squeeze = squeeze(features, materials)
        self.shortcut = shortcut(in_channels, features, stride, materials)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        change = self.squeeze(self.norm(self.conv(self.first(x))))  # (B, F, *S / stride)
        return self.activation(change + self.shortcut(x))

    def start(self) -> None:
        """Let the block begin as its shortcut."""
        nn.init.zeros_(self.norm.weight)  # pyright: ignore[reportArgumentType]


@final
class BottleneckBlock(nn.Module):
    """Narrow, convolve, widen, beside a shortcut: (B, C, *S) -> (B, F, *S / stride).

    He et al. 2016, "Deep residual learning", figure 5; the stride is in the middle, where the
    kernel sees every voxel.
    """

    def __init__(
        self,
        in_channels: int,
        features: int,
        *,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        materials: Materials,
    ) -> None:
        super().__init__()
        ones, middle = materials.ones, max(1, features // BOTTLENECK_FACTOR)
        self.narrow = ConvBlock(in_channels, middle, kernel=ones, stride=ones, materials=materials)
        self.middle = ConvBlock(middle, middle, kernel=kernel, stride=stride, materials=materials)
        self.widen = materials.pointwise(middle, features)
        self.norm = materials.normalisation(features)
        self.squeeze = squeeze(features, materials)
        self.shortcut = shortcut(in_channels, features, stride, materials)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        change = self.norm(self.widen(self.middle(self.narrow(x))))  # (B, F, *S / stride)
        return self.activation(self.squeeze(change) + self.shortcut(x))

    def start(self) -> None:
        """Let the block begin as its shortcut."""
        nn.init.zeros_(self.norm.weight)  # pyright: ignore[reportArgumentType]


@final
class MedNeXtBlock(nn.Module):
    """Depthwise convolution, expand, project, beside a shortcut: (B, C, *S) -> (B, F, *S / stride).

    After Roy et al. 2023, "MedNeXt", section 2.1: a normalisation after the depthwise convolution,
    a GELU on the widened features, no activation at the end. The paper normalises each feature by
    itself, which instance normalisation is. Where the size changes, the shortcut pools.
    """

    def __init__(
        self,
        in_channels: int,
        features: int,
        *,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        materials: Materials,
    ) -> None:
        super().__init__()
        wide = EXPANSION_FACTOR * in_channels
        self.depthwise = materials.conv(
            in_channels, in_channels, kernel=kernel, stride=stride, groups=in_channels
        )
        self.norm = materials.normalisation(in_channels)
        self.expand = materials.pointwise(in_channels, wide)
        self.activation = nn.GELU()
        self.project = materials.pointwise(wide, features)
        self.squeeze = squeeze(features, materials)
        self.shortcut = shortcut(in_channels, features, stride, materials)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        wide = self.activation(self.expand(self.norm(self.depthwise(x))))  # (B, 2C, *S / stride)
        return self.squeeze(self.project(wide)) + self.shortcut(x)

    def start(self) -> None:
        """Let the block begin as its shortcut."""
        nn.init.zeros_(self.project.weight)  # pyright: ignore[reportArgumentType]


@final
class SqueezeExcitation(nn.Module):
    """Weigh each feature by what the whole image shows: (B, F, *S) -> (B, F, *S).

    x * sigmoid(W2 relu(W1 mean(x))): Hu et al. 2018, "Squeeze-and-excitation networks",
    equations 2 to 4.
    """

    def __init__(self, features: int, *, reduction: int, materials: Materials) -> None:
        super().__init__()
        middle = max(MIN_SQUEEZED, features // reduction)
        self.narrow = materials.pointwise(features, middle)
        self.activation = nn.ReLU(inplace=True)
        self.widen = materials.pointwise(middle, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted features."""
        mean = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)  # (B, F, 1, ...)
        return x * self.widen(self.activation(self.narrow(mean))).sigmoid()


def squeeze(features: int, materials: Materials) -> nn.Module:
    """Return squeeze-and-excitation, or nothing where the plan has none."""
    reduction = materials.squeeze_reduction
    if reduction is None:
        return nn.Identity()
    return SqueezeExcitation(features, reduction=reduction, materials=materials)


def shortcut(
    in_channels: int, features: int, stride: tuple[int, ...], materials: Materials
) -> nn.Module:
    """Return average pooling where the size changes, then a projection where the width does."""
    layers = materials.layers
    steps: list[nn.Module] = []
    if max(stride) > 1:
        steps.append(layers.average_pool(stride, stride))
    if in_channels != features:
        steps.append(layers.conv(in_channels, features, 1, bias=False))
        steps.append(materials.normalisation(features))
    return nn.Sequential(*steps) if steps else nn.Identity()

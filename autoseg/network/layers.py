"""The layers of networks: what differs between 1D, 2D and 3D, and between plans.

Nothing else asks for the dimension.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor, nn

from autoseg.record import NetworkPlan

NORM_EPSILON = 1e-5
NUM_GROUPS = 8
"""Groups of group normalisation (Wu and He 2018 found 8 to 32 alike): with 32, a first stage of
32 features would be normalised feature by feature."""


@dataclass(frozen=True)
class Layers:
    """The layer classes of one dimension."""

    conv: Callable[..., nn.Module]
    transposed_conv: Callable[..., nn.Module]
    instance_norm: Callable[..., nn.Module]
    batch_norm: Callable[..., nn.Module]
    average_pool: Callable[..., nn.Module]
    max_pool: Callable[..., nn.Module]
    interpolation: str


@final
class MaxPool1d(nn.Module):
    """Max pooling of (B, F, S); torch's own fixes the size when it is exported."""

    def __init__(self, kernel: tuple[int, ...], stride: tuple[int, ...]) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d((1, *kernel), (1, *stride))

    def forward(self, x: Tensor) -> Tensor:
        """Return the largest value of each cell."""
        return self.pool(x.unsqueeze(2)).squeeze(2)


LAYERS = {
    1: Layers(
        conv=nn.Conv1d,
        transposed_conv=nn.ConvTranspose1d,
        instance_norm=nn.InstanceNorm1d,
        batch_norm=nn.BatchNorm1d,
        average_pool=nn.AvgPool1d,
        max_pool=MaxPool1d,
        interpolation="linear",
    ),
    2: Layers(
        conv=nn.Conv2d,
        transposed_conv=nn.ConvTranspose2d,
        instance_norm=nn.InstanceNorm2d,
        batch_norm=nn.BatchNorm2d,
        average_pool=nn.AvgPool2d,
        max_pool=nn.MaxPool2d,
        interpolation="bilinear",
    ),
    3: Layers(
        conv=nn.Conv3d,
        transposed_conv=nn.ConvTranspose3d,
        instance_norm=nn.InstanceNorm3d,
        batch_norm=nn.BatchNorm3d,
        average_pool=nn.AvgPool3d,
        max_pool=nn.MaxPool3d,
        interpolation="trilinear",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Materials:
    """What all blocks of one network are made of."""

    dimensions: int
    norm: Literal["instance", "batch", "group"] = "instance"
    padding: Literal["same", "valid"] = "same"
    upsampling: Literal["transposed", "linear", "shuffle"] = "transposed"
    squeeze_reduction: int | None = None

    @classmethod
    def of(cls, plan: NetworkPlan) -> "Materials":
        """Return the materials of a plan's network."""
        return cls(
            dimensions=plan.dimensions,
            norm=plan.norm,
            padding=plan.padding,
            upsampling=plan.upsampling,
            squeeze_reduction=plan.squeeze_reduction,
        )

    @property
    def layers(self) -> Layers:
        """The layer classes of the dimension."""
        return LAYERS[self.dimensions]

    @property
    def ones(self) -> tuple[int, ...]:
        """A kernel or a stride that does nothing."""
        return (1,) * self.dimensions

    def conv(
        self,
        in_channels: int,
        features: int,
        *,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        groups: int = 1,
    ) -> nn.Module:
        """Return a convolution with bias; padded, it keeps the size up to its stride."""
        padding = 0 if self.padding == "valid" else tuple(size // 2 for size in kernel)
        return self.layers.conv(
            in_channels, features, kernel, stride, padding=padding, groups=groups
        )

    def pointwise(self, in_channels: int, features: int) -> nn.Module:
        """Return a convolution with bias that sees one voxel at a time."""
        return self.layers.conv(in_channels, features, 1)

    def normalisation(self, features: int) -> nn.Module:
        """Return the normalisation with learnt scale and shift."""
        if self.norm == "group":
            return nn.GroupNorm(math.gcd(NUM_GROUPS, features), features, eps=NORM_EPSILON)
        if self.norm == "batch":
            return self.layers.batch_norm(features, eps=NORM_EPSILON)
        return self.layers.instance_norm(features, eps=NORM_EPSILON, affine=True)

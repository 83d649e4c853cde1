"""The layer classes that differ between 1D, 2D and 3D: nothing else asks for the dimension."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Layers:
    """The layer classes of one dimension."""

    conv: Callable[..., nn.Module]
    transposed_conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    pool: Callable[..., nn.Module]


LAYERS = {
    1: Layers(nn.Conv1d, nn.ConvTranspose1d, nn.InstanceNorm1d, nn.AvgPool1d),
    2: Layers(nn.Conv2d, nn.ConvTranspose2d, nn.InstanceNorm2d, nn.AvgPool2d),
    3: Layers(nn.Conv3d, nn.ConvTranspose3d, nn.InstanceNorm3d, nn.AvgPool3d),
}

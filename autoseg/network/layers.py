"""The layer classes that differ between 1D, 2D and 3D: nothing else asks for the dimension."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Layers:
    """The layer classes of one dimension."""

    conv: type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]
    transposed_conv: type[nn.ConvTranspose1d] | type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]
    norm: type[nn.InstanceNorm1d] | type[nn.InstanceNorm2d] | type[nn.InstanceNorm3d]
    pool: type[nn.AvgPool1d] | type[nn.AvgPool2d] | type[nn.AvgPool3d]


LAYERS = {
    1: Layers(nn.Conv1d, nn.ConvTranspose1d, nn.InstanceNorm1d, nn.AvgPool1d),
    2: Layers(nn.Conv2d, nn.ConvTranspose2d, nn.InstanceNorm2d, nn.AvgPool2d),
    3: Layers(nn.Conv3d, nn.ConvTranspose3d, nn.InstanceNorm3d, nn.AvgPool3d),
}

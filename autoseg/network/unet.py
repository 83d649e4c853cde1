"""The U-Net, one for 1D, 2D and 3D.

Letters in shapes: B batch, C input channels, F features, K classes, S spatial axes.
"""

from itertools import pairwise
from typing import final

from torch import Tensor, nn

from autoseg.network.blocks import ConvBlock, ResidualBlock, UpBlock
from autoseg.network.layers import LAYERS
from autoseg.record import NetworkPlan, StagePlan


@final
class UNet(nn.Module):
    """Encoder, decoder with skips, and one head a supervised resolution."""

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__()
        stages = plan.stages
        block = ConvBlock if plan.encoder == "plain" else ResidualBlock
        self.stem = _stem(plan)
        widths = [_stem_width(plan), *(stage.features for stage in stages)]
        self.encoder = nn.ModuleList(
            _stage(block, width, stage) for width, stage in zip(widths, stages, strict=False)
        )
        self.decoder = nn.ModuleList(
            UpBlock(
                below.features,
                stage.features,
                kernel=stage.kernel_size,
                stride=below.strides,
                num_convs=plan.decoder_convs,
            )
            for stage, below in reversed(list(pairwise(stages)))
        )
        conv = LAYERS[plan.dimensions].conv
        self.heads = nn.ModuleList(
            conv(stage.features, plan.num_classes, 1) for stage in stages[: plan.num_supervised]
        )

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (B, K, *S); in training one tensor a head, finest first, if several."""
        features = self.features(x)
        if self.training and len(self.heads) > 1:
            return tuple(head(level) for head, level in zip(self.heads, features, strict=False))
        return self.heads[0](features[0])

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the decoder's features (B, F, *S / total stride), finest first."""
        x = self.stem(x)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        levels = [skips.pop()]
        for stage in self.decoder:
            levels.append(stage(levels[-1], skips.pop()))
        return levels[::-1]


def _stage(block: type[ConvBlock | ResidualBlock], width: int, stage: StagePlan) -> nn.Sequential:
    """Return a stage's blocks; the first one strides."""
    ones = (1,) * len(stage.strides)
    blocks = [block(width, stage.features, kernel=stage.kernel_size, stride=stage.strides)]
    for _ in range(stage.num_blocks - 1):
        blocks.append(block(stage.features, stage.features, kernel=stage.kernel_size, stride=ones))
    return nn.Sequential(*blocks)


def _stem(plan: NetworkPlan) -> nn.Module:
    """Return what stands before the first stage: one convolution before residual blocks."""
    first = plan.stages[0]
    if plan.encoder == "plain":
        return nn.Identity()
    ones = (1,) * plan.dimensions
    return ConvBlock(plan.in_channels, first.features, kernel=first.kernel_size, stride=ones)


def _stem_width(plan: NetworkPlan) -> int:
    return plan.in_channels if plan.encoder == "plain" else plan.stages[0].features

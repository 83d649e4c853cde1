"""The U-Net, one for 1D, 2D and 3D: encoder, decoder, heads.

Letters in shapes: B batch, C input channels, F features, K classes, S spatial axes.
"""

from typing import final

import torch
from torch import Tensor, nn

from autoseg.network.backbone import build_backbone
from autoseg.network.blocks import (
    BottleneckBlock,
    ConvBlock,
    MedNeXtBlock,
    ResidualBlock,
    squeeze,
)
from autoseg.network.decoders import build_decoder
from autoseg.network.layers import Materials
from autoseg.network.recompute import called, recomputing
from autoseg.record import NetworkPlan

BLOCKS = {
    "plain": ConvBlock,
    "residual": ResidualBlock,
    "bottleneck": BottleneckBlock,
    "mednext": MedNeXtBlock,
}
"""Blocks of the encoder; all but plain ones stand behind a stem."""


@final
class UNet(nn.Module):
    """Encoder, decoder with skips, and one head for each supervised output of the decoder."""

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__()
        materials = Materials.of(plan)
        self.checkpointing = False
        """Whether encoder stages and decoder blocks are computed again in the backward pass."""
        self.missing_channels = plan.missing_channels
        self.stem = _stem(plan, materials)
        self.encoder = nn.ModuleList(
            _stage(plan, level, materials) for level in range(plan.num_own_stages)
        )
        self.backbone = build_backbone(plan)
        self.dropout = nn.Dropout(plan.dropout)
        self.decoder = build_decoder(plan, materials)
        self.heads = nn.ModuleList(
            materials.pointwise(features, plan.num_classes) for features in _head_widths(plan)
        )

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (B, K, *S); in training one tensor a head, finest first, if several.

        Valid convolutions take `output_margin` from each side of the logits.
        """
        features = self.features(x)
        if self.training and len(self.heads) > 1:
            return tuple(head(level) for head, level in zip(self.heads, features, strict=False))
        return self.heads[0](features[0])

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the features (B, F, *S / strides) of the heads, the final prediction's first."""
        run = recomputing(self) if self.checkpointing and self.training else called
        if self.missing_channels:
            x = with_presence(x)
        inside = run(self.stem, x)
        skips = []
        for stage in self.encoder:
            inside = run(stage, inside)
            skips.append(inside)
        if self.backbone is not None:
            skips.extend(run(self.backbone, x))
        skips[-1] = self.dropout(skips[-1])
        return self.decoder(skips, run)


def with_presence(x: Tensor) -> Tensor:
    """Return channels (B, C, *S), 0 where they are NaN, and where they are not (B, 2 C, *S)."""
    is_known = ~x.isnan()
    return torch.cat([x.where(is_known, 0.0), is_known.to(x.dtype)], dim=1)


@final
class ExactMaxPool(nn.Module):
    """Max pooling (B, F, *S) -> (B, F, *S / stride) that refuses to drop what is left over."""

    def __init__(self, stride: tuple[int, ...], materials: Materials) -> None:
        super().__init__()
        self.stride = stride
        self.pool = materials.layers.max_pool(stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the largest value of each cell."""
        shape = tuple(x.shape[2:])
        if any(size % step for size, step in zip(shape, self.stride, strict=True)):
            raise ValueError(f"features of shape {shape} cannot be pooled by {self.stride}")
        return self.pool(x)


def _stem(plan: NetworkPlan, materials: Materials) -> nn.Module:
    """Return what stands before the first stage: one convolution, except before plain blocks."""
    if plan.encoder == "plain":
        return nn.Identity()
    first = plan.stages[0]
    return ConvBlock(
        plan.seen_channels,
        first.features,
        kernel=first.kernel_size,
        stride=materials.ones,
        materials=materials,
    )


def _stage(plan: NetworkPlan, level: int, materials: Materials) -> nn.Sequential:
    """Return a stage's blocks; the first one strides, or max pooling stands before it."""
    stage, block = plan.stages[level], BLOCKS[plan.encoder]
    width, stride = _width_before(plan, level), stage.strides
    steps: list[nn.Module] = []
    if plan.downsampling == "max" and max(stride) > 1:
        steps.append(ExactMaxPool(stride, materials))
        stride = materials.ones
    for _ in range(stage.num_blocks):
        steps.append(
            block(
                width,
                stage.features,
                kernel=stage.kernel_size,
                stride=stride,
                materials=materials,
            )
        )
        if plan.encoder == "plain" and plan.squeeze_reduction is not None:
            # Hu et al. 2018, section 3: in plain networks behind each activation.
            steps.append(squeeze(stage.features, materials))
        width, stride = stage.features, materials.ones
    return nn.Sequential(*steps)


def _width_before(plan: NetworkPlan, level: int) -> int:
    """Return the features that a stage takes."""
    if level > 0:
        return plan.stages[level - 1].features
    return plan.seen_channels if plan.encoder == "plain" else plan.stages[0].features


def _head_widths(plan: NetworkPlan) -> list[int]:
    """Return the features that each head takes; a nested decoder's are all of full resolution."""
    if plan.decoder == "nested":
        return [plan.stages[0].features] * plan.num_supervised
    return [stage.features for stage in plan.stages[: plan.num_supervised]]

"""From a network plan to a network."""

import torch
from torch import nn

from autoseg.network.blocks import SLOPE, ResidualBlock
from autoseg.network.unet import UNet
from autoseg.record import NetworkPlan


def build_network(plan: NetworkPlan) -> nn.Module:
    """Return the network of a plan; its weights are not drawn yet (see `initialise`).

    In training mode it returns a tuple of logits, finest first, where the plan supervises several
    resolutions; otherwise logits (B, K, *S) of an input (B, C, *S).
    """
    most = max(1, len(plan.stages) - 1)
    if not 1 <= plan.num_supervised <= most:
        raise ValueError(f"{plan.num_supervised} supervised resolutions, not 1 to {most}")
    return UNet(plan)


def initialise(model: nn.Module, seed: int) -> None:
    """Draw all weights: He-normal convolutions, zero biases, residual blocks that change nothing.

    Parameters
    ----------
    model
        A network of `build_network`, on the CPU.
    seed
        The same seed draws the same weights.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            nn.init.kaiming_normal_(module.weight, a=SLOPE, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.norm.weight)  # pyright: ignore[reportArgumentType]

"""From a network plan to a network."""

from typing import Protocol, runtime_checkable

import torch
from torch import nn

from autoseg.network.blocks import SLOPE
from autoseg.network.unet import UNet
from autoseg.record import NetworkPlan


@runtime_checkable
class Starting(Protocol):
    """A module with a say in its first weights."""

    def start(self) -> None:
        """Change weights that have just been drawn."""
        ...


def build_network(plan: NetworkPlan) -> nn.Module:
    """Return the network of a plan; its weights are not drawn yet (see `initialise`).

    In training mode it returns a tuple of logits, finest first, where the plan supervises several
    outputs; otherwise logits (B, K, *S) of an input (B, C, *S), smaller by the plan's
    `output_margin` at each side.
    """
    problems = plan.problems()
    if problems:
        raise ValueError("; ".join(problems))
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
        if isinstance(module, Starting):
            module.start()

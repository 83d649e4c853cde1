"""Averaged weights: what is validated and exported."""

import copy
from typing import final

import torch
from torch import nn


@final
class Ema:
    """A copy of a network whose weights are the exponential moving average of its weights.

    Parameters
    ----------
    model
        The network that is trained, on its device.
    decay
        Weight of the average in each update, 0 to below 1; 0 follows the network exactly.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self._averaged = list(self.model.parameters())
        self._current = list(model.parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps; early averages are shorter, so that none is stale."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averaged, self._current, 1.0 - decay)

"""Averaged weights: what is validated and exported."""

import copy
from typing import final

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


@final
class Ema:
    """A copy of a network whose weights are the exponential moving average of its weights.

    So are the running means and variances of batch normalisation: they go with the weights.

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
        self._averaged = _averaged_tensors(self.model)
        self._current = _averaged_tensors(model)

    def update(self, step: int) -> None:
        """Take in the weights after `step` steps; early averages are short, to forget the start."""
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._averaged, self._current, step)


def _averaged_tensors(model: nn.Module) -> list[Tensor]:
    """Return all weights and all buffers that are not counters."""
    buffers = (buffer for buffer in model.buffers() if buffer.is_floating_point())
    return [*model.parameters(), *buffers]

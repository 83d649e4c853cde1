"""How strong the gradients of a network's layers are, to see whether its first one learns."""

import torch
from torch import Tensor, nn

MIN_AXES = 3
"""Convolutions have at least so many axes: features out, features in, space."""


def layer_gradients(model: nn.Module) -> tuple[float, float] | None:
    """Return the root mean square of the gradients of the first and of the deepest convolution.

    Waits for the device. None where the network has no encoder of its own, or no gradients.

    Parameters
    ----------
    model
        A U-Net after a backward pass: its encoder's first convolution, and the first one of its
        last stage, are compared.
    """
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, nn.ModuleList) or len(encoder) < 2:
        return None
    first, deepest = (_convolution(part) for part in (encoder[0], encoder[-1]))
    if first is None or deepest is None or first.grad is None or deepest.grad is None:
        return None
    return _strength(first.grad), _strength(deepest.grad)


def _convolution(part: nn.Module) -> nn.Parameter | None:
    return next((item for item in part.parameters() if item.ndim >= MIN_AXES), None)


def _strength(gradient: Tensor) -> float:
    return float(torch.sqrt(gradient.float().square().mean()))

"""Where torch's random numbers stand: the processor's, and those of a device that draws its own."""

from collections.abc import Sequence

import torch
from torch import Tensor


def random_state(device: str | torch.device) -> tuple[Tensor, ...]:
    """Return the state of the processor's generator, then of the device's where it has one."""
    place = torch.device(device)
    states = (torch.get_rng_state(),)
    if place.type == "cuda":
        return (*states, torch.cuda.get_rng_state(place))
    if place.type == "mps":
        return (*states, torch.mps.get_rng_state())
    return states


def set_random_state(states: Sequence[Tensor], device: str | torch.device) -> None:
    """Let random numbers go on from what `random_state` has returned, on whatever device.

    What is not known, because another kind of device was used then, stays as it is.
    """
    place = torch.device(device)
    torch.set_rng_state(states[0])
    if place.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], place)
    if place.type == "mps" and len(states) > 1:
        torch.mps.set_rng_state(states[1])

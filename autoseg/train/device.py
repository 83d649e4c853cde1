"""Whether this machine's torch has the device that the plan is for, and how often."""

import torch

from autoseg.errors import TrainingError


def check_device(device: str) -> None:
    """Raise a TrainingError if torch has no such device here."""
    place = torch.device(device)
    if (place.index or 0) < num_devices(device):
        return
    raise TrainingError(
        found=f"torch {torch.__version__} finds no device {device} here",
        expected=f"the device that the plan is for: {place.type}",
        fix=f"install a torch that supports {place.type}, train on a machine that has it, or plan "
        "for the processor with `autoseg plan DATASET --device cpu --replan`",
    )


def num_devices(device: str) -> int:
    """Return how many devices of this kind torch has here."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.device_count()
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return 1


def most_at_once(device: str, num_workers: int) -> int:
    """Return how many folds can be trained here at once: a GPU is never shared."""
    if torch.device(device).type == "cpu":
        return num_workers
    is_chosen = torch.device(device).index is not None
    return max(1, min(num_workers, 1 if is_chosen else num_devices(device)))

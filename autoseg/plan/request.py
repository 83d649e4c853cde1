"""What a planner is asked."""

from dataclasses import dataclass

from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.machine import Device, Machine


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """Data, machine and wishes; a planner answers with a `Plan` and nothing else."""

    fingerprint: Fingerprint
    machine: Machine
    device: Device
    """Of the training."""
    memory_bytes: int | None
    """Of the training device, for one fold; None: what the planner takes by itself."""
    ram_bytes: int
    """Of all our processes together."""
    budget_s: float | None
    """Active wall-clock time of one `autoseg train`; None: what the planner takes by itself."""
    num_folds: int
    seed: int

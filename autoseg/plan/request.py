"""What a planner is asked."""

from collections.abc import Callable
from dataclasses import dataclass

from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.machine import Device, Machine
from autoseg.plan.after import RunEvidence
from autoseg.plan.encoders import EncoderAtHand, no_encoder


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
    after: RunEvidence | None = None
    """A finished run that the plan is to learn from."""
    find_encoder: Callable[[Fingerprint], EncoderAtHand | None] = no_encoder
    """Returns a pretrained encoder that is on this machine; slow, so it is asked for only where
    one is wanted."""

"""What training writes besides weights."""

from typing import Literal

from autoseg.evaluate.scores import CaseScore
from autoseg.record import Record


class RunSettings(Record):
    """What only the training machine can know, decided once before step 1 and read ever after."""

    schema_version: Literal[1] = 1
    plan_digest: str
    configuration: str
    fold: str
    num_steps: int
    device: str
    precision: Literal["fp32", "bf16", "fp16"]
    num_threads: int
    channels_last: bool
    seconds_per_step: float
    """As probed; for the record."""


class FoldResult(Record):
    """The outcome of one fold: result.json."""

    schema_version: Literal[1] = 1
    autoseg_version: str
    plan_digest: str
    configuration: str
    fold: str
    seed: int
    num_steps: int
    train_seconds: float
    validation_seconds: float
    scores: tuple[CaseScore, ...]
    """One entry a validation case; empty for fold "all"."""

"""Dice on cases that were trained on: what it is above that on others was learnt by heart."""

import numpy as np
from torch import nn

from autoseg.network.execution import Execution
from autoseg.train.job import FoldJob
from autoseg.train.validation import overlaps, prediction_work

MAX_CASES = 8
TRAINING_FRACTION = 0.01
"""Part of the steps' work that predicting them may cost."""


def training_dice(
    job: FoldJob, model: nn.Module, execution: Execution, num_steps: int
) -> tuple[float | None, ...]:
    """Return the Dice of each foreground class, mean over some training cases; nothing if too dear.

    On the prepared grid and without mirroring. Which cases it takes depends on numbers of steps
    and tiles only, never on a clock.
    """
    count = min(MAX_CASES, len(job.train_cases))
    chosen = np.linspace(0, len(job.train_cases) - 1, count).round().astype(int)
    spent, found = 0.0, []
    for case_id in (job.train_cases[index] for index in chosen):
        spent += prediction_work(job, case_id)
        if spent > TRAINING_FRACTION * num_steps:
            break
        inner, total = overlaps(job, model, execution, case_id)
        found.append(np.where(total > 0, 2 * inner / np.maximum(1, total), np.nan))
    if not found:
        return ()
    return tuple(_mean(values) for values in zip(*found, strict=True))


def _mean(values: tuple[float, ...]) -> float | None:
    """Return the mean of the values that are known."""
    known = [float(value) for value in values if not np.isnan(value)]
    return sum(known) / len(known) if known else None

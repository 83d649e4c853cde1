"""Learning rates: formulas of the part of a run that is done, and one that looks at scores.

Each formula takes `step` of `num_steps` as real numbers: a run whose length was revised passes
places that lie between those of the run as planned. Needs no torch.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from autoseg.plan.plan import TrainingPlan
from autoseg.record import Record

WARMUP_FRACTION = 0.1
"""A warm-up never takes more than this part of a run: short runs must reach their peak, too."""
RISE_FRACTION = 0.3
"""Part of one cycle in which its rate rises: as in fastai and torch."""
FIRST_DIVISOR = 25.0
"""One cycle begins this many times below its peak: as in fastai and torch."""
LAST_DIVISOR = 1e4
"""And ends this many times below where it began: as in torch."""
BETTER = 1e-4
"""A Dice counts as better when it is above the best by this part of it: as in torch."""


def warmup_steps(planned: int, num_steps: int) -> int:
    """Return how many of a run's steps are warm-up."""
    return min(planned, int(num_steps * WARMUP_FRACTION))


def poly(step: float, num_steps: int, power: float) -> float:
    """Return (1 - step / num_steps) ** power, the rate over its peak.

    Chen et al. 2017, DeepLab (arXiv:1606.00915, section 4.1); with power 0.9 nnU-Net's.
    """
    return max(0.0, 1.0 - step / num_steps) ** power


def cosine(step: float, num_steps: int) -> float:
    """Return (1 + cos(pi step / num_steps)) / 2, the rate over its peak.

    Loshchilov and Hutter 2017, SGDR (arXiv:1608.03983, equation 5), without restarts and down to 0.
    """
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / num_steps)))


def one_cycle(step: float, num_steps: int) -> float:
    """Return the rate over its peak in one cycle: a rise and a fall along half cosines each.

    Smith and Topin 2018, "Super-convergence" (arXiv:1708.07120), in the form of fastai and of
    torch's `OneCycleLR`: from 1 / 25 to 1 in the first 30 % of the steps, then to 1 / 250,000 at
    the last one. Momentum stays as planned.
    """
    first, last = 1.0 / FIRST_DIVISOR, 1.0 / (FIRST_DIVISOR * LAST_DIVISOR)
    top = max(0.0, RISE_FRACTION * num_steps - 1)
    if step < top:
        return _between(first, 1.0, step / top)
    return _between(1.0, last, min(1.0, (step - top) / max(num_steps - 1 - top, 1.0)))


def constant(step: float, num_steps: int) -> float:  # noqa: ARG001
    """Return 1: what lowers the rate is not the time, see `reduced`."""
    return 1.0


def _between(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2 * (1.0 + math.cos(math.pi * part))


SCHEDULES: Mapping[str, Callable[[float, int], float]] = MappingProxyType(
    {"cosine": cosine, "one_cycle": one_cycle, "reduce_on_plateau": constant}
)
"""By the schedule of a plan; "poly" has a parameter."""


def planned_rate(training: TrainingPlan, step: float, num_steps: int) -> float:
    """Return the learning rate of a step: a linear rise over the warm-up, times the schedule.

    Parameters
    ----------
    step
        Steps done, 0 to `num_steps`.
    num_steps
        Of the run as first planned.
    """
    warmup = warmup_steps(training.warmup_steps, num_steps)
    rise = min(1.0, (step + 1) / (warmup + 1))
    if training.schedule == "poly":
        return training.peak_lr * rise * poly(step, num_steps, training.poly_power)
    return training.peak_lr * rise * SCHEDULES[training.schedule](step, num_steps)


class ReductionState(Record):
    """How far a rate was lowered for lack of progress, as a checkpoint keeps it (see `reduced`)."""

    factor: float = 1.0
    """Of the planned rate."""
    best: float | None = None
    """Highest mean Dice of a look."""
    num_worse: int = 0
    """Looks since then, or since the rate was lowered."""


def reduced(state: ReductionState, dice: float, training: TrainingPlan) -> ReductionState:
    """Return where the reductions of a rate stand after a look at validation cases.

    ReduceLROnPlateau, of Keras and torch, for a score that should rise: after more than
    `reduce_patience` looks in a row that are not above the best by a ten-thousandth of it, the rate
    is multiplied by `reduce_factor`, and the count begins again.

    Parameters
    ----------
    dice
        Mean over classes at this look.
    """
    if state.best is None or dice > state.best * (1.0 + BETTER):
        return state.revised(best=dice, num_worse=0)
    if state.num_worse < training.reduce_patience:
        return state.revised(num_worse=state.num_worse + 1)
    return state.revised(factor=state.factor * training.reduce_factor, num_worse=0)

"""How a search divides its time, and which runs it ends early."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from autoseg.errors import PlanError
from autoseg.evaluate.candidates import MIN_FOLDS, MIN_SEEDS, cases_needed

TRIAL_SHARE = 0.5
"""Part of the budget that tries plans; the rest confirms the best of them on other cases. Less
would leave the confirmation too short to see a difference of half a point of Dice."""
NUM_TRIALS = 10
"""Trials that the time should allow: fewer but longer ones, because short runs do not rank."""
OVERHEAD_FRACTION = 0.2
"""Part of a trial's training time that its start and its validation take besides, about."""
MIN_RUN_S = 15.0
"""A shorter run tells nothing about a network."""
RUN_OVERHEAD_S = 5.0
"""Start and validation of such a run, at least."""
NUM_SEEDS = MIN_SEEDS
"""Trainings of every plan that is confirmed, on each fold."""
MAX_FINALISTS = 3
USED_FRACTION = 0.97
"""Part of the time that runs are planned for; the rest is what they exceed it by."""
RUNGS: Mapping[float, float] = MappingProxyType({0.25: 0.15, 0.5: 0.1})
"""Parts of a trial after which a bad one is ended, with the Dice by which it must be behind the
best. Wide margins: runs of a third of the length hardly rank as whole ones do (Auto-nnU-Net, arXiv
2505.16561, found correlations down to below zero), but one that is far behind does not recover."""
NUM_LOOKS = 8
"""Parts of a run after which training looks at a few validation cases."""
MIN_RIVALS = 3
"""Completed trials without which none is ended."""
WORST_PART = 1 / 3
MAX_STEP_RATIO = 2.5
"""How much dearer a step may be than the planned one: in equal time, a trial has at least 40 % of
the plan's steps."""


@dataclass(frozen=True)
class Layout:
    """What is trained to confirm."""

    num_finalists: int
    """Besides the plan as it is."""
    num_folds: int
    run_s: float
    """Training time of each run."""

    @property
    def num_runs(self) -> int:
        """Runs in all."""
        return (1 + self.num_finalists) * self.num_folds * NUM_SEEDS


def folds_needed(cases: Sequence[Collection[str]]) -> int | None:
    """Return how many folds hold enough cases to confirm anything; None: all together too few.

    Parameters
    ----------
    cases
        Of each fold that was not searched on: its validation cases that the search has not seen.
    """
    counts = range(MIN_FOLDS, len(cases) + 1)
    return next((n for n in counts if len(set().union(*cases[:n])) >= cases_needed(1)), None)


def finalists_allowed(num_cases: int) -> int:
    """Return of how many finalists so many cases can prove one better, at most `MAX_FINALISTS`.

    The test is corrected for their number: with too many of them none could pass it.
    """
    return sum(num_cases >= cases_needed(n) for n in range(1, MAX_FINALISTS + 1))


def smallest_search_s(num_folds: int = MIN_FOLDS) -> int:
    """Return the seconds of the shortest search that can confirm anything, on so many folds."""
    runs = Layout(1, num_folds, MIN_RUN_S).num_runs
    return math.ceil(runs * (MIN_RUN_S + RUN_OVERHEAD_S) / (1 - TRIAL_SHARE))


def refuse_short_search(budget_s: float, num_folds: int = MIN_FOLDS) -> None:
    """Raise an error for a budget in which nothing can be found and confirmed.

    Raises
    ------
    PlanError
        It is below `smallest_search_s`.
    """
    least = smallest_search_s(num_folds)
    if budget_s < least:
        raise PlanError(
            found=f"a budget of {budget_s:g} s for a search",
            expected=f"at least {least} s: half to try plans, half to train the best and the "
            f"planned one on {num_folds} other folds with {NUM_SEEDS} seeds each",
            fix=f"give {least}s or more; an hour is a good begin",
        )


def trial_seconds(budget_s: float, num_workers: int, longest_s: float) -> float:
    """Return the training time of every trial.

    Parameters
    ----------
    longest_s
        Of a whole training of one fold: more would try what is never trained.
    """
    share = TRIAL_SHARE * budget_s * num_workers / NUM_TRIALS
    return max(MIN_RUN_S, min(longest_s, share / (1 + OVERHEAD_FRACTION)))


def confirmation(
    left_s: float,
    num_workers: int,
    *,
    trial_s: float,
    overhead_s: float,
    num_finalists: int,
    num_folds: tuple[int, int],
    longest_s: float,
) -> Layout | None:
    """Return what can be trained in the time that is left, each for as long; None: too little.

    As many finalists as there are, but each run no shorter than a trial; more folds only when
    every run already is as long as a whole training.

    Parameters
    ----------
    left_s, num_workers
        Time, and runs at once.
    trial_s, overhead_s
        Training time of a trial, and what it took besides.
    num_finalists
        How many there are at most.
    num_folds
        How many are needed (see `folds_needed`), and how many there are.
    longest_s
        Of a whole training of one fold.
    """

    def run_s(finalists: int, folds: int) -> float:
        rounds = math.ceil(Layout(finalists, folds, 0.0).num_runs / num_workers)
        return USED_FRACTION * left_s / rounds - overhead_s

    finalists, (folds, most) = min(MAX_FINALISTS, num_finalists), num_folds
    while finalists > 1 and run_s(finalists, folds) < trial_s:
        finalists -= 1
    while folds < most and run_s(finalists, folds + 1) >= longest_s:
        folds += 1
    seconds = min(max(MIN_RUN_S, longest_s), run_s(finalists, folds))
    return Layout(finalists, folds, seconds) if seconds >= MIN_RUN_S else None


def rung_of(step: int, num_steps: int) -> float | None:
    """Return the rung that a look after some steps stands for, None for a look in between."""
    part = round(NUM_LOOKS * step / num_steps) / NUM_LOOKS
    return part if part in RUNGS else None


def is_clearly_bad(dice: float, rivals: Sequence[float], rung: float) -> bool:
    """Return whether a run may be ended: far behind the best, and among the worst.

    Parameters
    ----------
    dice
        Of the run, at the rung.
    rivals
        The same of completed trials.
    rung
        A key of `RUNGS`.
    """
    if len(rivals) < MIN_RIVALS or dice >= max(rivals) - RUNGS[rung]:
        return False
    worse = sum(other < dice for other in rivals)
    return worse < WORST_PART * (len(rivals) + 1)

"""Two candidates on the same cases: by how much they differ, and how certain that is.

Letters in shapes: S seeds, N cases of a fold, B resamples.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.seeds import stream

NUM_RESAMPLES = 2000
"""They give a standard error, which so many leave uncertain by 1.6 %."""
CONFIDENCE = 0.95
DECIMALS = 9
"""Differences are rounded, so that equal ones are equal ranks."""


@dataclass(frozen=True)
class FoldScores:
    """Scores of the same cases of one fold, of both sides; no NaN, and one case at least."""

    cases: tuple[str, ...]
    challenger: NDArray[np.float64]
    """(S, N)."""
    incumbent: NDArray[np.float64]
    """(S, N)."""

    @property
    def differences(self) -> NDArray[np.float64]:
        """Challenger minus incumbent, averaged over seeds: (N,)."""
        return self.challenger.mean(axis=0) - self.incumbent.mean(axis=0)


def interval(folds: Sequence[FoldScores], seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean difference, by a hierarchical bootstrap.

    Folds are drawn with replacement, then each side's seeds within a fold, then cases (Davison and
    Hinkley 1997, section 3.8; Saravanan et al. 2020). Each side draws its own seeds: two plans
    trained with one number share no noise that could be relied on. What drawing cases adds to the
    variance is known, N times the variance of the drawn folds' cases, so cases need no draws.

    The interval is the difference -+ t times the resamples' standard deviation (Hesterberg 2015,
    "What teachers should know about the bootstrap": t with bootstrap standard error), t with one
    degree of freedom less than a side has trainings. Percentiles of the resamples themselves would
    be far too narrow, since of two folds with two seeds there are few different resamples: where
    trainings are all that varies, a challenger that is no better wins 7 % of the time where 2.5 %
    are promised, and one of three in 17 %; with t it is 1.6 % and 4.4 %.
    """
    totals, variances, counts = np.zeros((3, NUM_RESAMPLES))
    rng = stream(seed, "candidates")
    for _ in folds:
        drawn = rng.integers(len(folds), size=NUM_RESAMPLES)
        for index, fold in enumerate(folds):
            rows = np.flatnonzero(drawn == index)
            differences = _resampled_seeds(fold, len(rows), rng)
            totals[rows] += differences.sum(axis=1)
            variances[rows] += ((differences - differences.mean(axis=1, keepdims=True)) ** 2).sum(
                axis=1
            )
            counts[rows] += len(fold.cases)
    spread = (totals / counts).var(ddof=1) + (variances / counts**2).mean()
    num_runs = sum(len(fold.challenger) for fold in folds)
    half = _t_quantile(num_runs - 1) * float(np.sqrt(spread))
    centre = float(np.concatenate([fold.differences for fold in folds]).mean())
    return centre - half, centre + half


def _resampled_seeds(
    fold: FoldScores, num_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the (B, N) differences between means over resampled seeds."""
    num_seeds = len(fold.challenger)
    even = np.full(num_seeds, 1 / num_seeds)
    ours, theirs = (rng.multinomial(num_seeds, even, size=num_resamples) for _ in range(2))
    return (ours @ fold.challenger - theirs @ fold.incumbent) / num_seeds


def _t_quantile(degrees: int) -> float:
    from scipy import special

    return float(special.stdtrit(degrees, 1 - (1 - CONFIDENCE) / 2))


def signed_rank(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test in the direction of the mean.

    Equal cases are left out, as Wilcoxon did; 1 where all are equal. They are left out before: with
    zeros among them SciPy takes the normal approximation, which is too sure of few cases.
    """
    from scipy import stats

    rounded = np.round(differences, DECIMALS)
    rounded = rounded[rounded != 0]
    if not len(rounded):
        return 1.0
    direction = "greater" if rounded.mean() >= 0 else "less"
    _, p_value = np.asarray(stats.wilcoxon(rounded, alternative=direction), float)
    return min(1.0, 2 * float(p_value))


def lower_bound(differences: NDArray[np.float64], confidence: float) -> float:
    """Return what the mean of differences (N,) is above, with such a confidence: one-sided, by t.

    Minus infinity of fewer than two.
    """
    from scipy import special

    count = len(differences)
    if count < 2:
        return -np.inf
    error = float(differences.std(ddof=1)) / np.sqrt(count)
    return float(differences.mean() - special.stdtrit(count - 1, confidence) * error)


def by_case(folds: Sequence[FoldScores]) -> NDArray[np.float64]:
    """Return one difference a case: one that several folds hold out is one case all the same."""
    number = Counter(case for fold in folds for case in fold.cases)
    sums = dict.fromkeys(number, 0.0)
    for fold in folds:
        for case, difference in zip(fold.cases, fold.differences, strict=True):
            sums[case] += float(difference)
    return np.array([sums[case] / number[case] for case in number])

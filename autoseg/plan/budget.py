"""Dividing the hours of one `autoseg train` among what it is asked to do."""

import math

FINISHING_FRACTION = 0.08
"""Part of the budget kept for validation, ensemble, export and report: they grow with the data."""
FINISHING_S = 30.0
"""Part of the same that does not grow: loading torch, exporting and verifying one model."""
MIN_FOLD_S = 15.0
"""A fold with less than this is not worth its validation; folds are dropped instead."""


def seconds_per_fold(available_s: float, num_folds: int, num_workers: int) -> float:
    """Return the training time of each fold when `num_workers` are trained at once.

    Parameters
    ----------
    available_s
        What is left of the budget, seconds.
    num_folds
        Folds of all configurations that are still to be trained.
    num_workers
        Folds trained at the same time.
    """
    rounds = math.ceil(num_folds / num_workers)
    return (available_s * (1.0 - FINISHING_FRACTION) - FINISHING_S) / rounds


def affordable_folds(available_s: float, num_folds: int, num_workers: int) -> int:
    """Return how many of the folds get at least `MIN_FOLD_S`; the last are dropped first."""
    for count in range(num_folds, 0, -1):
        if seconds_per_fold(available_s, count, num_workers) >= MIN_FOLD_S:
            return count
    return 0

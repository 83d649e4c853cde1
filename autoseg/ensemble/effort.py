"""Mirroring and tile overlap when predicting: which are worth their time, decided after training.

A setting replaces the plan's if it is better, by the rule of all choices, or if it is as good and
clearly faster. How a few cases come out with it is found by predicting them again.

Letters in shapes: N cases, O settings, K foreground classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autoseg.ensemble.tried import (
    LEVEL,
    Tried,
    by_patient,
    case_differences,
    judge_options,
    mean_dice,
)
from autoseg.ensemble.weights import MIN_GAIN
from autoseg.errors import counted
from autoseg.evaluate.paired import lower_bound
from autoseg.runtime.recipe import Recipe

MIN_PATIENTS = 6
"""Of fewer, Wilcoxon's test cannot have p below 0.05."""
MARGIN = 0.001
"""Dice that a faster setting may at most lose: half of what a slower one must gain."""
MIN_SPEEDUP = 1.5
"""A faster setting takes so many times fewer network calls."""
OVERLAPS = (0.25, 0.5, 0.625)
LEAST_OVERLAP = 0.5
"""Common advice; time is never saved by less, for seams of tiles show in few cases."""


@dataclass(frozen=True)
class Setting:
    """How much is computed for an image."""

    overlap: float
    mirrored: bool

    @classmethod
    def of(cls, recipe: Recipe) -> "Setting":
        """Return a recipe's setting."""
        return cls(recipe.overlap, recipe.test_time_mirroring)


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Cases that were predicted with several settings."""

    table: NDArray[np.float64]
    """(N, O, K) Dice."""
    calls: tuple[int, ...]
    """Tiles that go through the network for all cases, of each setting."""
    folds: tuple[str, ...]
    patients: tuple[str, ...]
    """Of each case."""


def other_mirroring(current: Setting, recipe: Recipe) -> tuple[Setting, ...]:
    """Return the setting with mirroring if `current` is without, and the reverse.

    Nothing where the plan mirrors no axis.
    """
    return (replace(current, mirrored=not current.mirrored),) if recipe.mirror_axes else ()


def other_overlaps(current: Setting) -> tuple[Setting, ...]:
    """Return the settings with another tile overlap."""
    return tuple(replace(current, overlap=item) for item in OVERLAPS if item != current.overlap)


def decide(
    name: str, settings: Sequence[Setting], words: Sequence[str], outcomes: Outcomes, seed: int
) -> tuple[int, Tried]:
    """Return the setting to use of O, the first of which is the current one, and why.

    Parameters
    ----------
    name
        Of what differs between the settings.
    words
        The settings, for the user.
    """
    best, tried = judge_options(
        name,
        outcomes.table,
        outcomes.folds,
        outcomes.patients,
        options=words,
        min_gain=MIN_GAIN,
        seed=seed,
    )
    told = _told(words, outcomes)
    if tried.used:
        return best, tried.revised(reason=f"{tried.reason} {told}")
    faster = _as_good_and_faster(settings, outcomes)
    if faster is None:
        return 0, tried.revised(reason=f"{tried.reason} {told}")
    reason = (
        f"{words[faster].capitalize()} is as good, up to {MARGIN:g} Dice, and takes "
        f"{outcomes.calls[0] / outcomes.calls[faster]:.1f} times fewer network calls."
    )
    return faster, tried.revised(
        best=words[faster],
        in_sample=mean_dice(outcomes.table[:, faster]),
        cross_fitted=None,
        p_value=None,
        used=True,
        reason=f"{reason} {told}",
    )


def _as_good_and_faster(settings: Sequence[Setting], outcomes: Outcomes) -> int | None:
    """Return the setting with fewest calls that is surely not worse; None where none is."""
    if len(set(outcomes.patients)) < MIN_PATIENTS:
        return None
    least = min(LEAST_OVERLAP, settings[0].overlap)
    calls = outcomes.calls
    faster = [
        index
        for index, setting in enumerate(settings)
        if calls[0] >= MIN_SPEEDUP * calls[index] and setting.overlap >= least
    ]
    for index in sorted(faster, key=lambda index: calls[index]):
        # The chance of an error is shared among the settings that might pass (Bonferroni).
        if lower_bound(_differences(outcomes, index), 1 - LEVEL / len(faster)) > -MARGIN:
            return index
    return None


def _differences(outcomes: Outcomes, index: int) -> NDArray[np.float64]:
    """Return one difference to the current setting a patient."""
    table = outcomes.table
    return by_patient(case_differences(table[:, 0], table[:, index]), outcomes.patients)


def _told(words: Sequence[str], outcomes: Outcomes) -> str:
    """Return what each other setting gains or loses, and what it takes."""
    parts = []
    for index, word in enumerate(words[1:], start=1):
        differences = _differences(outcomes, index)
        if len(differences):
            ratio = outcomes.calls[index] / outcomes.calls[0]
            bound = lower_bound(differences, 1 - LEVEL)
            least = f", surely above {bound:+.4f}" if np.isfinite(bound) else ""
            parts.append(f"{word}: {differences.mean():+.4f} Dice{least}, {ratio:.2g} times")
    patients = counted(len(set(outcomes.patients)), "patient")
    return f"Of {patients}, beside {words[0]} (network calls: 1 time): {'; '.join(parts)}."

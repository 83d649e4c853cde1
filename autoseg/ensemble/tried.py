"""What is tried after training, and when it is used: fixed before looking, the same for all.

A choice is made on some cases and judged on others: every group of cases gets what the other
groups chose ("cross-fitted"). It is used where that is better than the planned setting by enough
to matter and by more than chance makes among the patients. Equal is not better: the plan stays.

Letters in shapes: N cases, K foreground classes, P patients.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import counted
from autoseg.evaluate.candidates import EMPTY_DICE
from autoseg.evaluate.paired import signed_rank
from autoseg.evaluate.statistics import defined_mean, number_or_none
from autoseg.record import Record
from autoseg.seeds import stream

LEVEL = 0.05
MIN_CASES = 2
"""Fewer cases decide nothing."""
TIE = 1e-9
"""A smaller difference of the Dice is rounding: what comes first stays."""
PLANNED = "as planned"

Grouping = Literal["folds", "halves", "none"]


class Tried(Record):
    """A setting that was searched without training again."""

    name: str
    """Of the setting: "weights", "thresholds", ..."""
    planned: str
    best: str
    """What all cases together prefer."""
    num_cases: int
    before: float | None = None
    """Mean out-of-fold Dice of the foreground classes as planned."""
    in_sample: float | None = None
    """With the best, on the cases that preferred it."""
    cross_fitted: float | None = None
    """Each case with what the other groups of cases preferred."""
    p_value: float | None = None
    """Of the cross-fitted differences by patient, Wilcoxon's signed-rank test, two-sided."""
    used: bool = False
    reason: str

    @property
    def gain(self) -> float | None:
        """Cross-fitted gain."""
        if self.cross_fitted is None or self.before is None:
            return None
        return self.cross_fitted - self.before


def judge(
    name: str,
    tables: Sequence[NDArray[np.float64]],
    patients: Sequence[str],
    *,
    best: str,
    min_gain: float,
    planned: str = PLANNED,
) -> Tried:
    """Return whether a setting is used.

    Parameters
    ----------
    name
        Of the setting.
    tables : three times (N, K)
        Dice as planned, with the best setting, and cross-fitted; NaN where nothing counts.
    patients
        Of each case.
    best
        What all cases prefer, in words; `planned` where it is that.
    min_gain
        Less Dice is not worth a change.
    planned
        The planned setting, in words.
    """
    before, in_sample, cross_fitted = (mean_dice(table) for table in tables)
    p_value = None
    if cross_fitted is not None:
        p_value = signed_rank(by_patient(_case_differences(tables[0], tables[2]), patients))
    found = Tried(
        name=name,
        planned=planned,
        best=best,
        num_cases=len(patients),
        before=before,
        in_sample=in_sample,
        cross_fitted=cross_fitted,
        p_value=p_value,
        reason="",
    )
    gain = found.gain
    is_better = gain is not None and gain >= min_gain and p_value is not None and p_value < LEVEL
    return found.revised(
        used=is_better and best != planned, reason=_reason(found, min_gain, is_better=is_better)
    )


def undecided(name: str, num_cases: int, reason: str) -> Tried:
    """Return that a setting stays because nothing could be decided."""
    return Tried(name=name, planned=PLANNED, best=PLANNED, num_cases=num_cases, reason=reason)


def held_out(
    groups: NDArray[np.integer],
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield for every group the cases that choose and those that are judged.

    Nothing with a single group, which no other can judge.
    """
    names = np.unique(groups)
    for group in names if len(names) > 1 else ():
        yield groups != group, groups == group


def prefer(table: NDArray[np.float64]) -> tuple[int, ...]:
    """Return of each class the option with the highest mean of (N, K, O) Dice, the first of equals.

    O options; the first is the planned one.
    """
    found = []
    for index in range(table.shape[1]):
        means, best = defined_mean(table[:, index]), 0
        for option, value in enumerate(means):
            if value > means[best] + TIE:
                best = option
        found.append(best)
    return tuple(found)


def prefer_by_case(
    table: NDArray[np.float64], groups: NDArray[np.integer]
) -> list[tuple[int, ...]]:
    """Return for each case the options that the other groups prefer; empty with a single group."""
    found: dict[int, tuple[int, ...]] = {}
    for choose, judged in held_out(groups):
        options = prefer(table[choose])
        found |= dict.fromkeys(np.flatnonzero(judged).tolist(), options)
    return [found[index] for index in sorted(found)]


def group_cases(
    folds: Sequence[str], patients: Sequence[str], seed: int
) -> tuple[NDArray[np.integer], Grouping]:
    """Return the group of each case for cross-fitting; patients are never divided.

    The groups are the folds; with a single fold its patients in two halves.
    """
    if len(set(folds)) > 1:
        return np.unique(folds, return_inverse=True)[1], "folds"
    names = sorted(set(patients))
    if len(names) < 2:
        return np.zeros(len(patients), int), "none"
    order = stream(seed, "postprocessing", "halves").permutation(len(names))
    half = {names[index]: place % 2 for place, index in enumerate(order)}
    return np.array([half[patient] for patient in patients]), "halves"


def by_patient(differences: NDArray[np.float64], patients: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean difference of each patient that has a case that counts: (P,)."""
    table: dict[str, list[float]] = {}
    for value, patient in zip(differences, patients, strict=True):
        if np.isfinite(value):
            table.setdefault(patient, []).append(float(value))
    return np.array([np.mean(values) for values in table.values()], dtype=np.float64)


def mean_dice(table: NDArray[np.float64]) -> float | None:
    """Return the mean over classes of the mean over cases of (N, K) Dice."""
    return number_or_none(defined_mean(defined_mean(table)))


def _case_differences(
    before: NDArray[np.float64], after: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (N,) means over classes of after minus before; NaN where no class counts in either.

    A class that only one of both finds where there is nothing counts: the other is right.
    """
    counts = np.isfinite(before) | np.isfinite(after)
    ours, theirs = (np.where(np.isfinite(table), table, EMPTY_DICE) for table in (after, before))
    sums = np.where(counts, ours - theirs, 0.0).sum(axis=1)
    means = sums / np.maximum(counts.sum(axis=1), 1)
    return np.where(counts.any(axis=1), means, np.nan).astype(np.float64)


def _reason(found: Tried, min_gain: float, *, is_better: bool) -> str:
    if found.best == found.planned:
        return "No other setting is better on these cases: kept as planned."
    if found.gain is None or found.p_value is None:
        return "There are no cases that could judge it: kept as planned."
    p_value = "below 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"
    told = f"{found.gain:+.4f} Dice on cases that did not decide, p {p_value}"
    cases = counted(found.num_cases, "case")
    if is_better:
        return f"It helps: {told}, {cases}."
    if found.gain < min_gain:
        return f"It is not worth a change: {told} (at least {min_gain:+.4f}): kept as planned."
    return f"Chance can make as much: {told}, {cases}: kept as planned."

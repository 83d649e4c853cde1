"""What is tried after training, and when it is used: fixed before looking, the same for all.

A choice is made on some cases and judged on others: every group of cases gets what the other
groups chose ("cross-fitted"). It is used where that is better than the planned setting by enough
to matter and by more than chance makes among the patients. Equal is not better: the plan stays.

Letters in shapes: N cases, K foreground classes, O options, P patients.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

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
    p_value, rises = None, False
    if cross_fitted is not None:
        differences = by_patient(case_differences(tables[0], tables[2]), patients)
        p_value, rises = signed_rank(differences), differences.mean() > 0
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
    return found.revised(**_verdict(found, min_gain, rises=rises))


def judge_options(
    name: str,
    table: NDArray[np.float64],
    folds: Sequence[str],
    patients: Sequence[str],
    *,
    options: Sequence[str],
    min_gain: float,
    seed: int,
) -> tuple[int, Tried]:
    """Return the option with the highest mean of (N, O, K) Dice, and whether it is used.

    Parameters
    ----------
    options
        The O options in words; the first is the planned one, which stays among equals.
    """
    groups, _ = group_cases(folds, patients, seed)
    cross_fitted = np.full(table[:, 0].shape, np.nan)
    for choose, judged in held_out(groups):
        cross_fitted[judged] = table[judged, _best(table[choose])]
    best = _best(table)
    tried = judge(
        name,
        (table[:, 0], table[:, best], cross_fitted),
        patients,
        planned=options[0],
        best=options[best],
        min_gain=min_gain,
    )
    return best, tried


def _best(table: NDArray[np.float64]) -> int:
    """Return the option with the highest mean of (N, O, K) Dice, of equal ones the first."""
    means = [float(defined_mean(defined_mean(table[:, index]))) for index in range(table.shape[1])]
    best = 0
    for index, value in enumerate(means):
        if value > means[best] + TIE:
            best = index
    return best


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

    The groups are the folds, those that share patients (as folds by site may) joined; where that
    leaves one, its patients in two halves.
    """
    groups = _joined(folds, patients)
    if groups.any():
        return groups, "folds"
    names = sorted(set(patients))
    if len(names) < 2:
        return np.zeros(len(patients), int), "none"
    order = stream(seed, "postprocessing", "halves").permutation(len(names))
    half = {names[index]: place % 2 for place, index in enumerate(order)}
    return np.array([half[patient] for patient in patients]), "halves"


def _joined(folds: Sequence[str], patients: Sequence[str]) -> NDArray[np.integer]:
    """Return a number for the fold of each case, from 0, the same for folds that share patients."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    _, fold = np.unique(folds, return_inverse=True)
    names, patient = np.unique(patients, return_inverse=True)
    size = fold.max(initial=-1) + 1 + len(names)
    links = np.ones(len(fold)), (fold, size - 1 - patient)
    _, parts = connected_components(coo_matrix(links, shape=(size, size)))
    return np.unique(parts[fold], return_inverse=True)[1]


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


def case_differences(
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


def _verdict(found: Tried, min_gain: float, *, rises: bool) -> dict[str, Any]:
    """Return whether a setting is used, and why; `rises`: so does the mean over patients."""
    if found.best == found.planned:
        return _kept("No other setting is better on these cases")
    if found.gain is None or found.p_value is None:
        return _kept("There are no cases that could judge it")
    p_value = "below 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"
    told = f"{found.gain:+.4f} Dice on cases that did not decide, p {p_value}"
    cases = counted(found.num_cases, "case")
    if found.gain < min_gain:
        return _kept(f"It is not worth a change: {told} (at least {min_gain:+.4f})")
    if found.p_value >= LEVEL:
        return _kept(f"Chance can make as much: {told}, {cases}")
    if not rises:
        return _kept(f"The mean over patients falls: {told}, {cases}")
    return {"used": True, "reason": f"It helps: {told}, {cases}."}


def _kept(reason: str) -> dict[str, Any]:
    return {"used": False, "reason": f"{reason}: kept as planned."}

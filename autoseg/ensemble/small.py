"""Objects that are too small to be right: judged at once for every size that may be required.

Letters in shapes: N cases, K foreground classes, O objects of a class in a case, B sizes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoseg.ensemble.largest import CLASS, Rules, staying
from autoseg.ensemble.objects import CaseObjects
from autoseg.ensemble.tried import PLANNED, Tried, judge, prefer, prefer_by_case
from autoseg.runtime.postprocess import ROUNDING
from autoseg.runtime.recipe import SmallestObject

NAME = "smallest object"
NUM_SIZES = 10
"""That are tried: twice the voxel of the median case, and so on, doubling."""
DIGITS = 3
"""Of a size."""
MIN_GAIN = 0.0005


def choose_sizes(
    cases: Sequence[CaseObjects],
    rules: Rules,
    *,
    groups: NDArray[np.integer],
    patients: Sequence[str],
    names: Sequence[str],
    unit: str,
) -> tuple[tuple[SmallestObject, ...], Tried]:
    """Return the sizes below which objects are removed, none where that is not better.

    Parameters
    ----------
    cases
        What was predicted, before any rule.
    rules
        Keep-largest rules that come before. A class of which only the largest component is kept
        has no small objects.
    groups, patients
        Of the cases.
    names
        Of the foreground classes.
    unit
        Of sizes, for messages.
    """
    sizes = _sizes(cases)
    table = np.array([_dice(case, rules, sizes) for case in cases])
    best = prefer(table)
    by_case = prefer_by_case(table, groups)
    columns = np.arange(table.shape[1])
    cross_fitted = np.full(table.shape[:2], np.nan)
    for index, options in enumerate(by_case):
        cross_fitted[index] = table[index, columns, options]
    found = tuple(
        SmallestObject(class_index=index, size=sizes[option])
        for index, option in enumerate(best, start=1)
        if option
    )
    words = ", ".join(f"{names[item.class_index - 1]} {item.size:g} {unit}" for item in found)
    tables = table[:, :, 0], table[:, columns, best], cross_fitted
    tried = judge(NAME, tables, patients, best=words or PLANNED, min_gain=MIN_GAIN)
    return (found if tried.used else ()), tried


def _sizes(cases: Sequence[CaseObjects]) -> tuple[float, ...]:
    """Return the sizes to try, the first of which removes nothing."""
    voxel = float(np.median([case.voxel_size for case in cases]))
    sizes = (voxel * 2.0**power for power in range(1, NUM_SIZES + 1))
    return (0.0, *(float(f"{size:.{DIGITS}g}") for size in sizes))


def _dice(case: CaseObjects, rules: Rules, sizes: Sequence[float]) -> NDArray[np.float64]:
    """Return the (K, B) Dice of each class without objects that are smaller than each size."""
    least = np.array(sizes) / case.voxel_size * (1 - ROUNDING)
    rows = []
    for objects, reference, way in zip(case.classes, case.reference, rules.ways, strict=True):
        is_large = objects.sizes[:, None] >= (0 * least if way & CLASS else least)
        kept = staying(objects, way)[:, None] & is_large  # (O, B)
        total = objects.counted @ kept + reference
        dice = 2 * (objects.overlap @ kept) / np.maximum(total, 1)
        rows.append(np.where(total > 0, dice, np.nan))
    return np.array(rows)

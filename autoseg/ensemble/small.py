"""Objects that are too small to be right: counted once for every size that may be required.

Letters in shapes: N cases, K foreground classes, O objects of a class in a case.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.ensemble.largest import Rules, components_of
from autoseg.ensemble.tried import PLANNED, Tried, judge, prefer, prefer_by_case
from autoseg.runtime.recipe import SmallestObject

NAME = "smallest object"
NUM_SIZES = 10
"""That are tried: twice the voxel of the median case, and so on, doubling."""
DIGITS = 3
"""Of a size."""
ROUNDING = 1e-6
"""An object of just the size stays."""
MIN_GAIN = 0.0005


@dataclass(frozen=True)
class Objects:
    """The face-connected components of one class of a predicted case."""

    sizes: NDArray[np.int64]
    """(O,) voxels where the reference is known or not."""
    counted: NDArray[np.int64]
    """(O,) voxels where it is known."""
    overlap: NDArray[np.int64]
    """(O,) right voxels."""
    in_largest: NDArray[np.bool_]
    """(O,) whether it is part of the largest component of all foreground."""


@dataclass(frozen=True)
class CaseObjects:
    """The objects of a case, by foreground class."""

    classes: tuple[Objects, ...]
    reference: NDArray[np.int64]
    """(K,) voxels."""
    voxel_size: float
    """Product of the image's spacings."""


def count_objects(
    prediction: NDArray[np.integer],
    reference: NDArray[np.integer],
    num_classes: int,
    voxel_size: float,
) -> CaseObjects:
    """Return the objects of one case: class indices (*S), negative in the reference is ignored."""
    largest, _ = components_of(prediction > 0)
    sizes = np.bincount(largest.ravel())
    sizes[0] = 0
    is_largest = (largest == sizes.argmax()) if sizes.any() else largest > 0
    classes = tuple(
        _count_class(prediction == index, reference, index, is_largest)
        for index in range(1, num_classes)
    )
    known = np.bincount(reference[reference > 0], minlength=num_classes)[1:num_classes]
    return CaseObjects(classes, known, voxel_size)


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
    """Return the Dice of each class (rows) without objects smaller than each size (columns)."""
    table = np.full((len(case.classes), len(sizes)), np.nan)
    rows = zip(table, case.classes, case.reference, rules.classes, strict=True)
    for row, objects, reference, is_alone in rows:
        stays = np.ones(len(objects.sizes), dtype=bool)
        if rules.foreground:
            stays &= objects.in_largest
        if is_alone and stays.any():
            stays &= np.arange(len(stays)) == np.where(stays, objects.sizes, 0).argmax()
        for column, size in enumerate(sizes):
            least = 0.0 if is_alone else size / case.voxel_size * (1 - ROUNDING)
            kept = stays & (objects.sizes >= least)
            total = objects.counted[kept].sum() + reference
            if total:
                row[column] = 2 * objects.overlap[kept].sum() / total
    return table


def _count_class(
    mask: NDArray[np.bool_],
    reference: NDArray[np.integer],
    index: int,
    is_largest: NDArray[np.bool_],
) -> Objects:
    components, count = components_of(mask)
    inside = components > 0
    numbers, truth = components[inside], reference[inside]

    def number(chosen: NDArray[np.bool_] | slice) -> NDArray[np.int64]:
        return np.bincount(numbers[chosen], minlength=count + 1)[1:]

    return Objects(
        sizes=number(slice(None)),
        counted=number(truth >= 0),
        overlap=number(truth == index),
        in_largest=number(is_largest[inside]) > 0,
    )

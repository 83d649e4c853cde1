"""What keeping only the largest component would do to cases, counted without doing it.

Two rules exist: of all foreground together keep the largest component, and of one class keep its
largest. They can follow each other, so a class can end in four ways; each case is counted once in
all four, and every choice of rules is then arithmetic on the counts.

Letters in shapes: N cases, V ways, K foreground classes, O objects of a class in a case.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.ensemble.objects import CaseObjects, Objects

FOREGROUND, CLASS = 1, 2
"""A way is the sum of the rules that are used."""
WAYS = range(4)


@dataclass(frozen=True)
class Rules:
    """Which rules are used."""

    foreground: bool
    classes: tuple[bool, ...]
    """By foreground class."""

    @property
    def ways(self) -> list[int]:
        """The way in which each foreground class ends."""
        return [FOREGROUND * self.foreground + CLASS * kept for kept in self.classes]


@dataclass(frozen=True)
class Counts:
    """Voxels of some cases after each way to end."""

    overlap: NDArray[np.int64]
    """(N, V, K) right voxels."""
    predicted: NDArray[np.int64]
    """(N, V, K) voxels where the reference is known."""
    reference: NDArray[np.int64]
    """(N, K)."""

    def dice(self, rules: Rules, cases: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Return (N, K) Dice after some rules, of all or some cases; NaN where both are empty."""
        classes = np.arange(self.reference.shape[1])
        total = self.predicted[:, rules.ways, classes] + self.reference
        overlap = 2 * self.overlap[:, rules.ways, classes]
        table = np.where(total > 0, overlap / np.maximum(total, 1), np.nan)
        return table if cases is None else table[cases]


def count_ways(cases: Sequence[CaseObjects]) -> Counts:
    """Return the counts of some cases, one at least."""
    shape = (len(cases), len(WAYS), len(cases[0].classes))
    overlap, predicted = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for number, case in enumerate(cases):
        for index, objects in enumerate(case.classes):
            for way in WAYS:
                stays = staying(objects, way)
                predicted[number, way, index] = objects.counted[stays].sum()
                overlap[number, way, index] = objects.overlap[stays].sum()
    return Counts(overlap, predicted, np.array([case.reference for case in cases]))


def staying(objects: Objects, way: int) -> NDArray[np.bool_]:
    """Return which objects (O,) of a class stay."""
    stays = objects.in_largest if way & FOREGROUND else np.ones(len(objects.sizes), dtype=bool)
    return objects.largest_of(stays) if way & CLASS else stays

"""What keeping only the largest component would do to a case, counted without doing it.

Two rules exist: of all foreground together keep the largest component, and of one class keep its
largest. They can follow each other, so a class can end in four ways; each case is counted once in
all four, and every choice of rules is then arithmetic on the counts.

Letters in shapes: N cases, V ways, K foreground classes, S spatial axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

WAYS = ("as predicted", "foreground", "class", "foreground, then class")


@dataclass(frozen=True)
class Rules:
    """Which rules are used."""

    foreground: bool
    classes: tuple[bool, ...]
    """By foreground class."""

    @property
    def ways(self) -> list[int]:
        """Index into `WAYS` of each foreground class."""
        return [int(self.foreground) + 2 * int(kept) for kept in self.classes]


@dataclass(frozen=True)
class Counts:
    """Voxels of some cases after each way to end."""

    overlap: NDArray[np.int64]
    """(N, V, K) right voxels."""
    predicted: NDArray[np.int64]
    """(N, V, K)."""
    reference: NDArray[np.int64]
    """(N, K)."""

    def dice(self, rules: Rules, cases: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Return (N, K) Dice after some rules, of all or some cases; NaN where both are empty."""
        classes = np.arange(self.reference.shape[1])
        total = self.predicted[:, rules.ways, classes] + self.reference
        overlap = 2 * self.overlap[:, rules.ways, classes]
        table = np.where(total > 0, overlap / np.maximum(total, 1), np.nan)
        return table if cases is None else table[cases]


def stack_counts(counts: Sequence[Counts]) -> Counts:
    """Return the counts of several cases as one."""
    return Counts(
        np.concatenate([item.overlap for item in counts]),
        np.concatenate([item.predicted for item in counts]),
        np.concatenate([item.reference for item in counts]),
    )


def count_case(
    prediction: NDArray[np.integer], reference: NDArray[np.integer], num_classes: int
) -> Counts:
    """Return the counts of one case: class indices (*S), negative in the reference is ignored."""
    known = reference >= 0
    truth = np.where(known, reference, 0)
    shape = (1, len(WAYS), num_classes - 1)
    overlap, predicted = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    largest = _largest(prediction > 0)
    for index in range(1, num_classes):
        own = prediction == index
        kept = own & largest
        for way, mask in enumerate((own, kept, _largest(own), _largest(kept))):
            counted = mask & known
            predicted[0, way, index - 1] = counted.sum()
            overlap[0, way, index - 1] = (truth[counted] == index).sum()
    sizes = np.bincount(truth.reshape(-1), minlength=num_classes)[1:num_classes]
    return Counts(overlap, predicted, sizes[None])


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest component (joined by faces); the first of equals, as when predicting."""
    boxes = ndimage.find_objects(mask.view(np.int8))
    if not boxes:
        return mask
    components, count = components_of(mask[boxes[0]])
    if count == 1:
        return mask
    sizes = np.bincount(components.reshape(-1))
    sizes[0] = 0
    kept = np.zeros_like(mask)
    kept[boxes[0]] = components == sizes.argmax()
    return kept


def components_of(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer], int]:
    """Return the number of each voxel's component (joined by faces), 0 outside, and how many."""
    import cc3d

    inside = mask if mask.ndim > 1 else mask[None]  # cc3d knows no single axis
    components, count = cc3d.connected_components(
        inside, connectivity=4 if inside.ndim == 2 else 6, return_N=True
    )
    return components.reshape(mask.shape), count

"""How much two label maps overlap.

Letters in shapes: K classes, S spatial axes (ZYX or YX).
"""

import numpy as np
from numpy.typing import NDArray

SLAB_VOXELS = 1 << 20
"""Voxels counted at once: keeps the wide integers of the count small beside any image."""


def count_overlap(
    prediction: NDArray[np.integer], reference: NDArray[np.integer], num_classes: int
) -> NDArray[np.int64]:
    """Return the (K, K) voxels of each reference class (rows) that were given each class (columns).

    Voxels with a negative reference are ignored.
    """
    counts = np.zeros(num_classes**2, np.int64)
    flat = prediction.reshape(-1), reference.reshape(-1)
    for start in range(0, reference.size, SLAB_VOXELS):
        predicted, truth = (labels[start : start + SLAB_VOXELS] for labels in flat)
        if truth.min() < 0:
            known = truth >= 0
            predicted, truth = predicted[known], truth[known]
        pairs = truth.astype(np.intp) * num_classes + predicted
        counts += np.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def dice(overlap: int, predicted: int, reference: int) -> float | None:
    """Return 2 |P and R| / (|P| + |R|); None where both are empty."""
    total = predicted + reference
    return 2 * overlap / total if total else None


def iou(overlap: int, predicted: int, reference: int) -> float | None:
    """Return |P and R| / |P or R|; None where both are empty."""
    union = predicted + reference - overlap
    return overlap / union if union else None

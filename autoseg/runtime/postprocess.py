"""Small corrections of finished label maps."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .recipe import KeepLargest


def apply_steps(labels: NDArray[np.integer], steps: Sequence[KeepLargest]) -> NDArray[np.integer]:
    """Apply `steps` in order to class indices (*S); the input stays as it is."""
    for step in steps:
        labels = _keep_largest(labels, step)
    return labels


def _keep_largest(labels: NDArray[np.integer], step: KeepLargest) -> NDArray[np.integer]:
    """Return the labels with only the largest face-connected component of the classes together."""
    from scipy import ndimage  # 0.2 s that most starts do not need

    mask = np.isin(labels, step.classes)
    boxes = ndimage.find_objects(mask.view(np.int8))
    if not boxes:
        return labels
    inside = boxes[0]
    components = np.empty(mask[inside].shape, dtype=np.int32)
    if ndimage.label(mask[inside], output=components) == 1:
        return labels
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    out = labels.copy()
    out[inside][mask[inside] & (components != sizes.argmax())] = 0
    return out

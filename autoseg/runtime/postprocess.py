"""Small corrections of finished label maps."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .recipe import KeepLargest, SmallestObject

ROUNDING = 1e-6
"""Sizes are divided by sizes of voxels: an object of just the size stays."""


def apply_steps(labels: NDArray[np.integer], steps: Sequence[KeepLargest]) -> NDArray[np.integer]:
    """Apply `steps` in order to class indices (*S); the input stays as it is."""
    for step in steps:
        labels = _keep_largest(labels, step)
    return labels


def remove_small(
    labels: NDArray[np.integer], smallest: Sequence[SmallestObject], voxel_size: float
) -> NDArray[np.integer]:
    """Remove objects that are too small from class indices (*S); the input stays as it is.

    Parameters
    ----------
    voxel_size
        Product of the image's spacings.
    """
    for item in smallest:
        labels = _remove_small(labels, item.class_index, item.size / voxel_size)
    return labels


def is_too_small(sizes: NDArray[np.integer], num_voxels: float) -> NDArray[np.bool_]:
    """Return which components of these sizes have fewer voxels."""
    return sizes < num_voxels * (1 - ROUNDING)


def _remove_small(
    labels: NDArray[np.integer], class_index: int, num_voxels: float
) -> NDArray[np.integer]:
    """Return the labels without face-connected components of fewer voxels of a class."""
    from scipy import ndimage

    mask = labels == class_index
    boxes = ndimage.find_objects(mask.view(np.int8))
    if not boxes:
        return labels
    inside = boxes[0]
    components = np.empty(mask[inside].shape, dtype=np.int32)
    ndimage.label(mask[inside], output=components)
    is_small = is_too_small(np.bincount(components.ravel()), num_voxels)
    is_small[0] = False
    if not is_small.any():
        return labels
    out = labels.copy()
    out[inside][is_small[components]] = 0
    return out


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

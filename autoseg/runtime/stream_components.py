"""Objects of label maps that lie in files: looked for slab by slab, without numbers for all voxels.

The components of a slab are those of `scipy.ndimage.label`; where two slabs meet, they are joined.
Letters in shapes: S axes of the image, R rows of a slab, N components of slabs.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .postprocess import is_too_small
from .recipe import KeepLargest, SmallestObject

SLAB_VOXELS = 1 << 22
"""Voxels that are numbered at once, in four bytes each."""

Mask = Callable[[NDArray[np.integer]], NDArray[np.bool_]]
"""Which voxels of labels are looked at."""


def correct_in_place(
    labels: NDArray[np.integer],
    largest: Sequence[KeepLargest],
    smallest: Sequence[SmallestObject],
    voxel_size: float,
    forget: Callable[[], None],
) -> None:
    """Do to class indices (*S) what `apply_steps` and then `remove_small` return.

    Parameters
    ----------
    voxel_size
        Product of the image's spacings.
    forget
        Called after each slab: takes the pages of the file out of memory.
    """
    for step in largest:
        classes = np.asarray(step.classes)
        mask: Mask = lambda part, classes=classes: np.isin(part, classes)  # noqa: E731
        found = find_components(labels, mask, forget)
        kept = np.zeros(len(found.sizes), bool)
        if len(kept):
            kept[found.sizes.argmax()] = True
        _clear(labels, mask, kept[found.numbers], forget)
    for item in smallest:
        index = item.class_index
        mask = lambda part, index=index: part == index  # noqa: E731
        found = find_components(labels, mask, forget)
        kept = ~is_too_small(found.sizes, item.size / voxel_size)
        _clear(labels, mask, kept[found.numbers], forget)


@dataclass(frozen=True)
class Components:
    """Face-connected components of a mask."""

    numbers: NDArray[np.integer]
    """(N,) component of each component of a slab, in the order of slabs; from 0."""
    sizes: NDArray[np.int64]
    """Voxels of each component."""


def find_components(
    labels: NDArray[np.integer], mask: Mask, forget: Callable[[], None]
) -> Components:
    """Return the components of a mask, numbered in the order of their first voxels."""
    from scipy import ndimage, sparse  # 0.2 s that most starts do not need

    sizes, pairs, total = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)], 0
    above: NDArray[np.int64] | None = None
    """Numbers of the last row of the slab before, 0 where nothing is."""
    for rows in _slabs(labels.shape):
        part = mask(labels[rows])
        numbers = np.empty(part.shape, np.int32)
        ndimage.label(part, output=numbers)
        count = int(numbers.max())
        sizes.append(np.bincount(numbers.ravel(), minlength=count + 1)[1:])
        if above is not None:
            touching = (above > 0) & (numbers[0] > 0)
            both = np.stack([above[touching] - 1, numbers[0][touching] - 1 + total], axis=1)
            pairs.append(np.unique(both, axis=0))
        above = np.where(numbers[-1] > 0, numbers[-1].astype(np.int64) + total, 0)
        total += count
        forget()
    edges = np.concatenate(pairs)
    graph = sparse.coo_array((np.ones(len(edges), bool), edges.T), shape=(total, total))
    if not total:
        return Components(np.zeros(0, np.int64), np.zeros(0, np.int64))
    count, joined = sparse.csgraph.connected_components(graph, directed=False)
    together = np.bincount(joined, weights=np.concatenate(sizes), minlength=count)
    return Components(joined, together.astype(np.int64))


def _clear(
    labels: NDArray[np.integer],
    mask: Mask,
    kept: NDArray[np.bool_],
    forget: Callable[[], None],
) -> None:
    """Set components that are not kept to background; `kept` (N,) in the order of slabs."""
    from scipy import ndimage

    if kept.all():
        return
    done = 0
    for rows in _slabs(labels.shape):
        part = labels[rows]
        numbers = np.empty(part.shape, np.int32)
        ndimage.label(mask(part), output=numbers)
        count = int(numbers.max())
        gone = np.concatenate([[False], ~kept[done : done + count]])
        if gone.any():
            part[gone[numbers]] = 0
        done += count
        forget()


def _slabs(shape: Sequence[int]) -> Iterator[slice]:
    depth = max(1, SLAB_VOXELS // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], depth):
        yield slice(start, min(start + depth, shape[0]))

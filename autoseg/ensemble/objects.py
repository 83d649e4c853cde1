"""The objects of predicted cases: counted once, so that what removes some of them is arithmetic.

Letters in shapes: K foreground classes, O objects of a class in a case, S image axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Objects:
    """The face-connected components of one class of a predicted case, in the order of voxels."""

    sizes: NDArray[np.int64]
    """(O,) voxels where the reference is known or not."""
    counted: NDArray[np.int64]
    """(O,) voxels where it is known."""
    overlap: NDArray[np.int64]
    """(O,) right voxels."""
    in_largest: NDArray[np.bool_]
    """(O,) whether it is part of the largest component of all foreground."""

    def part(self, which: NDArray[np.integer]) -> "Objects":
        """Return some of the objects."""
        return Objects(
            self.sizes[which], self.counted[which], self.overlap[which], self.in_largest[which]
        )

    def largest_of(self, stays: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return of some objects (O,) the largest alone, the first of equals."""
        if not stays.any():
            return stays
        return np.arange(len(stays)) == np.where(stays, self.sizes, 0).argmax()


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
    known: Sequence[bool],
    voxel_size: float,
) -> CaseObjects:
    """Return the objects of one case: class indices (*S), negative in the reference is ignored.

    Parameters
    ----------
    known
        Of each class, the background first, whether the reference tells where it is. The objects of
        others join what they touch, as they do when predicting, but do not count.
    """
    inside = prediction > 0
    classes, truth = prediction[inside], reference[inside]
    joined = _components(inside)[inside]
    in_largest = joined == (np.bincount(joined).argmax() if len(joined) else 0)
    numbers = _components(prediction)[inside].astype(np.intp) - 1
    count = int(numbers.max(initial=-1)) + 1
    owners = np.zeros(count, dtype=np.intp)
    owners[numbers] = classes

    def number(chosen: NDArray[np.bool_] | slice) -> NDArray[np.int64]:
        return np.bincount(numbers[chosen], minlength=count)

    table = Objects(
        sizes=number(slice(None)),
        counted=number(truth >= 0),
        overlap=number(truth == classes),
        in_largest=number(in_largest) > 0,
    )
    voxels = np.bincount(reference[reference > 0], minlength=len(known))[1 : len(known)]
    return CaseObjects(_by_class(table, owners, known), voxels, voxel_size)


def _by_class(
    table: Objects, owners: NDArray[np.intp], known: Sequence[bool]
) -> tuple[Objects, ...]:
    """Return the objects of each foreground class; none of those that nothing is known about."""
    order = np.argsort(owners, kind="stable")
    bounds = np.searchsorted(owners[order], np.arange(1, len(known) + 1))
    return tuple(
        table.part(order[start:stop] if is_known else order[:0])
        for is_known, (start, stop) in zip(known[1:], pairwise(bounds), strict=True)
    )


def _components(labels: NDArray) -> NDArray[np.integer]:
    """Return the number of each voxel's component (of one label, joined by faces), 0 outside.

    They are numbered in the order of their first voxels, as by `scipy.ndimage.label`.
    """
    import cc3d

    # In memory in the order of the axes, by which cc3d numbers; it knows no single axis.
    inside = np.ascontiguousarray(labels if labels.ndim > 1 else labels[None])
    connectivity = 4 if inside.ndim == 2 else 6
    return np.asarray(cc3d.connected_components(inside, connectivity=connectivity)).reshape(
        labels.shape
    )

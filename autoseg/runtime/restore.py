"""Back to the grid of the original image, slab by slab, without ever holding all classes of it.

Logits are interpolated linearly (a coarse axis by nearest neighbour) and compared on the output
grid; labels are never resampled. Letters in shapes: K classes, S axes of the image, S' of the
prepared array.
"""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .crop import box_slices
from .prepare import Placement
from .resample import GridChange, Lookup, Weighted

SLAB_VOXELS = 1 << 20
"""Output voxels worked on at once: a few arrays of 4 MiB."""
MAX_UINT8_CLASSES = 256

_Operators: TypeAlias = tuple[Weighted | Lookup, ...]


def restore_labels(
    logits: NDArray[np.float32], placement: Placement
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the winning class of each voxel of the image (*S); background outside the box."""
    dtype = np.uint8 if logits.shape[0] <= MAX_UINT8_CLASSES else np.uint16
    out, box = _canvas(placement, (), dtype)
    for rows, source, operators in _slabs(placement):
        best = _interpolate(logits[0, source], operators)
        winner = np.zeros(best.shape, dtype=dtype)
        for index in range(1, logits.shape[0]):
            values = _interpolate(logits[index, source], operators)
            wins = values > best
            winner[wins] = index
            best = np.maximum(best, values)
        box[rows] = winner
    return out


def restore_probabilities(logits: NDArray[np.float32], placement: Placement) -> NDArray[np.float16]:
    """Return the probability of each class (K, *S); certain background outside the box."""
    out, box = _canvas(placement, logits.shape[:1], np.float16)
    out[0] = 1
    for rows, source, operators in _slabs(placement):
        slab = np.stack([_interpolate(values[source], operators) for values in logits])
        slab -= slab.max(axis=0)
        np.exp(slab, out=slab)
        slab /= slab.sum(axis=0)
        box[:, rows] = slab
    return out


def _canvas(placement: Placement, leading: tuple[int, ...], dtype: type) -> tuple[NDArray, NDArray]:
    """Return zeros (*leading, *S), and the view of the box in them, in prepared order."""
    out = np.zeros((*leading, *placement.image_shape), dtype=dtype)
    skip = len(leading)
    order = (*range(skip), *(axis + skip for axis in placement.transpose))
    return out, out.transpose(order)[(slice(None),) * skip + box_slices(placement.box)]


def _slabs(placement: Placement) -> Iterator[tuple[slice, slice, _Operators]]:
    """Yield slabs of the box along its first axis: their rows, the input rows, the operators."""
    shape = placement.box_shape
    change = GridChange(placement.prepared_shape, shape, placement.coarse_axis)
    first, *others = change.operators(1)
    depth = max(1, SLAB_VOXELS // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], depth):
        stop = min(start + depth, shape[0])
        source, operator = first.part(start, stop)
        yield slice(start, stop), source, (operator, *others)


def _interpolate(values: NDArray[np.float32], operators: _Operators) -> NDArray[np.float32]:
    """Return one class of a slab on the output grid; the axes that grow least come first."""
    growth = [op.size / size for op, size in zip(operators, values.shape, strict=True)]
    for axis in sorted(range(values.ndim), key=growth.__getitem__):
        values = operators[axis].apply(values, axis)
    return values

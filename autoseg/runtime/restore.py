"""Back to the grid of the original image, slab by slab, without ever holding all classes of it.

Logits are interpolated linearly (a coarse axis by nearest neighbour) and compared on the output
grid; labels are never resampled. Letters in shapes: K classes, S axes of the image, S' of the
prepared array.
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .crop import box_slices
from .prepare import Placement
from .resample import GridChange, Lookup, Weighted

SLAB_VOXELS = 1 << 20
"""Output voxels worked on at once: a few arrays of 4 MiB."""
MAX_UINT8_CLASSES = 256

_Operators: TypeAlias = tuple[Weighted | Lookup, ...]

Decision: TypeAlias = Literal["largest", "regions"]
"""How logits become labels. `largest`: one output a class, the largest wins. `regions`: output i is
a region by itself, which overlaps others; where it is likelier than not, class i + 1 is painted,
over those of earlier regions."""


def restore_labels(
    logits: NDArray[np.float32], placement: Placement, decision: Decision = "largest"
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the winning class of each voxel of the image (*S); background outside the box."""
    num_classes = logits.shape[0] + (decision == "regions")
    dtype = np.uint8 if num_classes <= MAX_UINT8_CLASSES else np.uint16
    decide = _painted if decision == "regions" else _largest
    out, box = _canvas(placement, (), dtype)
    for rows, source, operators in _slabs(placement):
        maps = (_interpolate(values[source], operators) for values in logits)
        box[rows] = decide(maps, dtype, 0.0)
    return out


def decide_labels(chances: NDArray[np.floating], decision: Decision) -> NDArray[np.uint16]:
    """Return the winning class (*S) of probabilities (K, *S)."""
    return (_painted if decision == "regions" else _largest)(iter(chances), np.uint16, 0.5)


def _largest(maps: Iterator[NDArray], dtype: type, _: float) -> NDArray:
    """Return the index of the largest of the maps, of equal ones the first."""
    best = next(maps)
    winner = np.zeros(best.shape, dtype=dtype)
    for index, values in enumerate(maps, start=1):
        winner[values > best] = index
        best = np.maximum(best, values)
    return winner


def _painted(maps: Iterator[NDArray], dtype: type, threshold: float) -> NDArray:
    """Return the number, from 1, of the last of the maps that is above the threshold, or 0."""
    first = next(maps)
    winner = (first > threshold).astype(dtype)
    for number, values in enumerate(maps, start=2):
        winner[values > threshold] = number
    return winner


def restore_probabilities(
    logits: NDArray[np.float32], placement: Placement, decision: Decision = "largest"
) -> NDArray[np.float16]:
    """Return each output's probability (K, *S); certain background outside the box."""
    out, box = _canvas(placement, logits.shape[:1], np.float16)
    if decision == "largest":
        out[0] = 1
    for rows, source, operators in _slabs(placement):
        slab = np.stack([_interpolate(values[source], operators) for values in logits])
        box[:, rows] = probabilities(slab, decision)
    return out


def probabilities(logits: NDArray[np.float32], decision: Decision) -> NDArray[np.float32]:
    """Return the probabilities (K, ...) of logits (K, ...), in their place."""
    if decision == "regions":
        return np.divide(np.tanh(logits / 2, out=logits) + 1, 2, out=logits)  # no overflow
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits


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

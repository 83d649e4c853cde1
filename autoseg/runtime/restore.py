"""Back to the grid of the original image, slab by slab, without ever holding all classes of it.

Logits are interpolated linearly (a coarse axis by nearest neighbour) and compared on the output
grid; labels are never resampled. Letters in shapes: K classes, S axes of the image, S' of the
prepared array.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .blend import Rows
from .crop import box_slices
from .prepare import Placement
from .scratch import IN_MEMORY, Scratch
from .slabs import box_slabs

SLAB_VOXELS = 1 << 20
"""Output voxels worked on at once: a few arrays of 4 MiB."""
CHANCES = 1 << 22
"""Probabilities worked on at once, of all classes: a few arrays of 16 MiB."""
MAX_UINT8_CLASSES = 256

Decision: TypeAlias = Literal["largest", "regions"]
"""How logits become labels. `largest`: one output a class, the largest wins. `regions`: output i is
a region by itself, which overlaps others; where it is likelier than not, class i + 1 is painted,
over those of earlier regions."""


def restore_labels(
    logits: NDArray[np.float32],
    placement: Placement,
    decision: Decision = "largest",
    offsets: Sequence[float] = (),
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the winning class of each voxel of the image (*S); background outside the box.

    `offsets`, one an output or none at all, are added to the logits before they are compared.
    """
    return restore_rows([Rows(0, logits)], placement, decision, offsets)[0]


def restore_rows(
    stream: Iterable[Rows],
    placement: Placement,
    decision: Decision = "largest",
    offsets: Sequence[float] = (),
    *,
    scratch: Scratch = IN_MEMORY,
    probabilities: bool = False,
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], NDArray[np.float16] | None]:
    """Return labels as `restore_labels`, and `restore_probabilities` if asked for, else None.

    The logits come row by row, and none are held that are done with.
    """
    count, stream = _peek(stream)
    dtype = _index_type(count, decision)
    decide = _painted if decision == "regions" else _largest
    labels: NDArray = np.zeros(placement.image_shape, dtype=dtype)
    box = box_of(labels, placement)
    if not probabilities:
        slabs = decide_slabs(stream, placement, dtype, decision, offsets, scratch=scratch)
        for place, values in slabs:
            box[place] = values
        return labels, None
    out = _certain_background(count, placement, np.float16, decision, scratch)
    inside = box_of(out, placement)
    for place, maps in box_slabs(stream, placement, CHANCES // count, scratch):
        logits = np.stack(list(maps))
        box[place] = decide(_shifted(iter(logits), offsets), dtype, 0.0)
        inside[:, *place] = to_probabilities(logits, decision)
        scratch.forget()
    return labels, out


def decide_slabs(
    stream: Iterable[Rows],
    placement: Placement,
    dtype: type,
    decision: Decision = "largest",
    offsets: Sequence[float] = (),
    *,
    scratch: Scratch = IN_MEMORY,
) -> Iterator[tuple[tuple[slice, ...], NDArray]]:
    """Yield slabs of the box, in prepared order: their places, and the winning classes in them."""
    decide = _painted if decision == "regions" else _largest
    for place, maps in box_slabs(stream, placement, SLAB_VOXELS, scratch):
        yield place, decide(_shifted(maps, offsets), dtype, 0.0)


def add_probabilities(
    total: NDArray[np.float32] | None,
    stream: Iterable[Rows],
    placement: Placement,
    decision: Decision,
    *,
    weight: float,
    labels: NDArray[np.integer] | None = None,
    scratch: Scratch = IN_MEMORY,
) -> NDArray[np.float32]:
    """Return the sum (K, *S) of weighted probabilities with one more configuration's.

    `total` is changed; None: there is none yet. The weights sum to 1 in the end. `labels` (*S),
    background so far, get the class that is largest here by itself.
    """
    count, stream = _peek(stream)
    if total is None:
        total = _certain_background(count, placement, np.float32, decision, scratch)
    box = box_of(total, placement)
    found = None if labels is None else box_of(labels, placement)
    for place, maps in box_slabs(stream, placement, CHANCES // count, scratch):
        logits = np.stack(list(maps))
        if found is not None:
            found[place] = _largest(iter(logits), found.dtype.type, 0.0)
        values = to_probabilities(logits, decision)
        values *= np.float32(weight)
        box[:, *place] += values
        scratch.forget()
    return total


def _peek(stream: Iterable[Rows]) -> tuple[int, Iterator[Rows]]:
    """Return the number of classes, and the stream as it was."""
    rest = iter(stream)
    first = next(rest)
    return len(first.values), itertools.chain([first], rest)


def _shifted(maps: Iterator[NDArray], offsets: Sequence[float]) -> Iterator[NDArray]:
    if not offsets:
        return maps
    return (values + np.float32(by) for values, by in zip(maps, offsets, strict=True))


def decide_labels(
    chances: NDArray[np.floating],
    decision: Decision,
    offsets: Sequence[float] = (),
    *,
    scratch: Scratch = IN_MEMORY,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the winning class (*S) of probabilities (K, *S), as `restore_labels` of logits.

    The probabilities lie in `scratch`.
    """
    out: NDArray = np.empty(chances.shape[1:], dtype=_index_type(len(chances), decision))
    for rows in slab_rows(out.shape):
        out[rows] = _decide(iter(chances[:, rows]), out.dtype.type, decision, offsets)
        scratch.forget()
    return out


def slab_rows(shape: Sequence[int]) -> Iterator[slice]:
    """Yield the parts along the first axis that (*S) is worked on in."""
    depth = max(1, SLAB_VOXELS // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], depth):
        yield slice(start, min(start + depth, shape[0]))


def _index_type(num_outputs: int, decision: Decision) -> type:
    """Return the type of class indices."""
    return np.uint8 if num_outputs + (decision == "regions") <= MAX_UINT8_CLASSES else np.uint16


def _decide(
    maps: Iterator[NDArray], dtype: type, decision: Decision, offsets: Sequence[float]
) -> NDArray:
    shifts = np.asarray(offsets, dtype=np.float32)
    if decision == "regions":
        if offsets:  # a logit of at least -b is a probability of at least 1 / (1 + exp(b))
            rises = 1 / (1 + np.exp(-shifts)) - np.float32(0.5)
            maps = (values + by for values, by in zip(maps, rises, strict=True))
        return _painted(maps, dtype, 0.5)
    if offsets:
        maps = (values * by for values, by in zip(maps, np.exp(shifts), strict=True))
    return _largest(maps, dtype, 0.0)


def _largest(maps: Iterator[NDArray], dtype: type, _: float) -> NDArray:
    """Return the index of the largest of the maps, of equal ones the first."""
    best = np.array(next(maps))
    winner = np.zeros(best.shape, dtype=dtype)
    for index, values in enumerate(maps, start=1):
        np.copyto(winner, index, where=values > best)
        np.maximum(best, values, out=best)
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
    _, chances = restore_rows([Rows(0, logits)], placement, decision, probabilities=True)
    assert chances is not None  # asked for
    return chances


def to_probabilities(logits: NDArray[np.float32], decision: Decision) -> NDArray[np.float32]:
    """Return the probabilities (K, ...) of logits (K, ...), in their place."""
    if decision == "regions":
        return np.divide(np.tanh(logits / 2, out=logits) + 1, 2, out=logits)  # no overflow
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits


def _certain_background(
    count: int, placement: Placement, dtype: type, decision: Decision, scratch: Scratch
) -> NDArray:
    """Return probabilities (K, *S), 0 but for the background's, if it has one: 1 around the box."""
    out = scratch.zeros((count, *placement.image_shape), dtype)
    if decision == "largest":
        background = out[0].transpose(placement.transpose)
        for axis, (start, stop) in enumerate(placement.box):
            for part in (slice(None, start), slice(stop, None)):
                background[(*(slice(None),) * axis, part)] = 1
                scratch.forget()
    return out


def box_of(array: NDArray, placement: Placement) -> NDArray:
    """Return a view of the box in (*S) or (K, *S), its axes in prepared order."""
    skip = array.ndim - len(placement.image_shape)
    order = (*range(skip), *(axis + skip for axis in placement.transpose))
    return array.transpose(order)[(slice(None),) * skip + box_slices(placement.box)]

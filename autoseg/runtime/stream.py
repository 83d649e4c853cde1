"""Images that need not fit into memory: predicted row by row, from file to file.

Letters in shapes: K classes, R rows of the first axis, S axes of the image.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .governor import Governor
from .manifest import Manifest
from .model import Effort, Model, Passes, values_table
from .prepare import Placement, Prepared
from .restore import MAX_UINT8_CLASSES, box_of, decide_labels, decide_slabs, slab_rows
from .stream_components import correct_in_place

Slab: TypeAlias = tuple[tuple[slice, ...], NDArray]
"""Where it lies in the box, in prepared order, and its classes."""


def label_rows(
    model: Model, parts: list[Prepared], effort: Effort, governor: Governor
) -> Iterator[NDArray[np.integer]]:
    """Yield the labels (R, *S[1:]) of an image in the user's values, from first row to last.

    They are given out as they are finished, except where something has to see all of them first:
    post-processing, and another order of axes. Then they wait in a file.

    Parameters
    ----------
    parts
        The image as `stream_prepare.open_parts` returned it; emptied on the way.
    """
    manifest, placement, voxel_size = model.manifest, parts[0].placement, parts[0].voxel_size
    rows = _class_rows(Passes(model, parts, effort, governor), parts, manifest, governor)
    if manifest.postprocessing or manifest.smallest:
        labels = governor.in_file(placement.image_shape, class_type(manifest))
        done = 0
        for part in rows:
            labels[done : done + len(part)] = part
            done += len(part)
            governor.forget()
        correct_in_place(
            labels, manifest.postprocessing, manifest.smallest, voxel_size, governor.forget
        )
        rows = _read(labels, governor)
    table = values_table(manifest.labels.values)
    for part in rows:
        yield table[part]


def class_type(manifest: Manifest) -> type:
    """Return the type of numbers of classes."""
    return np.uint8 if len(manifest.labels.values) <= MAX_UINT8_CLASSES else np.uint16


def _class_rows(
    passes: Passes, parts: Sequence[Prepared], manifest: Manifest, governor: Governor
) -> Iterator[NDArray]:
    """Yield the classes (R, *S[1:]) that all configurations together decide for, row by row."""
    decision, offsets, dtype = (
        manifest.configurations[0].decision,
        manifest.offsets,
        class_type(manifest),
    )
    *others, _ = manifest.configurations
    if any(item.weight for item in others):
        total = passes.combine()
        for rows in slab_rows(total.shape[1:]):
            yield decide_labels(total[:, rows], decision, offsets)
            governor.forget()
        return
    for _ in others:
        passes.find(governor.in_file(parts[0].placement.image_shape, dtype))
    placement = parts[0].placement
    slabs = decide_slabs(passes.rows(), placement, dtype, decision, offsets, scratch=governor)
    if placement.transpose[0] == 0:
        yield from _in_order(slabs, placement, dtype)
        return
    labels = governor.in_file(placement.image_shape, dtype)
    box = box_of(labels, placement)
    for place, classes in slabs:
        box[place] = classes
        governor.forget()
    yield from _read(labels, governor)


def _in_order(slabs: Iterable[Slab], placement: Placement, dtype: type) -> Iterator[NDArray]:
    """Yield rows of an image from slabs of its box, whose first axis is the image's."""
    shape, done = placement.image_shape, 0
    (start, _), *others = placement.box
    inside = tuple(slice(low, high) for low, high in others)
    order = np.argsort(placement.transpose)
    for place, classes in slabs:
        yield from _empty(shape, done, start + place[0].start, dtype)
        turned = np.zeros((len(classes), *(shape[axis] for axis in placement.transpose[1:])), dtype)
        turned[(slice(None), *inside)] = classes
        yield turned.transpose(order)
        done = start + place[0].stop
    yield from _empty(shape, done, shape[0], dtype)


def _empty(shape: Sequence[int], start: int, stop: int, dtype: type) -> Iterator[NDArray]:
    """Yield background for these rows."""
    for rows in slab_rows((stop - start, *shape[1:])):
        yield np.zeros((rows.stop - rows.start, *shape[1:]), dtype)


def _read(labels: NDArray, governor: Governor) -> Iterator[NDArray]:
    for rows in slab_rows(labels.shape):
        yield labels[rows]
        governor.forget()

"""Random changes to the labels that a previous stage found: a second stage must not trust them.

nnU-Net's: borders are moved by a morphological operation with a ball, small parts are lost.
Applied before the patch is turned or scaled, so that both happen in one reading.

Letters in shapes: S axes of the source box.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from autoseg.plan.plan import AugmentationPlan
from autoseg.runtime.resample import IGNORE

CLASS_PROBABILITY = 0.5
"""That a class is changed in a patch whose labels are: nnU-Net's."""
Mask = NDArray[np.bool_]


class LabelChange(Protocol):
    """A drawn change to labels of a previous stage."""

    def apply(self, labels: NDArray) -> None:
        """Change class indices (*S) in place."""
        ...


@final
@dataclass(frozen=True)
class BallChange:
    """One class is dilated, eroded, opened or closed; the others give way.

    Voxels outside the image, which are `IGNORE`, stay: there, prediction never sees a class.
    """

    class_index: int
    operation: str
    """A name in `OPERATIONS`."""
    radius: int
    """Of the ball, voxels."""

    def apply(self, labels: NDArray) -> None:
        """Change class indices (*S) in place."""
        box = _box(labels == self.class_index, self.radius + 1)
        if box is None:
            return
        part = labels[box]
        before = part == self.class_index
        after = OPERATIONS[self.operation](before, self.radius)
        part[before & ~after] = 0
        part[after & (part != IGNORE)] = self.class_index


@final
@dataclass(frozen=True)
class PartRemoval:
    """One of the small connected parts of a class becomes background."""

    class_index: int
    limit: float
    """Part of the source box that it is smaller than."""
    place: float
    """From 0 to 1, where it stands among the small ones."""

    def apply(self, labels: NDArray) -> None:
        """Change class indices (*S) in place."""
        import cc3d

        box = _box(labels == self.class_index, 0)
        if box is None:
            return
        part = labels[box]
        mask = np.atleast_2d(part == self.class_index)  # cc3d knows no single axis
        parts = np.asarray(cc3d.connected_components(mask)).reshape(part.shape)
        sizes = np.bincount(parts.reshape(-1))[1:]
        small = np.flatnonzero(sizes < self.limit * labels.size) + 1
        if len(small):
            part[parts == small[int(self.place * len(small))]] = 0


def dilated(mask: Mask, radius: int) -> Mask:
    """Return the voxels (*S) within `radius` of a mask that is not empty."""
    import edt

    return edt.edt(np.ascontiguousarray(~mask)) <= radius


def eroded(mask: Mask, radius: int) -> Mask:
    """Return the voxels (*S) of a mask farther than `radius` from the others; the border is none.

    A mask without others stays.
    """
    import edt

    return mask if mask.all() else edt.edt(np.ascontiguousarray(mask)) > radius


def opened(mask: Mask, radius: int) -> Mask:
    """Return a mask (*S) without what a ball does not fit into."""
    core = eroded(mask, radius)
    return dilated(core, radius) if core.any() else core


def closed(mask: Mask, radius: int) -> Mask:
    """Return a mask (*S) with the gaps that a ball does not fit into."""
    return eroded(dilated(mask, radius), radius)


OPERATIONS: MappingProxyType[str, Callable[[Mask, int], Mask]] = MappingProxyType(
    {"dilation": dilated, "erosion": eroded, "opening": opened, "closing": closed}
)
"""By name, in the order in which they are drawn."""


def draw_label_changes(
    rng: np.random.Generator, plan: AugmentationPlan, num_classes: int
) -> tuple[LabelChange, ...]:
    """Draw what happens to the labels of a previous stage, in the order in which it is applied.

    Nothing is drawn for a change that the plan leaves out.
    """
    changes: list[LabelChange] = []
    if plan.previous_change_probability > 0 and rng.random() < plan.previous_change_probability:
        names, (low, high) = list(OPERATIONS), plan.previous_radius
        for index in _drawn_classes(rng, num_classes):
            name, radius = names[rng.integers(len(names))], int(rng.integers(low, high + 1))
            changes.append(BallChange(index, name, radius))
    if plan.previous_removal_probability > 0 and rng.random() < plan.previous_removal_probability:
        for index in _drawn_classes(rng, num_classes):
            changes.append(PartRemoval(index, plan.previous_removal_limit, rng.random()))
    return tuple(changes)


def _drawn_classes(rng: np.random.Generator, num_classes: int) -> list[int]:
    """Draw the classes that are changed, in any order: where two meet, the last one wins."""
    order = 1 + rng.permutation(num_classes - 1)
    return [int(index) for index in order if rng.random() < CLASS_PROBABILITY]


def _box(mask: Mask, margin: int) -> tuple[slice, ...] | None:
    """Return the range of a mask (*S) on each axis, with a margin; None if it is empty."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        places = np.flatnonzero(mask.any(axis=others))
        if not len(places):
            return None
        box.append(slice(max(0, int(places[0]) - margin), int(places[-1]) + 1 + margin))
    return tuple(box)

"""Changes that take voxels of another case's patch: CutMix and pasted objects.

Letters in shapes: C channels, P axes of the patch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from autoseg.plan.plan import AugmentationPlan


@final
@dataclass(frozen=True)
class Donor:
    """A patch of another case, unchanged."""

    image: NDArray[np.float32]
    """(C, *P)."""
    labels: NDArray
    """(*P), or (2, *P) with what a previous stage found."""

    @property
    def truth(self) -> NDArray:
        """The labels (*P) alone."""
        return self.labels if self.labels.ndim < self.image.ndim else self.labels[0]


@final
@dataclass(frozen=True)
class Piece:
    """What a patch takes of a donor, image and labels of the same voxels."""

    box: tuple[slice, ...]
    """Where it lies in the patch."""
    image: NDArray[np.float32]
    """(C, *box)."""
    labels: NDArray
    """(*box), or (2, *box)."""
    mask: NDArray[np.bool_] | None = None
    """(*box), the voxels that are taken; None: all."""

    def paste(self, image: NDArray[np.float32], labels: NDArray) -> None:
        """Change an image (C, *P) and its labels (*P) or (2, *P) in place."""
        where = True if self.mask is None else self.mask
        np.copyto(image[(..., *self.box)], self.image, where=where)
        np.copyto(labels[(..., *self.box)], self.labels, where=where)


class Mix(Protocol):
    """A drawn change that needs a donor."""

    @property
    def wanted(self) -> tuple[int, ...] | None:
        """Classes of which the donor shows one; None: any place will do."""
        ...

    def cut(self, donor: Donor) -> Piece:
        """Return what a patch takes of a donor."""
        ...


@final
@dataclass(frozen=True)
class CutMix:
    """A box of the donor replaces that of the patch (Yun et al., 2019), labels along with it."""

    box: tuple[tuple[int, int], ...]
    """Half-open range of voxels on each axis."""
    wanted: None = None

    def cut(self, donor: Donor) -> Piece:
        """Return what a patch takes of a donor."""
        box = tuple(slice(low, high) for low, high in self.box)
        return Piece(box, donor.image[(..., *box)], donor.labels[(..., *box)])


@final
@dataclass(frozen=True)
class CopyPaste:
    """One whole object of the donor covers what the patch shows (Ghiasi et al., 2021)."""

    wanted: tuple[int, ...]

    def cut(self, donor: Donor) -> Piece:
        """Return what a patch takes of a donor."""
        mask = nearest_object(donor.truth, self.wanted)
        box = tuple(slice(0, n) for n in mask.shape)
        return Piece(box, donor.image, donor.labels, mask)


def nearest_object(labels: NDArray, wanted: Sequence[int]) -> NDArray[np.bool_]:
    """Return the mask (*P) of the object of one of the `wanted` classes nearest to the middle.

    An object is a connected part of one class; a donor is cut around it. Empty if there is none.
    """
    from scipy import ndimage

    places = np.argwhere(np.isin(labels, wanted))
    if not len(places):
        return np.zeros(labels.shape, np.bool_)
    middle = (np.array(labels.shape) - 1) / 2
    seed = tuple(places[((places - middle) ** 2).sum(axis=1).argmin()])
    parts, _ = ndimage.label(labels == labels[seed])  # pyright: ignore[reportGeneralTypeIssues]
    return parts == parts[seed]


def draw_mixes(
    rng: np.random.Generator, plan: AugmentationPlan, patch_size: Sequence[int], num_classes: int
) -> tuple[Mix, ...]:
    """Draw what a patch takes from other cases, in the order in which it is applied.

    Nothing is drawn for an effect that the plan leaves out: its absence changes no other draw.
    """
    mixes: list[Mix] = []
    if plan.cutmix_probability > 0 and rng.random() < plan.cutmix_probability:
        mixes.append(_draw_cutmix(rng, plan, patch_size))
    if plan.copy_paste_probability > 0 and rng.random() < plan.copy_paste_probability:
        classes = plan.copy_paste_classes or tuple(range(1, num_classes))
        mixes.append(CopyPaste(tuple(int(c) for c in rng.permutation(classes))))
    return tuple(mixes)


def _draw_cutmix(
    rng: np.random.Generator, plan: AugmentationPlan, patch_size: Sequence[int]
) -> CutMix:
    """Draw a box of the patch's proportions that lies inside it."""
    edge = rng.uniform(*plan.cutmix_fraction) ** (1 / len(patch_size))
    sizes = [max(1, round(edge * n)) for n in patch_size]
    starts = [int(rng.integers(n - size + 1)) for n, size in zip(patch_size, sizes, strict=True)]
    return CutMix(tuple((s, s + size) for s, size in zip(starts, sizes, strict=True)))

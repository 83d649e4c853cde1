"""All random changes of one training patch: drawn once, before anything is read, then applied.

Labels may come with what the previous stage of a cascade found: (2, *S), the labels first. Both are
moved alike.

Letters in shapes: C channels, S axes of the source box, P axes of the patch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from autoseg.augment.channels import draw_missing
from autoseg.augment.intensity import Transform, draw_intensity
from autoseg.augment.mixing import Donor, Mix, draw_mixes
from autoseg.augment.previous import LabelChange, draw_label_changes
from autoseg.augment.sides import SideMirror, draw_side_mirrors
from autoseg.augment.spatial import Box, Warp, draw_warp
from autoseg.plan.plan import AugmentationPlan


@final
@dataclass(frozen=True)
class Augmentation:
    """What happens to one patch; applying it twice gives the same patch twice."""

    warp: Warp
    transforms: tuple[Transform, ...]
    mirrored: tuple[int, ...]
    """Axes of the patch that are reversed at the end."""
    mixes: tuple[Mix, ...] = ()
    """What comes from other cases, after the warp and before the intensities."""
    sides: tuple[SideMirror, ...] = ()
    """Axes that are reversed at the end, too, and the classes that this swaps."""
    missing: tuple[int, ...] = ()
    """Channels that are NaN at the end: absent."""
    previous: tuple[LabelChange, ...] = ()
    """What happens before all else to the labels of a previous stage."""

    @property
    def mirrored_axes(self) -> tuple[int, ...]:
        """All axes that are reversed at the end."""
        return (*self.mirrored, *(side.axis for side in self.sides))

    def source_box(self, start: Sequence[int], patch_size: Sequence[int]) -> Box:
        """Return the box of the image that the patch reads which begins at `start` unchanged."""
        return self.warp.source_box(start, patch_size)

    def apply(
        self,
        image: NDArray[np.float32],
        labels: NDArray,
        patch_size: Sequence[int],
        *,
        masked_channels: Sequence[int] = (),
        donors: Sequence[Donor | None] = (),
    ) -> tuple[NDArray[np.float32], NDArray]:
        """Return the image (C, *P) and the labels (*P) of the patch, mirrored views included.

        Of labels (2, *S) all become labels (2, *P).

        Parameters
        ----------
        image, labels
            (C, *S) and (*S) or (2, *S), contiguous, of the source box. May be changed.
        patch_size
            (*P).
        masked_channels
            Channels in which zero means outside the image's nonzero region, and stays zero.
        donors
            One for each of `mixes`; None leaves it out: no other case has what it wants.
        """
        self.change_previous(labels)
        image, labels = self.warp.apply(image, labels, patch_size)
        for mix, donor in zip(self.mixes, donors, strict=True):
            if donor is not None:
                mix.cut(donor).paste(image, labels)
        outside = [(image[c], image[c] == 0) for c in masked_channels if self.transforms]
        for transform in self.transforms:
            transform.apply(image)
        for channel, is_outside in outside:
            channel[is_outside] = 0
        image[list(self.missing)] = np.nan
        for side in self.sides:
            side.swap(labels)
        flipped = tuple(axis - len(patch_size) for axis in self.mirrored_axes)
        return np.flip(image, flipped), np.flip(labels, flipped)

    def change_previous(self, labels: NDArray) -> None:
        """Change what a previous stage found, the second of labels (2, *S), in place."""
        for change in self.previous:
            change.apply(labels[1])


@final
@dataclass(frozen=True)
class Sample:
    """One sample of a batch, drawn and read but not yet changed."""

    augmentation: Augmentation
    image: NDArray[np.float32]
    """(C, *S)."""
    labels: NDArray
    """(*S), or (2, *S) with what a previous stage found."""
    donors: tuple[Donor | None, ...] = ()
    """One for each of the augmentation's `mixes`."""


def draw_augmentation(
    rng: np.random.Generator,
    plan: AugmentationPlan,
    shape: Sequence[int],
    *,
    mirror_axes: Sequence[int],
    num_classes: int = 1,
) -> Augmentation:
    """Draw the changes of one patch of `shape` (C, *P).

    Parameters
    ----------
    rng, plan, shape
        What to draw from, what, for which patch.
    mirror_axes
        Axes along which mirrored patches are as plausible.
    num_classes
        The background included; objects of the others may be pasted, and labels of a previous stage
        changed.
    """
    return Augmentation(
        warp=draw_warp(rng, plan, shape[1:]),
        transforms=draw_intensity(rng, plan, shape),
        mirrored=tuple(axis for axis in mirror_axes if rng.random() < plan.mirror_probability),
        mixes=draw_mixes(rng, plan, shape[1:], num_classes),
        sides=draw_side_mirrors(rng, plan),
        missing=draw_missing(rng, plan, shape[0]),
        previous=draw_label_changes(rng, plan, num_classes),
    )

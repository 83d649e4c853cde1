"""Mirroring that knows left from right: the classes that it swaps are swapped back."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from autoseg.plan.plan import AugmentationPlan


@final
@dataclass(frozen=True)
class SideMirror:
    """An axis that is reversed, with the pairs of classes that change places."""

    axis: int
    pairs: tuple[tuple[int, int], ...]

    def swap(self, labels: NDArray) -> None:
        """Give the voxels of each class the other class of its pair, in place."""
        before = labels.copy()
        for first, second in self.pairs:
            labels[before == first] = second
            labels[before == second] = first


def draw_side_mirrors(rng: np.random.Generator, plan: AugmentationPlan) -> tuple[SideMirror, ...]:
    """Draw along which axes with paired classes a patch is mirrored.

    Nothing is drawn where the plan leaves it out.
    """
    if plan.side_mirror_probability <= 0:
        return ()
    return tuple(
        SideMirror(
            axis, tuple((pair.first, pair.second) for pair in plan.side_pairs if pair.axis == axis)
        )
        for axis in sorted({pair.axis for pair in plan.side_pairs})
        if rng.random() < plan.side_mirror_probability
    )

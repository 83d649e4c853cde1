"""An image in memory and where its voxels are.

Letters in shapes: C channels, S spatial axes (ZYX, YX, or X for signals).
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Unit: TypeAlias = Literal["mm", "pixel", "s"]
"""Of spacings: "s" (seconds) for signals, "pixel" where a file does not tell."""
AXIS_CODES = (("L", "R"), ("P", "A"), ("S", "I"))
"""Where a world axis points when its index grows, and when it shrinks (ITK's convention, LPS)."""


@dataclass(frozen=True)
class Geometry:
    """Where voxels are in space; origin and direction are carried through, never used."""

    spacing: tuple[float, ...]
    """Distance of voxel centres along ZYX (2D: YX; signals: X), in `unit`."""
    origin: tuple[float, ...] = ()
    """Position of the first voxel in ITK's order (XYZ); empty where the format has none."""
    direction: tuple[float, ...] = ()
    """Direction cosines in ITK's order, row by row; empty where the format has none."""
    unit: Unit = "mm"

    @property
    def orientation(self) -> str | None:
        """Anatomical codes of the axes in ITK's order, e.g. "LPS"; None for pictures and 2D."""
        if len(self.direction) != 9:
            return None
        cosines = np.asarray(self.direction).reshape(3, 3)
        world = [int(axis) for axis in np.abs(cosines).argmax(axis=0)]
        return "".join(
            AXIS_CODES[axis][int(cosines[axis, index] < 0)] for index, axis in enumerate(world)
        )


@dataclass(frozen=True)
class Extent:
    """How large an image is, as its file's header tells."""

    num_channels: int
    shape: tuple[int, ...]
    """Spatial axes, voxels."""
    spacing: tuple[float, ...]
    unit: Unit = "mm"
    """Of the spacing."""
    voxel_bytes: int = field(default=4, compare=False)
    """Of a number in memory, as far as the header tells."""


@dataclass(frozen=True)
class Image:
    """Voxels (C, *S) in the type of the file, with their geometry."""

    array: NDArray
    geometry: Geometry

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the spatial axes, voxels."""
        return self.array.shape[1:]

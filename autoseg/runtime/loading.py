"""How a case's image gets to the networks: read at once, or row by row as it is predicted."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .big_pictures import ENDINGS
from .cases import InputCase
from .errors import AutosegError
from .governor import Memory
from .images import Image, is_store, read_extent, read_image
from .memory import Demand
from .model import Effort, Model
from .prepare import Prepared
from .stream_files import Stores, can_write_rows, open_case
from .stream_memory import expected_stream
from .stream_prepare import Levels, can_stream, open_parts

STREAM_VALUES = 1 << 27
"""Images of more numbers are not read at once, where they need not be: 0.5 GB in single precision.
Smaller ones take little memory, and no longer than row by row."""


@dataclass(frozen=True)
class Source:
    """A case's image before its voxels are read."""

    case: InputCase
    demand: Demand | None = None
    """What it takes, as far as its header told."""
    levels: Levels = ()
    """Where it is read box by box; empty where it is a file that is read at once."""
    streams: bool = False
    """Whether it is predicted row by row."""
    error: AutosegError | None = None
    """Why it cannot be read."""


@dataclass(frozen=True)
class Loader:
    """Looks at images and reads them.

    Parameters
    ----------
    rows
        Whether images may be predicted row by row: not where probabilities are asked for.
    missing
        Channels that are absent.
    """

    model: Model
    memory: Memory
    effort: Effort
    stores: Stores
    rows: bool
    missing: tuple[int, ...]

    def look(self, case: InputCase, target: Path) -> Source:
        """Return what is known of a case's image beforehand; `target` gets its labels."""
        demand = self.memory.demand(case.paths)
        try:
            levels = open_case(case.paths, self.stores) if self._opens(case, demand) else ()
        except AutosegError as error:
            return Source(case, error=error)
        if not levels:
            return Source(case, demand)
        image = levels[0]
        may = self.rows and not self.missing and can_write_rows(target)
        if may and can_stream(image, self.model.manifest):
            expected = expected_stream(self.model.manifest, levels, self.effort)
            return Source(case, expected, levels, streams=True)
        if not any(map(is_store, case.paths)):
            return Source(case, demand)
        if len(image.shape) == self.model.manifest.dimensions:
            demand = self.memory.expect(image.shape, image.geometry.spacing, image.dtype.itemsize)
        return Source(case, demand, levels)

    def _opens(self, case: InputCase, demand: Demand | None) -> bool:
        """Return whether the image is to be read box by box if that can be."""
        if any(map(is_store, case.paths)):
            return True
        if demand is None or not all(path.name.lower().endswith(ENDINGS) for path in case.paths):
            return False
        extent = read_extent(case.paths)
        is_big = math.prod(extent.shape) * extent.num_channels > STREAM_VALUES
        return is_big or not self.memory.fits(demand)

    def load(self, source: Source) -> tuple[Image, list[Prepared]]:
        """Return a case's image, without its voxels, and what the configurations take.

        Raises
        ------
        AutosegError
            It cannot be read, is not what the model takes, or does not fit into memory.
        """
        if source.error is not None:
            raise source.error
        if source.demand is not None:
            self.memory.refuse(source.demand)
        image = self._voxels(source)
        try:
            if source.streams:
                parts = open_parts(source.levels, self.model.manifest)
            else:
                parts = self.model.prepare(image, self.missing)
        except AutosegError as error:
            if any(str(path) in error.found for path in source.case.paths):
                raise
            names = ", ".join(str(path) for path in source.case.paths)
            found = f"{names}: {error.found}"
            raise AutosegError(found=found, expected=error.expected, fix=error.fix) from None
        # A new array: a view would keep the voxels.
        return replace(image, array=image.array[:0].copy()), parts

    def _voxels(self, source: Source) -> Image:
        """Return the image, of one that is read row by row an empty one."""
        if not source.levels:
            return read_image(source.case.paths)
        image = source.levels[0]
        if source.streams:
            return Image(np.empty((0, *image.shape), image.dtype), image.geometry)
        return Image(image.read(tuple((0, size) for size in image.shape)), image.geometry)

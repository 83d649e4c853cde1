"""Images whose voxels stay in their files, and labels that are written row by row.

Letters in shapes: S spatial axes of the image, R rows of the first.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .big_pictures import open_levels
from .images import is_store, refuse_store, require_same_grid
from .stream_prepare import Levels
from .tiff_write import LabelTiff
from .voxels import join_channels

TIFF_ENDINGS = (".tif", ".tiff")
WAITING_BYTES = 1 << 26
"""Labels that wait for the rest of a store's chunks, where a row is not more."""


class LabelSink(Protocol):
    """Takes labels from the first row to the last."""

    def add(self, rows: NDArray[np.integer]) -> None:
        """Write the next rows (R, *S[1:])."""
        ...


class Stores(Protocol):
    """Reads and writes folders that are one image (see `images.STORE_FORMATS`)."""

    def open(self, path: Path) -> Levels:
        """Return an image and its smaller copies, from fine to coarse."""
        ...

    def create(
        self, path: Path, shape: Sequence[int], dtype: np.dtype, image: Path
    ) -> AbstractContextManager[LabelSink]:
        """Return labels (*S) to be written, which appear at `path` in the end.

        Axes, spacing and chunks are those of `image`.
        """
        ...


class NoStores:
    """An artifact by itself, which has no package for such folders."""

    def open(self, path: Path) -> Levels:
        """Refuse."""
        refuse_store(path)

    def create(
        self,
        path: Path,
        shape: Sequence[int],  # noqa: ARG002 (of the protocol)
        dtype: np.dtype,  # noqa: ARG002
        image: Path,  # noqa: ARG002
    ) -> AbstractContextManager[LabelSink]:
        """Refuse."""
        refuse_store(path)


def open_case(paths: Sequence[Path], stores: Stores) -> Levels:
    """Return the image in these files, one a channel, read box by box; empty where it cannot be.

    Raises
    ------
    AutosegError
        One of them is a folder that is no image, or that cannot be read; or they differ in shape
        or spacing.
    """
    found = [stores.open(path) if is_store(path) else open_levels(path) for path in paths]
    depth = min(len(levels) for levels in found)
    if len(found) == 1 or depth == 0:
        return found[0] if depth else ()
    for path, levels in zip(paths[1:], found[1:], strict=True):
        require_same_grid(paths[0], found[0][0], path, levels[0])
    joined = []
    for together in zip(*found, strict=False):
        if len({level.shape for level in together}) > 1:
            break
        joined.append(replace(join_channels(together), geometry=together[0].geometry))
    return tuple(joined)


def can_write_rows(path: Path) -> bool:
    """Return whether labels of this name can be written row by row."""
    return is_store(path) or path.name.lower().endswith(TIFF_ENDINGS)


def label_sink(
    path: Path, shape: Sequence[int], dtype: np.dtype, *, image: Path, stores: Stores
) -> AbstractContextManager[LabelSink]:
    """Return a file or folder for labels (*S), which appears under its name in the end.

    Parameters
    ----------
    image
        Whose labels they are.
    """
    if is_store(path):
        return stores.create(path, shape, dtype, image)
    return LabelTiff(path, shape, dtype)

"""Zarr and OME-Zarr images read chunk by chunk, and their labels written so.

Letters in shapes: S spatial axes of the image, R rows of the first.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from autoseg.runtime.stream_files import WAITING_BYTES
from autoseg.runtime.stream_prepare import Levels
from autoseg.runtime.tiff_write import telling
from autoseg.runtime.unfinished import unfinished

if TYPE_CHECKING:
    from autoseg.dataset.formats.zarr_levels import Storage

MAX_CHUNK = 1024
"""Edge of a chunk of labels: an image that is one chunk does not make its labels one."""
OME_VERSIONS = {2: "0.4", 3: "0.5"}
"""Of the metadata, by the version of Zarr that they are stored in."""


class ZarrStores:
    """Folders that the package zarr reads and writes (see `runtime.stream_files.Stores`)."""

    def open(self, path: Path) -> Levels:
        """Return an image and its smaller copies, from fine to coarse."""
        # Reading data sets takes pydantic, which predicting files does without.
        from autoseg.dataset.formats.zarr_levels import open_levels

        return open_levels(path)

    def create(self, path: Path, shape: Sequence[int], dtype: np.dtype, image: Path) -> "LabelZarr":
        """Return labels (*S) with axes, spacing and chunks of an image."""
        from autoseg.dataset.formats.zarr_levels import storage

        return LabelZarr(path, shape, dtype, storage(image))


class LabelZarr:
    """Labels in a folder that appears under its name when all rows have been added.

    Parameters
    ----------
    shape
        (*S), all of it.
    like
        How their image is stored.
    """

    def __init__(self, path: Path, shape: Sequence[int], dtype: np.dtype, like: "Storage") -> None:
        self._path, self._shape, self._dtype, self._like = path, tuple(shape), dtype, like
        row = math.prod(shape[1:]) * dtype.itemsize
        rows, *others = (min(size, MAX_CHUNK) for size in like.chunks)
        self._chunks = (max(1, min(rows, WAITING_BYTES // max(1, row))), *others)
        self._waiting = np.empty((self._chunks[0], *self._shape[1:]), dtype)
        self._num_waiting = self._num_written = 0
        self._array: Any = None

    def __enter__(self) -> Self:
        import zarr  # is there: the image was read with it

        like = self._like
        names = [axis["name"] for axis in like.axes]
        settings: dict[str, Any] = {
            "shape": self._shape,
            "chunks": self._chunks,
            "dtype": self._dtype,
        }
        if like.zarr_format > 2:
            settings["dimension_names"] = names
        with telling(self._path), ExitStack() as opened:
            self._temporary = opened.enter_context(unfinished(self._path))
            place: dict[str, Any] = {
                "store": str(self._temporary),
                "zarr_format": like.zarr_format,
            }
            if like.is_ome:
                group = zarr.open_group(**place, mode="w")
                group.attrs.update(_ome_metadata(like, self._path.name))
                self._array = group.create_array("0", **settings)
            else:
                self._array = zarr.create_array(**place, **settings)
            self._opened = opened.pop_all()
        return self

    def add(self, rows: NDArray[np.integer]) -> None:
        """Write the next rows (R, *S[1:]).

        Raises
        ------
        AutosegError
            The folder cannot be written.
        """
        done = 0
        while done < len(rows):
            count = min(len(self._waiting) - self._num_waiting, len(rows) - done)
            place = slice(self._num_waiting, self._num_waiting + count)
            self._waiting[place] = rows[done : done + count]
            self._num_waiting += count
            done += count
            if self._num_waiting == len(self._waiting):
                self._write()

    def _write(self) -> None:
        stop = self._num_written + self._num_waiting
        with telling(self._path):
            self._array[self._num_written : stop] = self._waiting[: self._num_waiting]
        self._num_written, self._num_waiting = stop, 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with telling(self._path), self._opened:
            if kind is None:
                self._write()
                if self._path.exists():  # it goes with the folder of what is unfinished
                    self._path.rename(self._temporary.with_name("before"))
                self._temporary.rename(self._path)


def _ome_metadata(like: "Storage", name: str) -> dict:
    """Return attributes of a group whose array "0" is a label image."""
    version = OME_VERSIONS[like.zarr_format]
    steps: list[dict] = [{"type": "scale", "scale": list(like.scale)}]
    if any(like.start):
        steps.append({"type": "translation", "translation": list(like.start)})
    multiscales = {
        "name": name,
        "axes": list(like.axes),
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
    }
    if like.zarr_format == 2:
        labels = {"version": version}
        return {"multiscales": [multiscales | labels], "image-label": labels}
    return {"ome": {"version": version, "multiscales": [multiscales], "image-label": {}}}

"""The levels of Zarr arrays and OME-Zarr images, whose voxels are read when they are needed.

Letters in shapes: C channels, S spatial axes (ZYX, YX or X).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.formats.extras import load_package
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.crop import Box
from autoseg.runtime.images import Extent, Geometry, Image
from autoseg.runtime.voxels import Voxels

AXES = {1: "x", 2: "yx", 3: "zyx", 4: "czyx"}
"""Axes of a plain array by their number."""
MILLIMETRES = {
    "angstrom": 1e-7,
    "nanometer": 1e-6,
    "micrometer": 1e-3,
    "micron": 1e-3,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "meter": 1000.0,
}
"""Length of OME-Zarr's units."""


@dataclass(frozen=True)
class _Axis:
    name: str
    kind: str
    """"time", "channel" or "space"."""
    step: float
    """In `unit`."""
    unit: str | None
    start: float = 0.0
    """Where the first voxel lies, in `unit`."""


@dataclass(frozen=True)
class _Level:
    """One resolution of an image: an array whose voxels are not read yet."""

    array: Any
    axes: tuple[_Axis, ...]
    is_ome: bool = False
    """Whether OME-Zarr's metadata describe it."""

    @property
    def channel_axis(self) -> int | None:
        """Which axis is channels."""
        return next((i for i, axis in enumerate(self.axes) if axis.kind == "channel"), None)

    @property
    def space(self) -> tuple[int, ...]:
        """Which axes are spatial; a depth of one slice is none."""
        found = [i for i, axis in enumerate(self.axes) if axis.kind == "space"]
        return tuple(found[1:] if len(found) == 3 and self.array.shape[found[0]] == 1 else found)


@dataclass(frozen=True)
class Storage:
    """How an image is stored, as far as its labels are stored alike."""

    zarr_format: int
    is_ome: bool
    """Whether it is a group with OME-Zarr's metadata."""
    axes: tuple[dict[str, str], ...]
    """Spatial axes as OME-Zarr describes them: name, type, and unit where there is one."""
    scale: tuple[float, ...]
    """Distance of voxels along them, in their units."""
    start: tuple[float, ...]
    """Where the first voxel lies along them."""
    chunks: tuple[int, ...]


def open_levels(path: Path) -> tuple[Voxels, ...]:
    """Return an image and its smaller copies, whose chunks are read when they are needed.

    A copy's spacing is that of the same length with fewer voxels. Copies that have lost an axis
    (two slices that became one) or channels are left aside.

    Raises
    ------
    AutosegError
        It is missing, unreadable, empty, or has several time points.
    """
    first, *others = (_as_voxels(path, level) for level in _open_all(path))
    geometry = first.geometry
    copies = []
    for item in others:
        if (item.num_channels, len(item.shape)) != (first.num_channels, len(first.shape)):
            continue
        sizes = zip(geometry.spacing, first.shape, item.shape, strict=True)
        spacing = tuple(step * old / new for step, old, new in sizes)
        copies.append(replace(item, geometry=replace(geometry, spacing=spacing)))
    return first, *copies


def storage(path: Path) -> Storage:
    """Return how an image is stored."""
    level = _open(path)
    axes = [level.axes[index] for index in level.space]
    return Storage(
        zarr_format=level.array.metadata.zarr_format,
        is_ome=level.is_ome,
        axes=tuple(
            {"name": axis.name, "type": "space"} | ({"unit": axis.unit} if axis.unit else {})
            for axis in axes
        ),
        scale=tuple(axis.step for axis in axes),
        start=tuple(axis.start for axis in axes),
        chunks=tuple(level.array.chunks[index] for index in level.space),
    )


def extent_of(path: Path) -> Extent:
    """Return how large an image is, from its metadata."""
    level = _open(path)
    channels = 1 if level.channel_axis is None else level.array.shape[level.channel_axis]
    shape = tuple(level.array.shape[axis] for axis in level.space)
    geometry = _geometry(path, level)
    return Extent(channels, shape, geometry.spacing, geometry.unit)


def open_finest(path: Path) -> Voxels:
    """Return the finest level of an image, read box by box."""
    return _as_voxels(path, _open(path))


def read_finest(path: Path) -> Image:
    """Return the finest level of an image, (C, *S)."""
    level = _open(path)
    whole = tuple((0, level.array.shape[axis]) for axis in level.space)
    return Image(_read_box(path, level, whole), _geometry(path, level))


def _as_voxels(path: Path, level: _Level) -> Voxels:
    shape, chunks = level.array.shape, level.array.chunks
    return Voxels(
        num_channels=1 if level.channel_axis is None else shape[level.channel_axis],
        shape=tuple(shape[axis] for axis in level.space),
        dtype=_kind(level.array.dtype),
        geometry=_geometry(path, level),
        part_shape=tuple(chunks[axis] for axis in level.space),
        read=lambda box: _read_box(path, level, box),
    )


def _read_box(path: Path, level: _Level, box: Box) -> NDArray:
    """Return (C, *S) of a box along the spatial axes."""
    spans = dict(zip(level.space, box, strict=True))
    index = tuple(
        slice(*spans[i]) if i in spans else slice(None) if axis.kind == "channel" else 0
        for i, axis in enumerate(level.axes)
    )
    try:
        array = np.asarray(level.array[index])
    except Exception as error:  # whatever a codec raises
        raise _unreadable(path, error) from error
    if level.channel_axis is None:
        array = array[None]  # (1, *S)
    else:
        dropped = sum(isinstance(item, int) for item in index[: level.channel_axis])
        array = np.moveaxis(array, level.channel_axis - dropped, 0)  # (C, *S)
    return np.ascontiguousarray(array.astype(_kind(array.dtype), copy=False))


def _kind(dtype: np.dtype) -> np.dtype:
    """Return the type of numbers that is given out: in this machine's order, no truth values."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def _geometry(path: Path, level: _Level) -> Geometry:
    axes = [level.axes[index] for index in level.space]
    lengths = [MILLIMETRES.get(axis.unit or "") for axis in axes]
    spacing = tuple(
        axis.step * (1.0 if None in lengths else length or 1.0)
        for axis, length in zip(axes, lengths, strict=True)
    )
    if not all(np.isfinite(step) and step > 0 for step in spacing):
        raise AutosegError(
            found=f"{path}: scale {spacing}",
            expected="a positive distance of voxels along every axis",
            fix="correct coordinateTransformations in the metadata",
        )
    return Geometry(spacing, unit="pixel" if None in lengths else "mm")


def _open(path: Path) -> _Level:
    """Return the finest level of an image (see `_open_all`)."""
    return _open_all(path)[0]


def _open_all(path: Path) -> tuple[_Level, ...]:
    """Return the levels of an image, from fine to coarse.

    Raises
    ------
    AutosegError
        There is none, its metadata make no sense, or it is empty or has several time points.
    """
    zarr = load_package("zarr", "zarr")
    try:
        found = zarr.open(str(path), mode="r")
        levels = (_plain_level(found),) if hasattr(found, "shape") else _group_levels(found)
    except Exception as error:  # whatever the package raises
        raise _unreadable(path, error) from error
    for level in levels:
        _require_image(path, level)
    return levels


def _require_image(path: Path, level: _Level) -> None:
    """Refuse what is no image of one time point."""
    if level.array.dtype.kind not in "iufb" or 0 in level.array.shape:
        raise AutosegError(
            found=f"{path}: an array of type {level.array.dtype} and shape {level.array.shape}",
            expected="real numbers, at least one along every axis",
            fix="export the array again",
        )
    shape, kinds = level.array.shape, [axis.kind for axis in level.axes]
    times = [n for n, kind in zip(shape, kinds, strict=False) if kind == "time"]
    is_fine = len(kinds) == len(shape) and all(n == 1 for n in times)
    if not (is_fine and kinds.count("channel") <= 1 and 1 <= kinds.count("space") <= 3):
        names = ", ".join(axis.name for axis in level.axes) or "none that are known"
        raise AutosegError(
            found=f"{path}: shape {shape} with the axes {names}",
            expected="one time point, channels at most once, one to three spatial axes",
            fix="store each time point in its own .zarr, and name the axes in OME-Zarr's metadata",
        )


def _plain_level(array: Any) -> _Level:  # noqa: ANN401
    names = getattr(array.metadata, "dimension_names", None) or ()
    is_named = len(names) == array.ndim and set(names) <= set("tczyx")
    axes = names if is_named else AXES.get(array.ndim, "")
    return _Level(array, _axes(list(axes), [1.0] * array.ndim, [0.0] * array.ndim))


def _group_levels(group: Any) -> tuple[_Level, ...]:  # noqa: ANN401
    """Return the levels of a group: those of OME-Zarr's list, or "0", or the only array."""
    attributes = dict(group.attrs)
    multiscales = attributes.get("ome", attributes).get("multiscales")
    if not multiscales:
        arrays = dict(group.arrays())
        if "0" not in arrays and len(arrays) != 1:
            raise ValueError(f"a group with {len(arrays)} arrays and without multiscales metadata")
        return (_plain_level(arrays["0"] if "0" in arrays else next(iter(arrays.values()))),)
    image = multiscales[0]
    return tuple(_ome_level(group, image, dataset) for dataset in image["datasets"])


def _ome_level(group: Any, image: dict, dataset: dict) -> _Level:  # noqa: ANN401
    array = group[dataset["path"]]
    scale, start = np.ones(array.ndim), np.zeros(array.ndim)
    for item in (dataset, image):
        for step in item.get("coordinateTransformations", ()):
            if step["type"] == "scale":
                scale, start = scale * step["scale"], start * step["scale"]
            elif "translation" in step:
                start = start + step["translation"]
    axes = _axes(image.get("axes") or list("tczyx"), scale.tolist(), start.tolist())
    return _Level(array, axes, is_ome=True)


def _axes(
    axes: Sequence[str | dict], scale: Sequence[float], start: Sequence[float]
) -> tuple[_Axis, ...]:
    """Return the axes of an image: names alone, or OME-Zarr's objects with name, type and unit."""
    entries = [{"name": axis} if isinstance(axis, str) else axis for axis in axes]
    kinds = {"t": "time", "c": "channel"}
    return tuple(
        _Axis(
            entry["name"],
            kinds.get(entry["name"], entry.get("type", "space")),
            float(step),
            entry.get("unit"),
            float(first),
        )
        for entry, step, first in zip(entries, scale, start, strict=False)
    )


def _unreadable(path: Path, error: Exception) -> DatasetError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return DatasetError(
        found=f"{path} cannot be read: {lines[-1]}",
        expected="a Zarr array, or an OME-Zarr image (version 0.1 to 0.5)",
        fix="copy or export the folder again",
    )

"""Signals, whose images have one axis (arrays in .npy, tables in .csv), by numpy.

Letters in shapes: C channels, L samples.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import AutosegError
from .geometry import Extent, Geometry, Image

TIME_NAMES = ("t", "time", "seconds", "t_s", "time_s", "t (s)", "time (s)")
"""A first column of such a name holds the times of the samples, in seconds."""
DELIMITERS = (",", ";", "\t")
MAX_SHIFT = 0.5
"""Steps of time may differ by this part from the usual one: files round times."""


def read(path: Path) -> Image:
    """Return a signal: an array of (L,) or (C, L), or a table with one column a channel.

    A table may begin with a line of names and with a column of times.

    Raises
    ------
    AutosegError
        The file holds something else, or its times are uneven.
    """
    if path.suffix.lower() == ".csv":
        return _read_table(path)
    array = _checked(path, np.load(path, allow_pickle=False))
    return Image(array, Geometry((1.0,), unit="pixel"))


def read_extent(path: Path) -> Extent:
    """Return how large a signal is: of arrays from the header of the file."""
    if path.suffix.lower() == ".csv":
        image = _read_table(path)
        return Extent(len(image.array), image.shape, image.geometry.spacing)
    array = _checked(path, np.load(path, mmap_mode="r", allow_pickle=False))
    return Extent(len(array), array.shape[1:], (1.0,))


def write(path: Path, array: NDArray, geometry: Geometry) -> None:
    """Write (L,) or (C, L) numbers; a table gets one column a channel, no names and no times."""
    if array.ndim - (array.ndim > len(geometry.spacing)) != 1:
        raise AutosegError(
            found=f"an image with {len(geometry.spacing)} axes",
            expected=f"a signal with one axis, which a {path.suffix} file holds",
            fix="use another format, e.g. TIFF or NIfTI",
        )
    if path.suffix.lower() == ".csv":
        form = "%d" if array.dtype.kind in "iu" else "%.9g"
        np.savetxt(path, np.atleast_2d(array).T, fmt=form, delimiter=",")
    else:
        np.save(path, array, allow_pickle=False)


def _checked(path: Path, array: NDArray) -> NDArray:
    """Return (C, L) of an array that is a signal."""
    found = None
    if array.dtype.kind not in "iufb":
        found = f"values of type {array.dtype}"
    elif array.ndim not in (1, 2):
        found = f"an array with {array.ndim} axes, of shape {array.shape}"
    elif array.ndim == 2 and 1 < array.shape[1] <= array.shape[0]:
        found = f"{array.shape[0]} channels of {array.shape[1]} samples"
    if found is not None:
        raise AutosegError(
            found=f"{path}: {found}",
            expected="a signal of real numbers: one axis, or two of which the first is channels",
            fix="transpose the array if its first axis is time; store pictures and volumes as "
            "PNG, TIFF or NIfTI",
        )
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    array = array if array.ndim == 2 else array[None]  # (C, L)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _read_table(path: Path) -> Image:
    lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    first = lines[0] if lines else ""
    delimiter = next((mark for mark in DELIMITERS if mark in first), ",")
    names = [name.strip().strip('"').casefold() for name in first.split(delimiter)]
    rows = lines if all(_is_number(name) for name in names) else lines[1:]
    if not rows:
        raise ValueError("a table without numbers")
    columns = np.ascontiguousarray(np.loadtxt(rows, delimiter=delimiter, ndmin=2).T)  # (C, L)
    if names[0] not in TIME_NAMES or len(names) == 1:
        return Image(columns, Geometry((1.0,), unit="pixel"))
    return Image(columns[1:], Geometry((_step(path, columns[0]),), unit="s"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _step(path: Path, times: NDArray) -> float:
    """Return the distance of even times."""
    steps = np.diff(times)
    usual = float(np.median(steps)) if len(steps) else 0.0
    if not (usual > 0 and (np.abs(steps - usual) <= MAX_SHIFT * usual).all()):
        raise AutosegError(
            found=f"{path}: uneven or falling times in the first column",
            expected="times with the same positive distance everywhere",
            fix="resample the signal, or remove the column of times",
        )
    return float(times[-1] - times[0]) / len(steps)

"""Signals, whose images have one axis (arrays in .npy, tables in .csv), by numpy.

Letters in shapes: C channels, L samples.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import AutosegError
from .geometry import Extent, Geometry, Image

TIME_NAMES = ("t", "time", "seconds", "t_s", "time_s", "t (s)", "time (s)")
"""A first column of such a name holds the times of the samples, in seconds."""
LABEL_NAME = "label"
"""Names the column of classes in a table of labels."""
DELIMITERS = (",", ";", "\t")
RECORDS = (".hea", ".dat", ".edf")
"""Endings of recordings in formats of medical devices, which are not read here."""
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
        place = image.geometry
        return Extent(len(image.array), image.shape, place.spacing, place.unit)
    array = _checked(path, np.load(path, mmap_mode="r", allow_pickle=False))
    return Extent(len(array), array.shape[1:], (1.0,), "pixel")


def write(path: Path, array: NDArray, geometry: Geometry, names: Sequence[str] = ()) -> None:
    """Write (L,) or (C, L) numbers; a table gets one column a channel.

    Where samples have a distance in seconds, a table begins with names and a column of times.

    Parameters
    ----------
    names
        Of a table's channels; without, those of a table with times are numbered.
    """
    if array.ndim - (array.ndim > len(geometry.spacing)) != 1:
        raise AutosegError(
            found=f"an image with {len(geometry.spacing)} axes",
            expected=f"a signal with one axis, which a {path.suffix} file holds",
            fix="use another format, e.g. TIFF or NIfTI",
        )
    if path.suffix.lower() == ".csv":
        _write_table(path, np.atleast_2d(array), geometry, names)
    else:
        np.save(path, array, allow_pickle=False)


def write_labels(path: Path, labels: NDArray, geometry: Geometry) -> None:
    """Write (L,) values of classes; the column of a table is named."""
    write(path, labels, geometry, (LABEL_NAME,))


def refuse_record(path: Path) -> None:
    """Raise an error for a record of a device: reading it takes a package that may not be there.

    Raises
    ------
    AutosegError
        It is one.
    """
    if path.suffix.lower() not in RECORDS:
        return
    raise AutosegError(
        found=f"{path}: a recording in a format that only a package of its own reads",
        expected="a signal in a table (.csv) with a first column t of times in seconds, or in .npy",
        fix="predict WFDB records by `autoseg predict` with autoseg-unet[signals], or convert "
        "them; with the package wfdb, for the lead i of 1.hea: "
        "import numpy, wfdb; r = wfdb.rdrecord('1', channel_names=['i']); "
        "t = numpy.arange(r.sig_len) / r.fs; "
        "numpy.savetxt('1_i.csv', numpy.c_[t, r.p_signal], delimiter=',', header='t,i', "
        "comments='')",
    )


def _write_table(path: Path, array: NDArray, geometry: Geometry, names: Sequence[str]) -> None:
    """Write (C, L) numbers as columns, after their times in seconds where these are known."""
    forms = ["%d" if array.dtype.kind in "iu" else "%.9g"] * len(array)
    columns = list(array)
    if geometry.unit == "s":
        columns = [np.arange(array.shape[1]) * geometry.spacing[0], *columns]
        forms = ["%.12g", *forms]
        names = names or [f"channel {index}" for index in range(len(array))]
        names = [TIME_NAMES[0], *names]
    with path.open("w", encoding="utf-8") as file:
        if names:
            file.write(",".join(names) + "\n")
        np.savetxt(file, np.column_stack(columns), fmt=forms, delimiter=",")


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

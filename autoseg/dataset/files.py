"""The files of a case as channels and as values of classes: how most formats read.

Letters in shapes: C channels, S spatial axes (ZYX or YX).
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case, Dataset, Reading
from autoseg.errors import DatasetError
from autoseg.runtime.images import (
    Extent,
    Geometry,
    Image,
    read_extent,
    read_image,
    read_labels,
    read_mask,
    smallest_type,
    whole_numbers,
)


def read_image_files(dataset: Dataset, case: Case) -> Image:
    """Return the image in a case's files, (C, *S)."""
    return read_image(dataset.image_paths(case))


def read_file_extent(dataset: Dataset, case: Case) -> Extent:
    """Return how large the image in a case's files is, from headers alone."""
    return read_extent(dataset.image_paths(case))


def read_label_files(dataset: Dataset, case: Case) -> Image:
    """Return the values in a case's label files, (1, *S), read as the data set's `Reading` says.

    Raises
    ------
    AutosegError
        A file is missing, unreadable, or does not hold what the `Reading` expects.
    """
    paths, reading = dataset.label_paths(case), dataset.reading
    if reading.masks == "binaries":
        return _painted(paths, case.paint, reading)
    path = paths[0]
    if reading.masks == "colours":
        return _from_colours(path, reading)
    if reading.masks == "channels":
        return _from_channels(path, reading)
    if reading.threshold is not None:
        mask = read_mask(path)
        return Image((mask.array[:1] >= reading.threshold).astype(np.uint8), mask.geometry)
    if "round_labels" in reading.fixes:
        mask = read_mask(path)
        image = Image(whole_numbers(path, np.rint(mask.array[:1])), mask.geometry)
    else:
        image = read_labels(path)
    return Image(mapped(image.array, reading.label_map), image.geometry)


def changed_by(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return name, size and time of files, and of all files inside folders; missing ones: zeros."""
    facts = []
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in inside:
            status = file.stat() if file.exists() else None
            size, time = (status.st_size, status.st_mtime_ns) if status else (0, 0)
            facts.append((str(file), size, time))
    return facts


def colour_codes(colours: NDArray) -> NDArray:
    """Return one number, 0xRRGGBB, for each of (3, *S) colours."""
    return np.tensordot([1 << 16, 1 << 8, 1], colours, axes=1)


def mapped(values: NDArray, pairs: tuple[tuple[int, int], ...]) -> NDArray:
    """Return values with those of the map replaced, all at once."""
    if not pairs:
        return values
    mapped = values.astype(np.int32)
    for found, meant in pairs:
        mapped[values == found] = meant
    return mapped.astype(smallest_type(mapped))


def _painted(paths: tuple[Path, ...], paint: tuple[int, ...], reading: Reading) -> Image:
    """Return binary masks painted one over the other, each in its value."""
    result: Image | None = None
    for path, value in zip(paths, paint, strict=True):
        mask = read_mask(path)
        is_inside = foreground(mask.array, reading.threshold)
        if result is None:
            kind = smallest_type(np.array([0, *paint]))
            result = Image(np.zeros((1, *mask.shape), kind), mask.geometry)
        if result.shape != mask.shape:
            raise DatasetError(
                found=f"{path.name} has shape {mask.shape}, {paths[0].name} {result.shape}",
                expected="masks of one case with the same shape",
                fix="export the masks again, all on the grid of the image",
            )
        result.array[0][is_inside] = value
    assert result is not None, "a case without masks is background and not read"
    return result


def foreground(mask: NDArray, threshold: float | None) -> NDArray:
    """Return (*S) whether any channel, other than an alpha channel, shows foreground."""
    colours = mask[: 3 if len(mask) > 3 else len(mask)]
    return np.any(colours > 0 if threshold is None else colours >= threshold, axis=0)


def _from_colours(path: Path, reading: Reading) -> Image:
    """Return the value of each voxel's colour; colours are compared exactly."""
    picture = read_image([path])
    colours = picture.array if len(picture.array) == 3 else np.repeat(picture.array[:1], 3, axis=0)
    codes = colour_codes(colours)
    known = {(r << 16) + (g << 8) + b: value for r, g, b, value in reading.colours}
    found, inverse = np.unique(codes, return_inverse=True)
    unknown = [int(code) for code in found if int(code) not in known]
    if unknown:
        listed = ", ".join(f"#{code:06x}" for code in unknown[:10])
        raise DatasetError(
            found=f"{path}: {len(unknown)} colours that no class has: {listed}",
            expected=f"only the {len(known)} declared colours",
            fix="declare them in the labels of the spec, or export the masks without smoothing",
        )
    table = np.array([known[int(code)] for code in found])
    values = table.astype(smallest_type(table))[inverse].reshape(1, *picture.shape)
    return Image(values, picture.geometry)


def _from_channels(path: Path, reading: Reading) -> Image:
    """Return for each voxel what the channel that is set stands for.

    The number of the channel, 0 none, 1 the first, by `Reading.label_map`. The pages of a picture
    with one channel are channels, too.
    """
    mask = read_mask(path)
    channels, geometry = mask.array, mask.geometry
    if len(channels) == 1:
        channels, geometry = channels[0], Geometry(geometry.spacing[1:], unit=geometry.unit)
    is_set = channels > 0 if reading.threshold is None else channels >= reading.threshold
    values = np.zeros((1, *is_set.shape[1:]), np.uint8 if len(is_set) < 256 else np.uint16)
    for index, channel in enumerate(is_set):
        values[0][channel] = index + 1
    return Image(mapped(values, reading.label_map), geometry)

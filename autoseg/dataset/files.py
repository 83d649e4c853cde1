"""The files of a case as channels and as values of classes: how most formats read.

Letters in shapes: C channels, S spatial axes (ZYX or YX).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case, Dataset, DatasetSpec, Reading
from autoseg.errors import DatasetError
from autoseg.runtime.images import (
    LOSSY_FORMATS,
    WHOLE_TOLERANCE,
    Extent,
    Geometry,
    Image,
    read_extent,
    read_image,
    read_labels,
    read_mask,
    single_channel,
    smallest_type,
    whole_numbers,
)
from autoseg.runtime.recipe import Labels

HALF = 0.5
"""Where fractions are cut."""
MIDDLE = 128
"""Smoothed and JPEG-compressed masks of 8 bits show foreground from here on."""
MAX_SHOWN = 10
LOSSY_DISTANCE = 60.0
"""In the cube of red, green and blue (0 to 255): JPEG moves colours less, but at sharp edges."""
MAX_FAR = 0.2
"""Part of the pixels that edges may be: a tenth was measured in pictures of 40 x 44 pixels."""


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
    is_exact = reading.threshold is None and "round_labels" not in reading.fixes
    return values_of(dataset, path, read_labels(path) if is_exact else read_mask(path))


def values_of(dataset: Dataset, path: Path, mask: Image) -> Image:
    """Return the values, (1, *S), that the numbers in a mask stand for; `path` is for messages.

    Raises
    ------
    AutosegError
        They are no whole numbers in one channel, and nothing makes them so.
    """
    reading = dataset.reading
    if reading.threshold is not None:
        values = np.array(_two_values(dataset.labels))
        is_shown = foreground(path, mask.array, reading.threshold)
        kind = smallest_type(values)
        return Image(values.astype(kind)[is_shown[None].astype(np.uint8)], mask.geometry)
    array = single_channel(path, mask.array)
    if "round_labels" in reading.fixes:
        array = np.rint(array)
    return Image(mapped(whole_numbers(path, array), reading.label_map), mask.geometry)


def refuse_meaningless(reading: Reading, labels: Labels | None, spec: DatasetSpec) -> None:
    """Raise an error if a spec says what the masks of a layout leave no use for.

    Raises
    ------
    DatasetError
        A map beside masks without values, or a threshold where it tells no classes apart.
    """
    cut = spec.threshold
    low, high = _two_values(labels)
    maps = {int(k): v for k, v in (spec.label_map or {}).items() if k.removeprefix("-").isdecimal()}
    names = spec.labels if spec.labels is not None else labels.values if labels else ()
    found = None
    if spec.label_map and reading.masks != "values":
        found = f"label_map beside masks that are {reading.masks}"
    elif cut is not None and reading.masks == "colours":
        found = "threshold beside masks that are colours"
    elif cut is not None and reading.masks == "values" and len(names) > 2:
        found = f"threshold beside {len(names)} classes"
    elif cut is not None and any(to != (high if v >= cut else low) for v, to in maps.items()):
        found = f"threshold {cut:g} and a label_map that says otherwise"
    if found is not None:
        raise DatasetError(
            found=f"{found}: one of them has no effect",
            expected="label_map with maps of values alone, threshold with one class a mask",
            fix=f"remove {found.split()[0]} from the spec",
        )


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


def _two_values(labels: Labels | None) -> tuple[int, int]:
    """Return what background and foreground are called in the values of a data set."""
    if labels is None or len(labels.values) != 2:
        return 0, 1
    return labels.values[0], labels.values[1]


def _painted(paths: tuple[Path, ...], paint: tuple[int, ...], reading: Reading) -> Image:
    """Return binary masks painted one over the other, each in its value."""
    result: Image | None = None
    for path, value in zip(paths, paint, strict=True):
        mask = read_mask(path)
        is_inside = foreground(path, mask.array, reading.threshold)
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


def foreground(path: Path, mask: NDArray, threshold: float | None) -> NDArray:
    """Return (*S) whether any channel of a binary mask shows foreground.

    Without a threshold: a mask of one value beside 0, or of fractions, which are cut in the middle.

    Raises
    ------
    DatasetError
        The mask holds NaN, or is not binary; `path` is for the message.
    """
    _require_finite(path, mask)
    if threshold is not None:
        is_shown = np.any(mask >= threshold, axis=0)
        if threshold > 1 and mask.any() and ((mask == 0) | (mask == 1)).all():
            raise _other_range(path, threshold)
        return is_shown
    brightest, is_broken = _rounded(mask.max(axis=0))
    low, top = float(brightest.min()), float(brightest.max())
    if ((brightest == 0) | (brightest == top)).all():
        return brightest != 0
    if is_broken and low > -HALF and top < 1 + HALF:
        return brightest >= HALF
    raise _not_binary(path, np.unique(brightest), (low + top) / 2 if is_broken else None)


def _rounded(mask: NDArray) -> tuple[NDArray, bool]:
    """Return a mask as whole numbers where it nearly holds them, and whether it does not."""
    if mask.dtype.kind != "f":
        return mask, False
    whole = np.rint(mask)
    is_broken = bool((np.abs(mask - whole) > WHOLE_TOLERANCE).any())
    return mask if is_broken else whole, is_broken


def _require_finite(path: Path, mask: NDArray) -> None:
    if mask.dtype.kind == "f" and not np.isfinite(mask).all():
        raise DatasetError(
            found=f"{path}: NaN or infinite values",
            expected="a number in every voxel of a mask",
            fix="replace them by the number of the background, or of a class",
        )


def _not_binary(path: Path, values: NDArray, middle: float | None) -> DatasetError:
    """Return why a mask shows more than foreground; `middle` of one with broken numbers."""
    if middle is None and values[-1] >= MIDDLE and values[0] >= 0:
        middle = MIDDLE
    shown = ", ".join(f"{value:g}" for value in values[:MAX_SHOWN]) + ", ..." * (
        len(values) > MAX_SHOWN
    )
    if middle is not None:
        fix = f'if it was smoothed, declare "threshold": {middle:g} in the spec'
    else:
        fix = 'if all of them are foreground, declare "threshold": 1 in the spec'
    return DatasetError(
        found=f"{path}: the values {shown} in a mask that should show one class",
        expected="background and foreground: 0 and one other value, or fractions between 0 and 1",
        fix=f"{fix}; if each value is a class, declare images and masks by patterns and name the "
        'values: "masks": "masks/{case}.nii.gz", "labels": {"background": 0, "a": 1, "b": 2}',
    )


def _other_range(path: Path, threshold: float) -> DatasetError:
    return DatasetError(
        found=f"{path}: 0 and 1 in a mask that is cut at {threshold:g}: nothing would be left",
        expected="masks that all have the same range of values",
        fix="export the masks again, all with 0 and 255",
    )


def _from_colours(path: Path, reading: Reading) -> Image:
    """Return the value of each voxel's colour; in JPEG files, that of the nearest colour.

    Raises
    ------
    DatasetError
        There are colours that no class has, or, in a JPEG file, that are near to none.
    """
    picture = read_image([path])
    colours = picture.array if len(picture.array) == 3 else np.repeat(picture.array[:1], 3, axis=0)
    codes = colour_codes(colours)
    known = {(r << 16) + (g << 8) + b: value for r, g, b, value in reading.colours}
    found, inverse = np.unique(codes, return_inverse=True)
    unknown = [int(code) for code in found if int(code) not in known]
    if unknown and path.name.lower().endswith(LOSSY_FORMATS):
        known |= _nearest_colours(path, found, np.bincount(inverse.ravel()), known)
    elif unknown:
        listed = ", ".join(f"#{code:06x}" for code in unknown[:10])
        raise DatasetError(
            found=f"{path}: {len(unknown)} colours that no class has: {listed}",
            expected=f"only the {len(known)} declared colours",
            fix="declare them in the labels of the spec, or export the masks without smoothing",
        )
    table = np.array([known[int(code)] for code in found])
    values = table.astype(smallest_type(table))[inverse].reshape(1, *picture.shape)
    return Image(values, picture.geometry)


def _nearest_colours(
    path: Path, found: NDArray, counts: NDArray, known: Mapping[int, int]
) -> dict[int, int]:
    """Return the value of the nearest known colour for each of (N,) found ones."""
    own = np.array([[code >> 16, code >> 8 & 255, code & 255] for code in known])
    codes = found.astype(np.int64)
    seen = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
    distances = np.array([((seen - colour) ** 2).sum(axis=1) for colour in own])  # (K, N)
    is_far = np.sqrt(distances.min(axis=0)) > LOSSY_DISTANCE
    if counts[is_far].sum() > MAX_FAR * counts.sum():
        shown = ", ".join(f"#{int(code):06x}" for code in codes[is_far][:MAX_SHOWN])
        raise DatasetError(
            found=f"{path}: colours that are near to none of the declared ones: {shown}",
            expected=f"the {len(known)} declared colours, as JPEG keeps them",
            fix="declare all colours in the labels of the spec, or export the masks as PNG",
        )
    values = list(known.values())
    nearest = distances.argmin(axis=0)
    return {int(code): values[int(index)] for code, index in zip(codes, nearest, strict=True)}


def _from_channels(path: Path, reading: Reading) -> Image:
    """Return for each voxel what the channel that is set stands for.

    The number of the channel, 0 none, 1 the first, by `Reading.label_map`. The pages of a picture
    with one channel are channels, too.
    """
    mask = read_mask(path)
    _require_finite(path, mask.array)
    channels, geometry = mask.array, mask.geometry
    if len(channels) == 1:
        channels, geometry = channels[0], Geometry(geometry.spacing[1:], unit=geometry.unit)
    is_set = channels > 0 if reading.threshold is None else channels >= reading.threshold
    values = np.zeros((1, *is_set.shape[1:]), np.uint8 if len(is_set) < 256 else np.uint16)
    for index, channel in enumerate(is_set):
        values[0][channel] = index + 1
    return Image(mapped(values, reading.label_map), geometry)

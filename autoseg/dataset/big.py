"""Images that are read box by box, so that they need not fit into memory, with their labels.

What `inspect_case` says of small cases, with the same findings. Masks are looked through once for
the numbers in them; what these stand for is then told by the code that reads small masks, so that
there is one rule, and boxes are translated by a table.
Letters in shapes: C channels, S spatial axes (ZYX or YX), N different numbers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.annotated import own_labels
from autoseg.dataset.case import channel_findings
from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.dataset.files import foreground, read_image_files, read_label_files, values_of
from autoseg.dataset.fixes import finite_finding, label_finding
from autoseg.dataset.formats.registry import find_format
from autoseg.dataset.grids import fit_labels
from autoseg.dataset.label_values import to_classes
from autoseg.dataset.problems import error_finding
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.big_pictures import ENDINGS, open_colours, open_indices
from autoseg.runtime.geometry import Image
from autoseg.runtime.images import read_extent, single_channel
from autoseg.runtime.voxels import Voxels, in_memory, join_channels, slabs

BIG_BYTES = 1 << 26
"""Images of more bytes, decoded, are read box by box: smaller ones are faster read at once."""
SLAB_BYTES = 1 << 25
"""Decoded bytes that a pass over an image holds at once."""
PASS_BYTES = 400_000_000
"""Memory that a worker takes for a big case: some slabs in several copies and types."""
MASK_BYTES = 3
"""Memory for a voxel of a mask that can only be read at once: as decoded, as values, as classes."""
COPIES = 2
"""Of a TIFF that can only be decoded at once: while it is decoded, there is one more."""
COUNTED_AT_ONCE = 1 << 20
"""Voxels counted at a time: numpy counts eight bytes each."""


@dataclass(frozen=True)
class BigCase:
    """A case whose voxels are read box by box."""

    image: Voxels | None
    """None: the case has an error, see `findings`."""
    classes: Voxels | None
    """(1, *S) class indices."""
    findings: tuple[Finding, ...]


def open_big(dataset: Dataset, case: Case) -> BigCase | None:
    """Return a case to be read box by box, and all findings; None where it is to be read at once.

    That is so if it is small, if its format has no parts, and if its labels are resampled.
    """
    image = open_image(dataset, case)
    if "resample_labels" in dataset.reading.fixes:
        return None
    if image is None and strip_bytes(dataset, case) >= BIG_BYTES:
        try:
            image = in_memory(read_image_files(dataset, case))
        except AutosegError as error:
            return BigCase(None, None, (error_finding(error, case.images, case.id),))
    if image is None or image.num_bytes < BIG_BYTES:
        return None
    findings = channel_findings(dataset, case, image.num_channels)
    image, more = _finite(dataset, case, image)
    findings += more
    classes: Voxels | None = None
    try:
        classes, more = _open_classes(dataset, case, image)
        findings += more
    except AutosegError as error:
        findings.append(label_finding(dataset, case, error))
    if any(finding.severity == "error" for finding in findings):
        return BigCase(None, None, tuple(findings))
    return BigCase(image, classes, tuple(findings))


def open_image(dataset: Dataset, case: Case) -> Voxels | None:
    """Return the image of a case, of any size, to be read box by box; None where it cannot be."""
    known = find_format(dataset.layout)
    try:
        if known.open_image is not None:
            return known.open_image(dataset, case)
        if known.read_image is read_image_files:
            return _together(dataset.image_paths(case))
    except AutosegError:
        return None  # reading all of it says what is wrong
    return None


def memory_of(dataset: Dataset, case: Case, ram_bytes: int) -> int | None:
    """Return the memory that a big case takes; None where it is read at once.

    Raises
    ------
    DatasetError
        It can only be decoded at once, and that does not fit into `ram_bytes`.
    """
    image, strip = open_image(dataset, case), strip_bytes(dataset, case)
    if image is None and strip >= BIG_BYTES:
        _require_memory(dataset, case, strip, ram_bytes)
        return PASS_BYTES + COPIES * strip + MASK_BYTES * strip
    if image is None or image.num_bytes < BIG_BYTES:
        return None
    masks = _open_masks(dataset, case) if case.labels else ()
    num_voxels = image.num_bytes // image.voxel_bytes
    return PASS_BYTES + (0 if masks is not None else MASK_BYTES * num_voxels)


def strip_bytes(dataset: Dataset, case: Case) -> int:
    """Return the decoded bytes, at least, of a TIFF that has no parts to be read; else 0."""
    paths = dataset.image_paths(case)
    is_tiff = all(path.name.lower().endswith(ENDINGS) for path in paths)
    if not is_tiff or find_format(dataset.layout).read_image is not read_image_files:
        return 0
    try:
        extent = read_extent(paths)
    except AutosegError:
        return 0  # reading the file says what is wrong with it
    num_values = math.prod(extent.shape) * extent.num_channels
    return 0 if num_values < BIG_BYTES or open_image(dataset, case) is not None else num_values


def _require_memory(dataset: Dataset, case: Case, num_bytes: int, ram_bytes: int) -> None:
    if COPIES * num_bytes <= ram_bytes:
        return
    name, path = case.images[0], dataset.image_paths(case)[0]
    tiled = path.with_name(f"{path.stem}_tiled{path.suffix}")
    raise DatasetError(
        found=f"{name}: {num_bytes / 1e9:.1f} GB of pixels compressed in one piece, which take "
        f"{COPIES * num_bytes / 1e9:.1f} GB to decode, of {ram_bytes / 1e9:.1f} GB",
        expected="tiles, or strips of a few rows, which are decoded one by one",
        fix="store it in tiles in place of the one there, for example with libvips: "
        f"vips tiffsave {path} {tiled} --tile --compression deflate --bigtiff",
    )


def big_slabs(image: Voxels) -> Iterator[tuple[tuple[int, int], ...]]:
    """Yield the boxes in which a pass goes over an image, in the order of its voxels."""
    return slabs(image.shape, image.part_shape, SLAB_BYTES // image.voxel_bytes)


def count_values(dataset: Dataset, case: Case) -> tuple[NDArray, NDArray] | None:
    """Return the different values of a big label image, rising, and their voxels; else None.

    Raises
    ------
    AutosegError
        It does not hold whole numbers.
    """
    masks = _open_masks(dataset, case) if case.labels else None
    if masks is None or dataset.reading.masks != "values" or masks[0].num_bytes < BIG_BYTES:
        return None
    path, mask = dataset.label_paths(case)[0], _single(dataset, case, masks[0])
    numbers, counts = _numbers(mask)
    values = _values(dataset, path, mask, numbers)
    found, places = np.unique(values, return_inverse=True)
    return found, np.bincount(places, weights=counts).astype(np.int64)


def _together(paths: tuple[Path, ...]) -> Voxels | None:
    """Return one image of files for its channels, where all can be read in boxes and are alike."""
    parts = []
    for path in paths:
        part = open_colours(path)
        if part is None or (parts and part.shape != parts[0].shape):
            return None
        parts.append(part)
    return parts[0] if len(parts) == 1 else join_channels(parts)


def _finite(dataset: Dataset, case: Case, image: Voxels) -> tuple[Voxels, list[Finding]]:
    """Return the image without NaN where that is asked for, and what was found."""
    if image.dtype.kind != "f":
        return image, []
    count, size = 0, image.num_bytes // image.dtype.itemsize
    lowest = np.full(image.num_channels, np.inf)
    for box in big_slabs(image):
        array = image.read(box)
        is_good = np.isfinite(array)
        count += int(is_good.size - is_good.sum())
        for index, (channel, good) in enumerate(zip(array, is_good, strict=True)):
            if good.any():
                lowest[index] = min(lowest[index], channel[good].min())
    if not count:
        return image, []
    finding = finite_finding(dataset, case, count, size, np.isfinite(lowest))
    if finding.severity == "error":
        return image, [finding]
    fill = lowest.astype(image.dtype).reshape(-1, *(1,) * len(image.shape))
    return image.changed(lambda array: np.where(np.isfinite(array), array, fill)), [finding]


def _open_classes(
    dataset: Dataset, case: Case, image: Voxels
) -> tuple[Voxels | None, list[Finding]]:
    """Return the class indices (1, *S) of a case, and how their grid differs from the image's."""
    background = to_classes(np.array([dataset.labels.values[0]]), dataset.labels)
    if not case.labels:
        shape = image.shape
        empty = np.broadcast_to(background.reshape((1,) * (1 + len(shape))), (1, *shape))
        return in_memory(Image(empty, image.geometry)), []
    masks = _open_masks(dataset, case)
    if masks is None:
        mask = find_format(dataset.layout).read_labels(dataset, case)
        fitted, findings = fit_labels(dataset, case, _stand_in(image), mask)
        classes = own_labels(to_classes(fitted.array, dataset.labels), case, dataset.labels)
        return in_memory(Image(classes, fitted.geometry)), findings
    _, findings = fit_labels(dataset, case, _stand_in(image), _stand_in(masks[0]))
    if any(finding.severity == "error" for finding in findings):
        return None, findings
    return _classes(dataset, case, masks), findings


def _stand_in(voxels: Voxels) -> Image:
    """Return an image of the same shape and place that takes no memory."""
    return Image(np.broadcast_to(np.uint8(0), (1, *voxels.shape)), voxels.geometry)


def _open_masks(dataset: Dataset, case: Case) -> tuple[Voxels, ...] | None:
    """Return the label files as they are, where all can be read box by box and translated so."""
    known = find_format(dataset.layout)
    if dataset.reading.masks not in ("values", "binaries"):
        return None
    if known.open_labels is not None:
        mask = known.open_labels(dataset, case)
        return None if mask is None else (mask,)
    if known.read_labels is not read_label_files:
        return None
    masks = [open_indices(path) for path in dataset.label_paths(case)]
    found = tuple(mask for mask in masks if mask is not None)
    return found if len(found) == len(masks) else None


@dataclass(frozen=True)
class _Table:
    """What numbers stand for: `classes` of the rising `numbers`, (N,) each."""

    numbers: NDArray
    classes: NDArray[np.signedinteger]

    def translate(self, array: NDArray) -> NDArray[np.signedinteger]:
        """Return the class of each number."""
        high = self.numbers[-1]
        if array.dtype.kind == "u" and high < 1 << 16:
            direct = np.zeros(int(high) + 1, self.classes.dtype)
            direct[self.numbers] = self.classes
            return direct[array]
        return self.classes[np.searchsorted(self.numbers, array)]


def _classes(dataset: Dataset, case: Case, masks: tuple[Voxels, ...]) -> Voxels:
    """Return class indices (1, *S), translated box by box."""
    paths, reading = dataset.label_paths(case), dataset.reading
    if reading.masks == "values":
        mask = _single(dataset, case, masks[0])
        numbers, _ = _numbers(mask)
        values = to_classes(_values(dataset, paths[0], mask, numbers), dataset.labels)
        classes = own_labels(values, case, dataset.labels)
        return replace(mask.changed(_Table(numbers, classes).translate), dtype=classes.dtype)
    tables = []
    for path, mask in zip(paths, masks, strict=True):
        brightest = mask.changed(lambda array: array.max(axis=0, keepdims=True))
        numbers, _ = _numbers(brightest)
        shown = foreground(path, numbers[None], reading.threshold).astype(np.int8)
        tables.append((brightest, _Table(numbers, shown)))
    painted = to_classes(np.array([*case.paint, 0]), dataset.labels)
    painted = own_labels(painted, case, dataset.labels)

    def read(box: tuple[tuple[int, int], ...]) -> NDArray:
        out = np.full((1, *(stop - start for start, stop in box)), painted[-1])
        for (mask, table), index in zip(tables, painted, strict=False):
            out[table.translate(mask.read(box)) > 0] = index
        return out

    return replace(masks[0], num_channels=1, dtype=painted.dtype, read=read)


def _single(dataset: Dataset, case: Case, mask: Voxels) -> Voxels:
    """Return a mask with one channel: all are equal, or the brightest counts."""
    path = dataset.label_paths(case)[0]

    def single(array: NDArray) -> NDArray:
        if dataset.reading.threshold is not None:
            return array.max(axis=0, keepdims=True)
        return single_channel(path, array)

    return mask if mask.num_channels == 1 else replace(mask.changed(single), num_channels=1)


def _numbers(mask: Voxels) -> tuple[NDArray, NDArray[np.int64]]:
    """Return the different numbers (N,) in a mask, rising, and how often they come."""
    numbers, counts = np.zeros(0, mask.dtype), np.zeros(0, np.int64)
    for box in big_slabs(mask):
        more, often = count_numbers(mask.read(box))
        numbers, places = np.unique(np.concatenate([numbers, more]), return_inverse=True)
        weights = np.concatenate([counts, often])
        counts = np.bincount(places, weights=weights).astype(np.int64)
    return numbers, counts


def count_numbers(array: NDArray) -> tuple[NDArray, NDArray]:
    """Return the different numbers in an array, rising, and how often they come."""
    if array.dtype != np.uint8:
        return np.unique(array, return_counts=True)
    counts = np.zeros(256, np.int64)  # a third of the time of sorting
    flat = array.reshape(-1)
    for start in range(0, len(flat), COUNTED_AT_ONCE):
        counts += np.bincount(flat[start : start + COUNTED_AT_ONCE], minlength=256)
    found = np.flatnonzero(counts)
    return found.astype(np.uint8), counts[found]


def _values(dataset: Dataset, path: Path, mask: Voxels, numbers: NDArray) -> NDArray:
    """Return what each of (N,) numbers in a mask means in values of the data set."""
    # One row of all numbers is read as a mask would be.
    return values_of(dataset, path, Image(numbers[None], mask.geometry)).array[0]

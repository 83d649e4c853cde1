"""Labels on the grid of their image: how they differ, and laying one on the other.

Letters in shapes: S spatial axes (ZYX or YX), D number of axes.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.dataset.fixes import FIXED, case_finding, fixable
from autoseg.errors import DatasetError, counted
from autoseg.runtime.geometry import Geometry, Image
from autoseg.runtime.images import same_spacing

POSITION_TOLERANCE = 0.5
"""Origins may differ by this part of a voxel: the labels lie on the same voxels all the same."""
DIRECTION_TOLERANCE = 1e-2
ROUNDING = 1e-2
"""Origins that differ by less, in voxels, are equal: headers hold single precision."""
TURN_ROUNDING = 1e-4
"""The same for direction cosines."""
MIN_OVERLAP = 0.5
"""Labels on another grid belong to the image if both boxes share this part of the smaller one."""


def fit_labels(
    dataset: Dataset, case: Case, image: Image, mask: Image
) -> tuple[Image, list[Finding]]:
    """Return the labels on the image's grid, as far as the fixes allow, and how they differed."""
    files = (case.images[0], *case.labels[:1])
    if image.shape != mask.shape:
        return _fit_shape(dataset, case, image, mask)
    first, second = image.geometry, mask.geometry
    if first.unit != second.unit:
        return mask, []
    if _turn(first, second) > DIRECTION_TOLERANCE and box_overlap(image, mask) >= MIN_OVERLAP:
        return _fit_turned(dataset, case, image, mask)
    if same_spacing(first.spacing, second.spacing):
        return mask, _position_findings(case, image, mask)
    found = f"the image has spacing {_times(first.spacing)} mm, the labels {_times(second.spacing)}"
    expected = "the same spacing for both"
    if "copy_geometry" in dataset.reading.fixes:
        found += " mm, read with that of the image"
        note = case_finding("note", case, files, found, expected, FIXED)
        return Image(mask.array, first), [note]
    remedy = "correct the header of the file that is wrong"
    found += " mm"
    return mask, [fixable(case, files, found, expected, remedy, "copy_geometry")]


def box_overlap(first: Image, second: Image) -> float:
    """Return which part of the smaller image's box lies in the other's; 0 where places are unknown.

    Boxes are along the axes of the world: of turned images they are larger than these.
    """
    if first.geometry.unit != "mm" or second.geometry.unit != "mm":
        return 0.0
    if len(first.shape) != len(second.shape):
        return 0.0
    if bool(first.geometry.direction) != bool(second.geometry.direction):
        return 0.0
    boxes = [_world_box(image.shape, _placed(image.geometry)) for image in (first, second)]
    low = np.maximum(boxes[0][0], boxes[1][0])
    high = np.minimum(boxes[0][1], boxes[1][1])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / min(float(np.prod(top - bottom)) for bottom, top in boxes)


def resample_labels(image: Image, mask: Image, background: int) -> Image:
    """Return (1, *S) labels on the image's grid, by nearest neighbour; `background` outside.

    Raises
    ------
    DatasetError
        A header describes no grid: its axes are not perpendicular.
    """
    import SimpleITK as sitk

    place, source = _placed(image.geometry), _placed(mask.geometry)
    try:
        moving = sitk.GetImageFromArray(mask.array[0])
        moving.SetSpacing(source.spacing[::-1])  # ZYX -> XYZ
        moving.SetOrigin(source.origin)
        moving.SetDirection(source.direction)
        moved = sitk.Resample(
            moving,
            image.shape[::-1],
            sitk.Transform(len(image.shape), sitk.sitkIdentity),
            sitk.sitkNearestNeighbor,
            place.origin,
            place.spacing[::-1],
            place.direction,
            float(background),
        )
    except RuntimeError as error:
        raise DatasetError(
            found=f"labels that cannot be resampled: {str(error).strip().splitlines()[-1]}",
            expected="headers with perpendicular axes",
            fix="resample the labels to the image's grid yourself",
        ) from error
    return Image(sitk.GetArrayFromImage(moved)[None], image.geometry)


def _fit_shape(
    dataset: Dataset, case: Case, image: Image, mask: Image
) -> tuple[Image, list[Finding]]:
    """Return labels of another shape, resampled where that is allowed and makes sense."""
    files = (case.images[0], *case.labels[:1])
    found = f"the image has shape {_times(image.shape)}, the labels {_times(mask.shape)}"
    found += _missing_slices(image.shape, mask.shape)
    expected = "the same shape for both"
    remedy = "resample the labels to the image's grid, or correct the pairing of the files"
    if box_overlap(image, mask) < MIN_OVERLAP:
        return mask, [case_finding("error", case, files, found, expected, remedy)]
    if "resample_labels" not in dataset.reading.fixes:
        return mask, [fixable(case, files, found, expected, remedy, "resample_labels")]
    resampled = resample_labels(image, mask, dataset.labels.values[0])
    found += ", resampled to the image's grid"
    return resampled, [case_finding("note", case, files, found, expected, FIXED)]


def _fit_turned(
    dataset: Dataset, case: Case, image: Image, mask: Image
) -> tuple[Image, list[Finding]]:
    """Return labels whose axes point elsewhere, laid on the image's where that is allowed."""
    files, expected = (case.images[0], *case.labels[:1]), "the same orientation for both"
    found = "the header of the labels says that they are turned or mirrored against the image"
    if "resample_labels" in dataset.reading.fixes:
        turned = resample_labels(image, mask, dataset.labels.values[0])
        note = f"{found}, turned to the image's grid"
        return turned, [case_finding("note", case, files, note, expected, FIXED)]
    if "copy_geometry" in dataset.reading.fixes:
        note = f"{found}, read with that of the image"
        copied = Image(mask.array, image.geometry)
        return copied, [case_finding("note", case, files, note, expected, FIXED)]
    remedy = (
        'declare in a spec "fixes": ["copy_geometry"] where the voxels lie right as they are, '
        '["resample_labels"] where the headers are right'
    )
    if any(mask.geometry.origin):
        return mask, [fixable(case, files, found, expected, remedy, "resample_labels")]
    # A header without a place was hardly written on purpose: nothing tells which is right.
    return mask, [case_finding("error", case, files, found, expected, remedy)]


def _missing_slices(image: tuple[int, ...], mask: tuple[int, ...]) -> str:
    """Return how many slices a mask lacks or has in excess, where that is all that differs."""
    differing = [i for i, (n, m) in enumerate(zip(image, mask, strict=False)) if n != m]
    if len(image) != len(mask) or len(image) < 3 or len(differing) != 1:
        return ""
    (axis,) = differing
    excess = mask[axis] - image[axis]
    slices = counted(abs(excess), "slice")
    return f": {slices} {'more' if excess > 0 else 'fewer'} along axis {axis}"


def _turn(first: Geometry, second: Geometry) -> float:
    """Return the largest difference of direction cosines; 0 where directions are unknown."""
    if not (first.direction and second.direction):
        return 0.0
    return float(np.abs(np.subtract(first.direction, second.direction)).max())


def _position_findings(case: Case, image: Image, mask: Image) -> list[Finding]:
    """Return how origin and direction of image and labels differ, if by more than rounding."""
    first, second = image.geometry, mask.geometry
    if not (first.origin and second.origin):
        return []
    distance = float(np.abs(np.subtract(first.origin, second.origin)).max()) / min(first.spacing)
    turn = _turn(first, second)
    if distance <= ROUNDING and turn <= TURN_ROUNDING:
        return []
    files, expected = (case.images[0], *case.labels[:1]), "the same position and orientation"
    if distance <= POSITION_TOLERANCE and turn <= DIRECTION_TOLERANCE:
        found = f"the headers differ by {distance:.2g} voxels in origin, {turn:.2g} in direction"
        remedy = "nothing: the labels lie on the same voxels"
        return [case_finding("note", case, files, found, expected, remedy)]
    found = "the headers of image and labels differ in origin or direction"
    remedy = "check that the labels lie on the structures; the voxels are used as they are"
    return [case_finding("warning", case, files, found, expected, remedy)]


def _placed(geometry: Geometry) -> Geometry:
    """Return a geometry with a place in the world: without one, its corner is at zero."""
    if geometry.direction:
        return geometry
    axes = len(geometry.spacing)
    origin = tuple(step / 2 for step in geometry.spacing[::-1])  # ZYX -> XYZ
    direction = tuple(float(value) for value in np.eye(axes).ravel())
    return replace(geometry, origin=origin, direction=direction)


def _world_box(shape: tuple[int, ...], geometry: Geometry) -> tuple[NDArray, NDArray]:
    """Return the lowest and highest world coordinates (D,) of an image's corners, mm."""
    lengths, spacing = shape[::-1], np.array(geometry.spacing[::-1])  # ZYX -> XYZ
    corners = np.array([*itertools.product(*((-0.5, n - 0.5) for n in lengths))])
    direction = np.reshape(geometry.direction, (len(lengths), len(lengths)))
    points = geometry.origin + (corners * spacing) @ direction.T
    return points.min(axis=0), points.max(axis=0)


def _times(lengths: Sequence[float]) -> str:
    return " x ".join(f"{n:g}" for n in lengths)

"""All scores of one case."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.evaluate.overlap import count_overlap, dice, iou
from autoseg.evaluate.scores import CaseScore, ClassScore
from autoseg.evaluate.surface import hausdorff_95, surface_dice, surface_distances

Box = tuple[slice, ...]


def score_case(
    case_id: str,
    prediction: NDArray[np.integer],
    reference: NDArray[np.integer],
    spacing: Sequence[float],
    num_classes: int,
    tolerance: float,
    regions: Sequence[Sequence[int]] = (),
) -> CaseScore:
    """Return Dice, IoU, HD95 and NSD of each foreground class, and of unions of classes.

    A class that both lack has no scores. A class that one of both lacks has Dice, IoU and NSD 0
    and the diagonal of the image as HD95. See `surface` for the definition of HD95 and NSD.

    Parameters
    ----------
    case_id
        Name of the case in the result.
    prediction : (*S) int
        Class indices.
    reference : (*S) int
        Class indices; voxels with a negative one are ignored: background in both.
    spacing
        Of the axes, ZYX or YX.
    num_classes
        Classes, the background included.
    tolerance
        Of the NSD, in the unit of the spacing.
    regions
        Foreground classes of each union; without any it has no scores.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"{case_id}: shapes {prediction.shape} and {reference.shape} differ")
    counts = count_overlap(prediction, reference, num_classes)
    if counts.sum() < reference.size:
        prediction = np.where(reference < 0, 0, prediction)
    boxes = tuple(
        ndimage.find_objects(labels, max_label=num_classes - 1)
        for labels in (prediction, reference)
    )
    grid = _Grid(
        spacing=tuple(spacing),
        diagonal=math.hypot(*(n * s for n, s in zip(reference.shape, spacing, strict=True))),
        tolerance=tolerance,
    )
    case = _Case(prediction, reference, counts, boxes)
    return CaseScore(
        case_id=case_id,
        classes=tuple(_score_union(case, (index,), grid) for index in range(1, num_classes)),
        regions=tuple(_score_union(case, tuple(region), grid) for region in regions),
    )


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """How distances in a case are measured."""

    spacing: tuple[float, ...]
    diagonal: float
    """Of the image."""
    tolerance: float
    """Of the NSD."""


@dataclass(frozen=True)
class _Case:
    """Two label maps with what was counted in them once for all classes."""

    prediction: NDArray[np.integer]
    reference: NDArray[np.integer]
    counts: NDArray[np.int64]
    """Voxels of each reference class (rows) that were given each class (columns)."""
    boxes: tuple[list[Box | None], ...]
    """Of the foreground classes, in the prediction and in the reference."""


def _score_union(case: _Case, classes: tuple[int, ...], grid: _Grid) -> ClassScore:
    """Return the scores of some classes taken together."""
    overlap = int(case.counts[np.ix_(classes, classes)].sum())
    predicted = int(case.counts[:, list(classes)].sum())
    expected = int(case.counts[list(classes)].sum())
    hd95, nsd = None, None
    if predicted and expected:
        found = [boxes[index - 1] for boxes in case.boxes for index in classes]
        box = _union([item for item in found if item is not None])
        masks = _mask(case.prediction[box], classes), _mask(case.reference[box], classes)
        distances = surface_distances(*masks, grid.spacing)
        hd95, nsd = hausdorff_95(distances), surface_dice(distances, grid.tolerance)
    elif predicted or expected:
        hd95, nsd = grid.diagonal, 0.0
    return ClassScore(
        dice=dice(overlap, predicted, expected),
        iou=iou(overlap, predicted, expected),
        hd95=hd95,
        nsd=nsd,
        predicted_voxels=predicted,
        reference_voxels=expected,
    )


def _mask(labels: NDArray[np.integer], classes: tuple[int, ...]) -> NDArray[np.bool_]:
    return labels == classes[0] if len(classes) == 1 else np.isin(labels, classes)


def _union(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around all boxes."""
    return tuple(
        slice(min(item.start for item in axis), max(item.stop for item in axis))
        for axis in zip(*boxes, strict=True)
    )

"""All scores of one case."""

import math
from collections.abc import Sequence

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
) -> CaseScore:
    """Return Dice, IoU, HD95 and NSD of each foreground class.

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
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"{case_id}: shapes {prediction.shape} and {reference.shape} differ")
    counts = count_overlap(prediction, reference, num_classes)
    if counts.sum() < reference.size:
        prediction = np.where(reference < 0, 0, prediction)
    boxes = [
        ndimage.find_objects(labels, max_label=num_classes - 1)
        for labels in (prediction, reference)
    ]
    diagonal = math.hypot(*(n * s for n, s in zip(reference.shape, spacing, strict=True)))
    classes = []
    for index in range(1, num_classes):
        overlap = int(counts[index, index])
        predicted, expected = int(counts[:, index].sum()), int(counts[index].sum())
        hd95, nsd = None, None
        if predicted and expected:
            box = _union(boxes[0][index - 1], boxes[1][index - 1])
            masks = prediction[box] == index, reference[box] == index
            distances = surface_distances(*masks, spacing)
            hd95, nsd = hausdorff_95(distances), surface_dice(distances, tolerance)
        elif predicted or expected:
            hd95, nsd = diagonal, 0.0
        classes.append(
            ClassScore(
                dice=dice(overlap, predicted, expected),
                iou=iou(overlap, predicted, expected),
                hd95=hd95,
                nsd=nsd,
                predicted_voxels=predicted,
                reference_voxels=expected,
            )
        )
    return CaseScore(case_id=case_id, classes=tuple(classes))


def _union(first: Box, second: Box) -> Box:
    """Return the smallest box around two boxes."""
    return tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(first, second, strict=True)
    )

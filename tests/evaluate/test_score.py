"""Scores of one case."""

import time

import numpy as np
import pytest
from scipy import ndimage

from autoseg.evaluate.overlap import count_overlap
from autoseg.evaluate.score import score_case
from autoseg.evaluate.surface import hausdorff_95, surface_dice, surface_distances
from autoseg.seeds import stream


def score(prediction, reference, num_classes=2, spacing=None, tolerance=1.0):
    spacing = spacing or (1.0,) * reference.ndim
    return score_case("case", prediction, reference, spacing, num_classes, tolerance)


def test_overlap_has_the_textbook_values():
    prediction, reference = np.zeros((2, 10, 10), np.uint8)
    prediction[2:6, 2:6], reference[4:6, 2:8] = 1, 1
    found = score(prediction, reference).classes[0]
    assert found.dice == pytest.approx(2 * 8 / (16 + 12))
    assert found.iou == pytest.approx(8 / 20)
    assert (found.predicted_voxels, found.reference_voxels) == (16, 12)


def test_class_that_both_lack_has_no_scores():
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[1:3, 1:3, 1:3] = 1
    present, absent = score(labels, labels, num_classes=3).classes
    assert (present.dice, present.hd95, present.nsd) == (1.0, 0.0, 1.0)
    assert (absent.dice, absent.iou, absent.hd95, absent.nsd) == (None,) * 4


@pytest.mark.parametrize("lacking", ["prediction", "reference"])
def test_class_that_one_lacks_scores_zero_and_the_diagonal(lacking):
    empty, full = np.zeros((3, 5, 13), np.uint8), np.ones((3, 5, 13), np.uint8)
    pair = (empty, full) if lacking == "prediction" else (full, empty)
    found = score(*pair, spacing=(1.0, 0.8, 12 / 13)).classes[0]
    assert (found.dice, found.iou, found.nsd) == (0.0, 0.0, 0.0)
    assert found.hd95 == pytest.approx(13.0)  # sides 3, 4 and 12


def test_ignored_voxels_are_in_no_score():
    reference = np.zeros((12, 12), np.int8)
    reference[2:6, 2:6] = 1
    reference[:, 8:] = -1
    prediction = np.where(reference == 1, 1, 0)
    prediction[:, 8:] = 1
    found = score(prediction, reference).classes[0]
    assert (found.dice, found.iou, found.hd95, found.nsd) == (1.0, 1.0, 0.0, 1.0)
    assert found.predicted_voxels == 16


def test_cropping_changes_no_distance():
    rng = stream(3, "labels")
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, 14, 15, 16)), (0, 2, 2, 2))
    prediction, reference = (smooth > 0.08).astype(np.uint8)
    found = score(prediction, reference, spacing=(2.0, 1.0, 1.0)).classes[0]
    distances = surface_distances(prediction == 1, reference == 1, (2.0, 1.0, 1.0))
    assert found.hd95 == hausdorff_95(distances)
    assert found.nsd == surface_dice(distances, 1.0)


def test_classes_are_scored_apart():
    reference = np.zeros((8, 8), np.uint8)
    reference[1:4, 1:4], reference[5:7, 5:7] = 1, 2
    prediction = np.where(reference == 2, 1, reference)
    first, second = score(prediction, reference, num_classes=3).classes
    assert first.dice == pytest.approx(2 * 9 / (9 + 13))
    assert second.dice == 0


def test_slabs_do_not_change_the_count(monkeypatch):
    rng = stream(0, "labels")
    prediction, reference = rng.integers(0, 3, (2, 7, 8, 9))
    whole = count_overlap(prediction, reference, 3)
    monkeypatch.setattr("autoseg.evaluate.overlap.SLAB_VOXELS", 11)
    assert (count_overlap(prediction, reference, 3) == whole).all()
    assert whole.sum() == reference.size


def test_other_shape_is_refused():
    with pytest.raises(ValueError, match="case: shapes"):
        score(np.zeros((3, 3)), np.zeros((3, 4)))


def test_a_small_volume_takes_milliseconds():
    reference = np.zeros((35, 50, 35), np.uint8)
    reference[10:25, 10:35, 12:22], reference[10:25, 35:44, 12:22] = 1, 2
    prediction = np.roll(reference, 1, axis=1)
    score(prediction, reference, num_classes=3)
    start = time.process_time()
    for _ in range(5):
        score(prediction, reference, num_classes=3)
    assert (time.process_time() - start) / 5 < 0.05  # about 0.003 on a quiet core


def test_a_region_is_scored_like_one_class_of_its_own():
    rng = stream(0, "regions")
    prediction, reference = rng.integers(0, 4, (2, 9, 10, 11))
    reference[0] = -1
    case = (prediction, reference, (2.0, 1.0, 1.5))
    found = score_case("case", *case, 4, 1.0, regions=((1, 3), (2,)))
    merged = score_case(
        "case",
        np.isin(prediction, (1, 3)).astype(int),
        np.where(reference < 0, -1, np.isin(reference, (1, 3))),
        (2.0, 1.0, 1.5),
        2,
        1.0,
    )
    assert found.regions[0] == merged.classes[0]
    assert found.regions[1] == found.classes[1]


def test_a_region_may_lack_some_of_its_classes():
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[1:3, 1:3, 1:3] = 3
    other = np.where(labels == 3, 1, 0)
    found = score_case("case", other, labels, (1.0, 1.0, 1.0), 4, 1.0, regions=((1, 3), (2,)))
    assert (found.regions[0].dice, found.regions[0].hd95) == (1.0, 0.0)
    assert found.regions[1].dice is None
    assert [item.dice for item in found.classes] == [0.0, None, 0.0]

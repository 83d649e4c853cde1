import numpy as np
import pytest
from scipy import ndimage

from autoseg.runtime import restore
from autoseg.runtime.governor import Governor, Room
from autoseg.runtime.prepare import Placement
from autoseg.runtime.processors import resident_bytes
from autoseg.runtime.restore import (
    add_probabilities,
    decide_labels,
    restore_labels,
    restore_probabilities,
    restore_rows,
)
from autoseg.runtime.sums import Rows


def placement(**changes):
    fields = {
        "image_shape": (30, 50, 40),
        "transpose": (0, 2, 1),
        "box": ((2, 30), (0, 40), (5, 45)),
        "prepared_shape": (20, 33, 61),
        "coarse_axis": None,
    }
    return Placement(**{**fields, **changes})


def smooth_logits(classes, shape, seed=0):
    noise = np.random.default_rng(seed).normal(size=(classes, *shape))
    return (ndimage.gaussian_filter(noise, (0, *(3,) * len(shape))) * 50).astype(np.float32)


def whole_logits(logits, shape):
    factors = [1, *(new / old for new, old in zip(shape, logits.shape[1:], strict=True))]
    return np.asarray(ndimage.zoom(logits, factors, order=1, mode="nearest", grid_mode=True))


@pytest.mark.parametrize("slab", [1, 5000, 1 << 20])
def test_labels_agree_with_resampling_all_classes_first(slab, monkeypatch):
    monkeypatch.setattr(restore, "SLAB_VOXELS", slab)
    place = placement()
    logits = smooth_logits(4, place.prepared_shape)
    expected = whole_logits(logits, place.box_shape).argmax(axis=0)
    labels = restore_labels(logits, place)
    assert labels.shape == place.image_shape
    inside = labels.transpose(place.transpose)[2:30, 0:40, 5:45]
    assert (inside == expected).mean() >= 0.9999
    assert labels[:2].max() == 0


def test_coarse_axis_is_copied_back():
    place = placement(prepared_shape=(7, 40, 40), coarse_axis=0)
    logits = smooth_logits(3, place.prepared_shape)
    inside = restore_labels(logits, place).transpose(place.transpose)[2:30, 0:40, 5:45]
    np.testing.assert_array_equal(inside, np.repeat(logits.argmax(axis=0), 4, axis=0))


def test_probabilities_sum_to_one_and_follow_the_labels():
    place = placement()
    logits = smooth_logits(3, place.prepared_shape)
    probabilities = restore_probabilities(logits, place)
    assert probabilities.shape == (3, *place.image_shape)
    assert probabilities.dtype == np.float16
    np.testing.assert_allclose(probabilities.astype(np.float32).sum(axis=0), 1, atol=2e-3)
    assert (probabilities[0, :2] == 1).all()
    assert (probabilities.argmax(axis=0) == restore_labels(logits, place)).mean() > 0.99


def test_huge_logits_do_not_overflow():
    place = placement()
    logits = smooth_logits(2, place.prepared_shape) * 1e4
    assert np.isfinite(restore_probabilities(logits, place)).all()


def test_first_of_equal_classes_wins():
    place = placement(prepared_shape=(28, 40, 40))
    assert restore_labels(np.zeros((3, 28, 40, 40), np.float32), place).max() == 0


def test_many_classes_get_a_wider_type():
    place = Placement(
        image_shape=(4, 4),
        transpose=(0, 1),
        box=((0, 4), (0, 4)),
        prepared_shape=(4, 4),
        coarse_axis=None,
    )
    logits = np.zeros((300, 4, 4), dtype=np.float32)
    logits[299] = 1
    labels = restore_labels(logits, place)
    assert labels.dtype == np.uint16
    assert (labels == 299).all()


def test_never_more_than_a_slab_of_all_classes_in_memory():
    import tracemalloc

    place = Placement(
        image_shape=(64, 128, 128),
        transpose=(0, 1, 2),
        box=((0, 64), (0, 128), (0, 128)),
        prepared_shape=(16, 32, 32),
        coarse_axis=None,
    )
    logits = smooth_logits(30, place.prepared_shape)
    tracemalloc.start()
    restore_labels(logits, place)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    all_classes = 30 * 4 * 64 * 128 * 128
    assert peak < all_classes / 4


def test_overlapping_regions_are_painted_in_their_order():
    placement = Placement(
        image_shape=(1, 4),
        transpose=(0, 1),
        box=((0, 1), (0, 4)),
        prepared_shape=(1, 4),
        coarse_axis=None,
    )
    whole, core = [[-1.0, 2.0, 2.0, -3.0]], [[-2.0, -1.0, 1.0, 4.0]]
    logits = np.array([whole, core], dtype=np.float32)
    labels = restore_labels(logits, placement, "regions")
    assert labels.tolist() == [[0, 1, 2, 2]]
    chances = restore_probabilities(logits, placement, "regions")
    np.testing.assert_allclose(chances, 1 / (1 + np.exp(-logits)), atol=1e-3)
    assert decide_labels(chances, "regions").tolist() == labels.tolist()


def test_outside_the_box_no_region_is_likely():
    placement = Placement(
        image_shape=(1, 4),
        transpose=(0, 1),
        box=((0, 1), (1, 3)),
        prepared_shape=(1, 2),
        coarse_axis=None,
    )
    chances = restore_probabilities(np.full((2, 1, 2), 9, np.float32), placement, "regions")
    assert not chances[..., [0, 3]].any()
    assert (chances[..., 1:3] > 0.99).all()


def test_offsets_are_added_before_classes_are_compared():
    place = placement()
    logits = smooth_logits(3, place.prepared_shape)
    by = (0.0, 2.0, -1.0)
    shifted = logits + np.reshape(by, (3, 1, 1, 1)).astype(np.float32)
    labels = restore_labels(logits, place, offsets=by)
    assert (labels == restore_labels(shifted, place)).mean() > 0.9999
    assert (labels != restore_labels(logits, place)).any()
    chances = restore_probabilities(logits, place)
    assert (decide_labels(chances, "largest", by) == labels).mean() > 0.99


def test_offsets_move_the_threshold_of_each_region():
    logits = np.array([[[-0.5, 0.5, 3.0]], [[-0.5, -0.5, 0.2]]], np.float32)
    place = placement(
        image_shape=(1, 3),
        transpose=(0, 1),
        box=((0, 1), (0, 3)),
        prepared_shape=(1, 3),
    )
    assert restore_labels(logits, place, "regions").tolist() == [[0, 1, 2]]
    assert restore_labels(logits, place, "regions", (1.0, -0.3)).tolist() == [[1, 1, 1]]
    chances = restore_probabilities(logits, place, "regions")
    assert decide_labels(chances, "regions", (1.0, -0.3)).tolist() == [[1, 1, 1]]


def test_probabilities_in_a_file_do_not_stay_in_memory(tmp_path):
    scratch = Governor(Room(limit=0, most=0, folder=tmp_path), 0, 0)
    chances = scratch.zeros((8, 32, 256, 256), np.float32)  # 64 MiB
    before, _ = resident_bytes()
    labels = decide_labels(chances, "largest", scratch=scratch)
    assert labels.dtype == np.uint8
    assert resident_bytes()[0] - before < 16 << 20


@pytest.mark.parametrize("kind", ["given out", "added"])
def test_around_the_box_background_is_certain(kind):
    place = placement(box=((4, 9), (3, 40), (0, 30)), prepared_shape=(5, 12, 30))
    rows = [Rows(0, np.zeros((2, *place.prepared_shape), np.float32))]
    if kind == "added":
        out = add_probabilities(None, rows, place, "largest", weight=1.0)
    else:
        _, out = restore_rows(rows, place, probabilities=True)
    assert out is not None
    expected = np.ones(place.image_shape)
    expected.transpose(place.transpose)[4:9, 3:40, :30] = 0.5
    np.testing.assert_array_equal(out, [expected, 1 - expected])

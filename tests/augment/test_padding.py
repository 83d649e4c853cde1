import numpy as np
import pytest

from autoseg.augment.padding import mirrored, read_image, read_labels, single

BOXES = [
    ((1, 4), (0, 5)),
    ((-2, 4), (3, 8)),
    ((-9, 13), (-1, 6)),
    ((2, 3), (-12, -4)),
]


def padded_cut(array, box, **rule):
    """Return the box by padding the whole array first."""
    reach = 40
    margins = [(0, 0)] * (array.ndim - len(box)) + [(reach, reach)] * len(box)
    wide = np.pad(array, margins, **rule)
    return wide[(..., *(slice(a + reach, b + reach) for a, b in box))]


@pytest.mark.parametrize("box", BOXES)
def test_mirrored_image_goes_on_as_often_as_needed(box):
    image = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float16)
    result = read_image(image, box, padding="mirror")
    assert result.dtype == np.float32
    assert (result == padded_cut(image, box, mode="reflect")).all()


@pytest.mark.parametrize("box", BOXES)
def test_zero_padding_is_zero_outside(box):
    image = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float16)
    result = read_image(image, box, padding="zero")
    assert result.dtype == np.float32
    assert (result == padded_cut(image, box, mode="constant")).all()


@pytest.mark.parametrize("box", BOXES)
def test_labels_outside_are_ignored(box):
    labels = np.random.default_rng(0).integers(0, 4, (5, 6)).astype(np.int8)
    result = read_labels(labels, box)
    assert result.dtype == np.int8
    assert (result == padded_cut(labels, box, mode="constant", constant_values=-1)).all()


def test_axis_of_one_voxel_repeats_it():
    assert (mirrored(np.arange(-3, 4), 1) == 0).all()


def test_only_the_box_is_read():
    class Watched:
        shape = (1, 100, 100)
        dtype = np.dtype(np.float16)

        def __getitem__(self, key):
            self.key = key
            return np.zeros((1, *(s.stop - s.start for s in key[1:])), np.float16)

    stored = Watched()
    read_image(stored, ((20, 30), (95, 104)), padding="mirror")
    assert stored.key[1:] == (slice(20, 30), slice(95, 100))


def test_every_half_precision_number_is_widened_exactly():
    halves = np.arange(1 << 16).astype(np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    found = single(halves)
    assert found.dtype == np.float32
    assert (found == halves.astype(np.float32)).all()
    assert (np.signbit(found) == np.signbit(halves)).all()

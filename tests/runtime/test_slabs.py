import numpy as np
import pytest

from autoseg.runtime.blend import Rows
from autoseg.runtime.prepare import Placement
from autoseg.runtime.restore import restore_labels, restore_rows
from autoseg.runtime.slabs import box_slabs, split_columns

CLASSES = 4


def placement(old, new, coarse_axis=None):
    return Placement(
        image_shape=new,
        transpose=tuple(range(len(new))),
        box=tuple((0, size) for size in new),
        prepared_shape=old,
        coarse_axis=coarse_axis,
    )


def noise(shape):
    return np.random.default_rng(0).normal(size=(CLASSES, *shape)).astype(np.float32)


def pieces(logits, depth):
    """Yield rows in a buffer that is overwritten, as `blend_rows` does."""
    for start in range(0, logits.shape[1], depth):
        buffer = logits[:, start : start + depth].copy()
        yield Rows(start, buffer)
        buffer[...] = np.nan


@pytest.mark.parametrize("depth", [1, 3, 7, 100])
@pytest.mark.parametrize("num_voxels", [1, 200, 1 << 20])
@pytest.mark.parametrize(
    ("old", "new", "coarse_axis"),
    [
        ((20, 9, 8), (33, 9, 11), None),
        ((20, 9, 8), (7, 13, 8), None),
        ((20, 9, 8), (20, 9, 8), None),
        ((9, 6, 5), (31, 6, 9), 0),
        ((40, 6), (17, 9), None),
        ((50,), (81,), None),
    ],
)
def test_rows_that_come_in_pieces_are_interpolated_as_a_whole(
    old, new, coarse_axis, depth, num_voxels
):
    logits = noise(old)
    place = placement(old, new, coarse_axis)
    _, maps = next(box_slabs([Rows(0, logits)], place, 1 << 20))
    expected = np.stack(list(maps))
    found = np.full((CLASSES, *new), np.nan, np.float32)
    for where, maps in box_slabs(pieces(logits, depth), place, num_voxels):
        for index, values in enumerate(maps):
            found[(index, *where)] = values
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_no_more_rows_are_kept_than_are_needed_again():
    import tracemalloc

    logits = noise((400, 30, 30))
    place = placement((400, 30, 30), (600, 30, 30))
    tracemalloc.start()
    restore_rows(pieces(logits, 8), place)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < logits.nbytes / 2


def test_labels_of_rows_are_those_of_the_whole():
    logits = noise((20, 19, 18))
    place = placement((20, 19, 18), (31, 25, 14))
    labels, chances = restore_rows(pieces(logits, 5), place, probabilities=True)
    assert (labels == restore_labels(logits, place)).mean() >= 0.9999
    assert chances is not None
    assert (chances.argmax(axis=0) == labels).mean() > 0.99


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    ("old", "new", "coarse_axis"),
    [
        ((20, 19, 8), (33, 19, 11), None),
        ((20, 19, 8), (20, 41, 8), None),
        ((20, 19, 8), (20, 11, 8), None),
        ((12, 9, 8), (12, 31, 8), 1),
        ((12, 19, 8), (12, 5, 8), 1),
        ((40, 16), (17, 29), None),
    ],
)
def test_bands_are_interpolated_as_a_whole(old, new, coarse_axis, number):
    logits, place = noise(old), placement(old, new, coarse_axis)
    bands = split_columns(place, number)
    assert bands[-1][1] == old[1]

    def stream():
        for low, high in bands:
            for start in range(0, old[0], 6):
                yield Rows(start, logits[:, start : start + 6, low:high].copy(), low)

    _, expected = restore_rows([Rows(0, logits)], place, probabilities=True)
    labels, found = restore_rows(stream(), place, probabilities=True)
    assert found is not None
    assert expected is not None
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert (labels == restore_labels(logits, place)).mean() >= 0.9999

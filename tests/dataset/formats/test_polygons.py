import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.dataset.formats.polygons import (
    paint_polygons,
    paint_runs,
    polygon_area,
    run_lengths,
)


def painted(polygons, shape=(10, 12)):
    values = np.zeros(shape, np.uint8)
    paint_polygons(values, polygons, 1)
    return values


def compressed(runs):
    """Write runs as COCO does: differences to the last but one, five bits a character."""
    text = ""
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        while True:
            code, value = value & 31, value >> 5
            is_last = value == (-1 if code & 16 else 0)
            text += chr(48 + code + (0 if is_last else 32))
            if is_last:
                break
    return text


@given(
    box=st.tuples(*(st.integers(0, n) for n in (12, 10, 12, 10))),
)
def test_a_box_on_whole_numbers_covers_just_its_pixels(box):
    (left, right), (top, bottom) = sorted(box[::2]), sorted(box[1::2])
    expected = np.zeros((10, 12), np.uint8)
    expected[top:bottom, left:right] = 1
    corners = [left, top, right, top, right, bottom, left, bottom]
    assert np.array_equal(painted([corners]), expected)
    assert polygon_area([corners]) == expected.sum()


def test_a_pixel_belongs_to_the_polygon_with_its_centre():
    assert painted([[2.6, 2.6, 4.4, 2.6, 4.4, 4.4, 2.6, 4.4]]).sum() == 1
    assert painted([[2.6, 2.6, 4.4, 2.6, 4.4, 4.4, 2.6, 4.4]])[3, 3] == 1


def test_neighbours_with_a_common_edge_share_no_pixel_and_leave_none_out():
    lower, upper = [0, 0, 12, 0, 0, 10], [12, 0, 12, 10, 0, 10]
    assert (painted([lower]) + painted([upper]) == 1).all()


def test_a_large_circle_has_its_area():
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = np.stack([100 + 80 * np.cos(angles), 90 + 80 * np.sin(angles)], axis=1).ravel()
    assert painted([circle], (200, 200)).sum() == pytest.approx(np.pi * 80**2, rel=2e-3)


def test_what_lies_outside_the_picture_is_cut_off():
    assert painted([[-5, -5, 30, -5, 30, 30, -5, 30]]).all()
    assert not painted([[20, 20, 30, 20, 30, 30]]).any()
    assert not painted([[-9, -9, -2, -9, -2, -2]]).any()
    half = painted([[-10, 2, 6, 2, 6, 5, -10, 5]])
    assert half.sum() == 18
    assert half[2:5, :6].all()


def test_all_parts_of_an_object_are_painted():
    parts = [[0, 0, 2, 0, 2, 2, 0, 2], [5, 5, 8, 5, 8, 8, 5, 8]]
    assert painted(parts).sum() == 4 + 9


@given(mask=st.lists(st.booleans(), min_size=12, max_size=12))
def test_runs_go_down_the_columns_in_both_spellings(mask):
    expected = np.reshape(mask, (3, 4))
    runs, last = [0], False
    for value in expected.T.ravel():
        if value != last:
            runs.append(0)
        runs[-1] += 1
        last = value
    for counts in (runs, compressed(runs)):
        values = np.zeros((3, 4), np.uint8)
        paint_runs(values, run_lengths(counts), 7)
        assert np.array_equal(values, 7 * expected)


def test_long_runs_survive_compression():
    runs = [1000, 40, 12, 100000, 3, 1, 70000]
    assert run_lengths(compressed(runs)) == runs


@pytest.mark.parametrize("runs", [[3, 4], [20], [13, -1]])
def test_runs_of_another_picture_are_refused(runs):
    with pytest.raises(ValueError, match="in a picture of 12"):
        paint_runs(np.zeros((3, 4)), runs, 1)

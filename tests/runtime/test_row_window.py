"""Rows that move along an image, and boxes cut out of them."""

from dataclasses import replace

import numpy as np
import pytest

from autoseg.runtime import row_window
from autoseg.runtime.geometry import Geometry, Image
from autoseg.runtime.row_window import RowSource, RowWindow
from autoseg.runtime.tiles import fill_up
from autoseg.runtime.voxels import Voxels, in_memory

ARRAY = np.random.default_rng(0).integers(0, 200, (2, 40, 30)).astype(np.uint8)


def noted(step: int) -> tuple[Voxels, list[tuple[int, int]]]:
    """Return an image in parts of `step` rows, and the rows that were read."""
    voxels, seen = in_memory(Image(ARRAY, Geometry((1.0, 1.0)))), []
    read = voxels.read

    def noting(box):
        seen.append(box[0])
        return read(box)

    return replace(voxels, part_shape=(step, 30), read=noting), seen


@pytest.mark.parametrize("step", [1, 7, 16, 40])
def test_rows_are_read_once_in_whole_parts(monkeypatch, step):
    monkeypatch.setattr(row_window, "PIECE_VALUES", 300)
    voxels, seen = noted(step)
    window = RowWindow(voxels, step).voxels
    for start in range(0, 40 - 12 + 1, 4):
        box = ((start, start + 12), (3, 20))
        np.testing.assert_array_equal(window.read(box), ARRAY[:, start : start + 12, 3:20])
    assert [low for low, _ in seen] == sorted({low for low, _ in seen})
    assert all(low % step == 0 for low, _ in seen)
    assert sum(high - low for low, high in seen) == 40


def test_going_back_reads_again():
    voxels, seen = noted(4)
    window = RowWindow(voxels, 4).voxels
    for start in (30, 2, 36, 0):
        part = window.read(((start, start + 3), (0, 30)))
        np.testing.assert_array_equal(part, ARRAY[:, start : start + 3])
    assert len(seen) == 4


@pytest.mark.parametrize("padding", ["mirror", "zero"])
@pytest.mark.parametrize("margins", [(0, 0), (5, 2)])
@pytest.mark.parametrize("shape", [(40, 30), (45, 30), (130, 97)], ids=str)
def test_boxes_are_those_of_the_image_filled_up(shape, margins, padding):
    settings = {"padding": padding, "values": (3.0, 7.0), "margins": margins}
    full, starts = fill_up(ARRAY, shape, **settings)
    voxels, _ = noted(8)
    source, found = RowSource(RowWindow(voxels, 8).voxels).filled_up(shape, **settings)
    assert (source.shape, source.ndim, found) == (full.shape, 3, starts)
    for low in range(0, full.shape[1] - 9, 5):
        box = (slice(None), slice(low, low + 10), slice(1, 24))
        part = source[box]
        assert part.dtype == np.float32
        np.testing.assert_array_equal(part, full[box])

"""The memory of images that are predicted row by row, known beforehand."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from autoseg.runtime.geometry import Geometry, Image
from autoseg.runtime.governor import Governor, Room
from autoseg.runtime.memory import ALLOCATOR, expected_memory
from autoseg.runtime.model import BALANCED
from autoseg.runtime.recipe import Channel, KeepLargest
from autoseg.runtime.stream import label_rows
from autoseg.runtime.stream_memory import expected_stream
from autoseg.runtime.stream_prepare import open_parts
from autoseg.runtime.voxels import Voxels, in_memory
from autoseg.testing.streamed import make_model

PATTERN = np.random.default_rng(0).integers(1, 250, (3, 64, 64), np.uint8)


def make_voxels(shape: tuple[int, int]) -> Voxels:
    """Return a picture that takes no memory until it is read."""
    small = in_memory(Image(PATTERN, Geometry((1.0, 1.0), unit="pixel")))

    def read(box):
        rows, columns = (np.arange(*span) % 64 for span in box)
        return PATTERN[:, rows[:, None], columns]

    fields = {"shape": shape, "part_shape": (64, 64), "read": read}
    return Voxels(**{**vars(small), **fields})


@pytest.mark.parametrize("recipe", [{}, {"spacing": (1.3, 1.3)}], ids=str)
def test_what_is_taken_is_what_was_expected(tmp_path, recipe):
    wide = ({"patch_size": (128, 128)},)
    model = make_model(tmp_path / "model", recipe=recipe, configurations=wide)
    levels = (make_voxels((400, 1500)),)
    demand = expected_stream(model.manifest, levels)
    tracemalloc.start()
    try:
        parts = open_parts(levels, model.manifest)
        room = Room(limit=2**40, most=2**40, folder=tmp_path)
        governor = Governor(room, 0, 0)
        rows = sum(len(part) for part in label_rows(model, parts, BALANCED, governor))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows == 400
    expected = demand.peak - min(ALLOCATOR, demand.peak // 2)
    assert peak <= expected * 1.15, (peak, demand)


def test_a_higher_picture_takes_no_more(tmp_path):
    steps = (KeepLargest(classes=(1,)),)
    manifest = make_model(tmp_path / "model", postprocessing=steps).manifest
    low, high = (
        expected_stream(manifest, (make_voxels((size, 20_000)),)) for size in (5_000, 50_000)
    )
    assert low == high
    assert high.peak < expected_memory(manifest, (50_000, 20_000), (1.0, 1.0)).peak / 10


def test_a_longer_volume_takes_no_more(tmp_path):
    grey, recipe = (Channel(name="grey", scheme="zscore"),), {"spacing": (1.0, 1.0, 1.0)}
    manifest = make_model(tmp_path / "model", channels=grey, recipe=recipe).manifest
    image = replace(
        make_voxels((1, 1)),
        num_channels=1,
        geometry=Geometry((1.0, 1.0, 1.0)),
        part_shape=(8, 64, 64),
    )
    short, long = (
        expected_stream(manifest, (replace(image, shape=(size, 2000, 2000)),))
        for size in (200, 2000)
    )
    assert short == long
    assert long.labels < 32 * 2000 * 2000


def test_a_wider_picture_takes_more(tmp_path):
    manifest = make_model(tmp_path / "model").manifest
    narrow, wide = (
        expected_stream(manifest, (make_voxels((9_000, size)),)) for size in (20_000, 80_000)
    )
    assert wide.peak > 1.3 * narrow.peak

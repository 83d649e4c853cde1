"""What predicting an image takes, against what it was expected to take."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from autoseg.runtime.geometry import Geometry, Image
from autoseg.runtime.memory import ALLOCATOR, expected_memory
from autoseg.runtime.model import BALANCED, Model
from autoseg.runtime.recipe import Channel
from autoseg.testing.streamed import make_model, make_recipe

GREY = (Channel(name="grey", scheme="none"),)
SHAPE, SPACING = (128, 200, 200), (1.0, 0.8, 0.8)
WITHIN = 1.3
"""Libraries, the third of what is taken in earnest, are not traced."""


def one_class(tile: NDArray, mean: NDArray, std: NDArray) -> NDArray[np.float32]:
    assert mean.shape == std.shape
    logits = np.zeros((len(tile), 3, *tile.shape[2:]), np.float32)
    logits[:, 1] = 1
    return logits


def make_stages(folder: Path, *names: str) -> Model:
    sizes = {"patch_size": (32, 64, 64)}
    stages = {
        "coarse": {"weight": 0.0, "recipe": make_recipe(GREY, spacing=(2.0, 2.0, 2.0))},
        "told": {"weight": 1.0, "previous": "net0"},
        "alone": {"weight": 1.0},
    }
    model = make_model(
        folder / "model",
        channels=GREY,
        recipe={"spacing": (1.0, 1.0, 1.0)},
        configurations=tuple({**stages[name], **sizes} for name in names),
    )
    model.networks = (one_class,) * len(names)
    return model


@pytest.mark.parametrize("names", [("alone",), ("coarse", "told")], ids="-".join)
def test_what_is_taken_is_what_was_expected(tmp_path, names):
    model = make_stages(tmp_path, *names)
    demand = expected_memory(model.manifest, SHAPE, SPACING, voxel_bytes=2)
    pattern = np.random.default_rng(0).integers(1, 999, SHAPE[1:], np.int16)
    tracemalloc.start()
    try:
        image = Image(np.repeat(pattern[None, None], SHAPE[0], axis=1), Geometry(SPACING))
        parts = model.prepare(image)
        del image
        model.predict_prepared(parts, BALANCED, probabilities=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    expected = demand.peak - min(ALLOCATOR, demand.peak // 2)
    assert peak <= expected * 1.02, (peak, demand)
    assert expected <= peak * WITHIN, (peak, demand)

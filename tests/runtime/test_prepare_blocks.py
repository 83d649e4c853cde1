from dataclasses import replace

import numpy as np
import pytest

from autoseg.runtime import prepare_blocks
from autoseg.runtime.images import Geometry, Image
from autoseg.runtime.normalise import network_input
from autoseg.runtime.prepare import prepare, prepare_labels
from autoseg.runtime.prepare_blocks import prepare_label_voxels, prepare_voxels
from autoseg.runtime.recipe import Channel, Recipe
from autoseg.runtime.voxels import blocks, in_memory
from autoseg.testing.plans import small_configuration

TOLERANCE = 2e-5
"""Relative to the range of an image: single precision, summed in another order."""


@pytest.fixture(autouse=True)
def _small_slabs(monkeypatch):
    monkeypatch.setattr(prepare_blocks, "SLAB_VOXELS", 700)


def image(shape, channels=2, kind=np.uint16):
    """Return noise on a ramp, with an empty margin."""
    rng = np.random.default_rng(0)
    array = rng.integers(1, 1000, (channels, *shape)) + np.arange(shape[-1]) * 5
    array[:, :2] = 0
    array[..., -3:] = 0
    return array.astype(kind)


def recipe(spacing, **changes) -> Recipe:
    channels = changes.pop("channels", tuple(small_channel() for _ in range(2)))
    plain = small_configuration((16,) * len(spacing)).recipe
    changes = {"transpose": tuple(range(len(spacing))), **changes}
    return replace(plain, spacing=spacing, channels=channels, **changes)


def small_channel(**changes) -> Channel:
    return replace(small_configuration((16, 16)).recipe.channels[0], **changes)


def together(voxels, step=(7, 11, 13)):
    out = np.zeros((voxels.num_channels, *voxels.shape), voxels.dtype)
    for box in blocks(voxels.shape, step[: len(voxels.shape)], 500):
        out[(slice(None), *(slice(*span) for span in box))] = voxels.read(box)
    return out


CHANNELS = {
    "zscore": {},
    "clipped": {"lower": 100.0, "upper": 700.0},
    "given": {"mean": 3.0, "std": 7.0},
    "unit": {"scheme": "unit"},
    "rgb": {"scheme": "rgb"},
    "none": {"scheme": "none"},
    "pretrained": {"scheme": "pretrained", "mean": 0.4, "std": 0.2},
}


@pytest.mark.parametrize("changes", CHANNELS.values(), ids=CHANNELS)
@pytest.mark.parametrize("order", ["resample-normalise", "normalise-resample"])
def test_blocks_are_the_parts_of_the_whole_where_the_grid_stays(changes, order):
    array, channels = image((40, 50)), (small_channel(**changes), small_channel(mean=1.0, std=2.0))
    wanted = recipe((1.0, 1.0), channels=channels, order=order)
    whole = prepare(array, (1.0, 1.0), wanted)
    found = prepare_voxels(in_memory(Image(array, Geometry((1.0, 1.0)))), wanted)
    assert found.placement == whole.placement
    np.testing.assert_array_equal(found.mean, whole.mean)
    np.testing.assert_array_equal(found.std, whole.std)
    np.testing.assert_array_equal(together(found.voxels), network_input(whole, wanted))


SPACINGS = [
    ((1.0, 1.0), (0.7, 1.3)),
    ((1.0, 1.0, 1.0), (1.4, 0.8, 0.6)),
    ((4.0, 1.0, 1.0), (3.0, 0.9, 1.2)),
    ((1.0, 1.0, 4.0), (1.0, 1.2, 6.0)),
    ((1.0, 5.0, 1.0), (1.3, 2.0, 0.9)),
]


@pytest.mark.parametrize(("old", "new"), SPACINGS)
@pytest.mark.parametrize("order", ["resample-normalise", "normalise-resample"])
def test_blocks_are_the_parts_of_the_whole_on_another_grid(old, new, order):
    array = image((24, 27, 30)[: len(old)])
    turn = (1, 0, 2)[: len(old)]
    wanted = recipe(tuple(new[a] for a in turn), transpose=turn, order=order)
    whole = prepare(array, old, wanted)
    voxels = in_memory(Image(array, Geometry(old)))
    found = prepare_voxels(voxels, wanted)
    assert found.placement == whole.placement
    expected = network_input(whole, wanted)
    limit = TOLERANCE * float(np.ptp(expected))
    np.testing.assert_allclose(together(found.voxels), expected, atol=limit, rtol=0)
    labels = (array[0] // 300).astype(np.int8) - 1
    label_voxels = in_memory(Image(labels[None], Geometry(old)))
    placed = prepare_label_voxels(label_voxels, found.placement, wanted, old)
    expected = prepare_labels(labels, whole.placement, wanted, old)
    differ = together(placed)[0] != expected
    assert differ.mean() < 1e-3  # where two classes cover a voxel equally


def test_an_image_of_zeros_keeps_its_box():
    array = np.zeros((2, 30, 31), np.uint8)
    found = prepare_voxels(in_memory(Image(array, Geometry((1.0, 1.0)))), recipe((1.0, 1.0)))
    assert found.placement.box == ((0, 30), (0, 31))


def test_a_region_is_not_filled_block_by_block():
    voxels = in_memory(Image(image((30, 31)), Geometry((1.0, 1.0))))
    masked = recipe((1.0, 1.0), channels=(small_channel(use_mask=True), small_channel()))
    assert not prepare_blocks.can_prepare(voxels, masked)
    with pytest.raises(ValueError, match="all of the image"):
        prepare_voxels(voxels, masked)

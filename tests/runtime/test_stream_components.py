"""Objects looked for slab by slab are those of the whole image."""

import numpy as np
import pytest
from scipy import ndimage

from autoseg.runtime import stream_components
from autoseg.runtime.postprocess import apply_steps, remove_small
from autoseg.runtime.recipe import KeepLargest, SmallestObject
from autoseg.runtime.stream_components import correct_in_place, find_components


def draw_labels(shape: tuple[int, ...], seed: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.3)
    return np.digitize(noise, np.quantile(noise, (0.5, 0.75))).astype(np.uint8)


@pytest.mark.parametrize("slab", [1, 90, 1000, 10**9])
@pytest.mark.parametrize("shape", [(60, 45), (20, 18, 22), (1, 30)], ids=str)
def test_labels_are_corrected_as_in_memory(monkeypatch, shape, slab):
    monkeypatch.setattr(stream_components, "SLAB_VOXELS", slab)
    labels = draw_labels(shape, 3)
    steps = (KeepLargest(classes=(1, 2)), KeepLargest(classes=(2,)))
    smallest = (SmallestObject(class_index=1, size=12.0),)
    expected = remove_small(apply_steps(labels, steps), smallest, 0.5)
    calls = []
    correct_in_place(labels, steps, smallest, 0.5, lambda: calls.append(1))
    np.testing.assert_array_equal(labels, expected)
    assert calls


def test_parts_that_join_in_a_later_slab_are_one(monkeypatch):
    monkeypatch.setattr(stream_components, "SLAB_VOXELS", 1)
    labels = np.zeros((4, 5), np.uint8)
    labels[:, 0] = labels[:, 4] = labels[3] = 1
    labels[0, 2] = 1
    found = find_components(labels, lambda part: part == 1, lambda: None)
    assert found.sizes.tolist() == [11, 1]


def test_labels_without_objects_stay(monkeypatch):
    monkeypatch.setattr(stream_components, "SLAB_VOXELS", 1)
    labels = np.zeros((4, 5), np.uint8)
    correct_in_place(
        labels,
        (KeepLargest(classes=(1,)),),
        (SmallestObject(class_index=1, size=3.0),),
        1.0,
        lambda: None,
    )
    assert not labels.any()

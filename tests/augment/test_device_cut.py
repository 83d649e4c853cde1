import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.augment.device_cut import Cut
from autoseg.augment.padding import read_image, read_labels
from autoseg.seeds import stream


class Case:
    """A case that stays where it is."""

    def __init__(self, *arrays):
        self.held = arrays

    def arrays(self):
        return self.held


@st.composite
def cases(draw):
    """Return an image (2, *D), labels (*D) and a box that may overhang them on any side."""
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
    rng = stream(draw(st.integers(0, 99)), "cut")
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    image = rng.normal(0, 9, (2, *shape)).astype(dtype)
    labels = rng.integers(-1, 4, shape).astype(draw(st.sampled_from([np.int8, np.int16])))
    lows = [draw(st.integers(-9, 9)) for _ in shape]
    return image, labels, tuple((low, low + draw(st.integers(1, 9))) for low in lows)


@pytest.mark.parametrize("padding", ["zero", "mirror"])
@settings(max_examples=50)
@given(case=cases())
def test_a_device_cuts_what_the_processor_reads(padding, case):
    image, labels, box = case
    size = tuple(high - low for low, high in box)
    cut = Cut(Case(torch.from_numpy(image), torch.from_numpy(labels)), box, size, padding)
    found, known = cut.apply(lambda tensor: tensor)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), read_image(image, box, padding=padding))
    np.testing.assert_array_equal(known.numpy(), read_labels(labels, box))


def test_a_slice_is_cut_of_a_volume():
    image = torch.arange(24.0).reshape(1, 2, 3, 4)
    box = ((1, 2), (0, 2), (3, 5))
    cut = Cut(Case(image, image[0].to(torch.int8)), box, (2, 2), "zero")
    found, known = cut.apply(lambda tensor: tensor)
    assert found.tolist() == [[[15.0, 0.0], [19.0, 0.0]]]
    assert known.tolist() == [[15, -1], [19, -1]]

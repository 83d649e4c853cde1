"""Pictures of signals in the report."""

import base64
import io

import numpy as np
import pytest
from PIL import Image as Picture

from autoseg.report.traces import IGNORED, WINDOW, busiest, draw_trace, runs, stacked
from autoseg.runtime.images import Geometry, Image


def test_stretches_of_labels_are_found():
    labels = np.array([1, 1, 0, 2, 1, -1, -1, 0])
    assert list(runs(labels)) == [(0, 2, 1), (3, 4, 2), (4, 5, 1), (5, 7, -1)]
    assert list(runs(np.zeros(4, int))) == []


def test_the_part_with_most_errors_is_shown():
    reference = np.zeros(5 * WINDOW, int)
    reference[100:200] = 1
    prediction = reference.copy()
    assert busiest(reference, prediction).start <= 100
    prediction[7000:7050] = 2
    part = busiest(reference, prediction)
    assert part.start <= 7000
    assert 7050 <= part.stop == part.start + WINDOW


def test_samples_without_annotation_are_no_errors():
    reference = np.full(2 * WINDOW, -1)
    reference[:WINDOW] = 0
    prediction = np.ones_like(reference)
    prediction[: WINDOW - 10] = 0
    assert busiest(reference, prediction) == slice(0, WINDOW)


def test_channels_stand_below_each_other_even_constant_ones():
    lines = stacked(np.array([[0.0, 4.0], [7.0, 7.0]]))
    np.testing.assert_allclose(lines, [[0, 1], [-1.1, -1.1]])


@pytest.mark.parametrize(
    ("length", "unit", "view"),
    [
        (50, "s", "whole signal"),
        (1, "s", "whole signal"),
        (5000, "s", "0 to 4 s of 10 s"),
        (5000, "pixel", "samples 1 to 2000 of 5000"),
    ],
)
def test_a_signal_is_drawn_over_its_classes(length, unit, view):
    labels = np.zeros(length, int)
    labels[: length // 2] = 1
    labels[-length // 10 :] = -1
    step = 0.002 if unit == "s" else 1.0
    signal = Image(np.random.default_rng(0).normal(size=(1, length)), Geometry((step,), unit=unit))
    source, shown = draw_trace(signal, labels, labels)
    assert shown == view
    data = base64.b64decode(source.removeprefix("data:image/webp;base64,"))
    pixels = np.asarray(Picture.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert pixels[0, 0].min() > 250  # white, also on a dark page
    if length > 1:
        assert (pixels[..., 2] > pixels[..., 0] + 30).sum() > 1000  # the first class
    assert IGNORED.startswith("#")

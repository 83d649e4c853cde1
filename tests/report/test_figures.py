"""Figures, overlays and numbers of the report."""

import base64
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image as Picture

from autoseg.evaluate.scores import CaseScore, ClassScore
from autoseg.evaluate.statistics import summarise
from autoseg.report import overlays, text
from autoseg.report.contents import FoldContents
from autoseg.report.figures import INK, dice_by_class, learning_curves
from autoseg.runtime.images import Geometry, Image
from autoseg.workspace import FoldFolder


def fold(tmp_path, *lines):
    return FoldContents(
        configuration="2d",
        fold="0",
        folder=FoldFolder(tmp_path),
        settings=None,
        result=None,
        metrics=lines,
    )


def case(*dices):
    classes = [
        ClassScore(dice=dice, iou=dice, hd95=1.0, nsd=dice, predicted_voxels=1, reference_voxels=1)
        for dice in dices
    ]
    return CaseScore(case_id="a", classes=tuple(classes))


def test_figures_take_the_colour_of_the_page(tmp_path):
    lines = [{"step": step, "loss": 1 / step, "dice": 0.5} for step in range(1, 1000)]
    drawn = learning_curves([fold(tmp_path, *lines)])
    assert drawn is not None
    assert "currentColor" in drawn
    assert INK not in drawn
    assert "xmlns" not in drawn
    assert len(drawn) < 60_000  # thinned
    texts = ElementTree.fromstring(drawn.replace("xlink:", "")).iter("text")
    assert "Dice of some validation cases" in {"".join(item.itertext()).strip() for item in texts}


def test_log_without_numbers_has_no_curve(tmp_path):
    lines = ({"step": 1, "loss": float("nan")}, {"event": "begun"}, {"loss": 3.0})
    assert learning_curves([fold(tmp_path, *lines)]) is None


def test_classes_that_never_count_do_not_break_the_chart():
    scores = [case(0.5, None), case(0.7, None)]
    assert dice_by_class(scores, ("a", "$b"), summarise(scores)) is not None
    nothing = [case(None, None)]
    assert dice_by_class(nothing, ("a", "b"), summarise(nothing)) is None


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, [("worst", 0)]),
        (3, [("worst", 0), ("median", 1), ("best", 2)]),
        (10, [("worst", 0), ("second worst", 1), ("median", 5), ("best", 9)]),
    ],
)
def test_cases_shown_are_the_worst_median_and_best(count, expected):
    assert overlays._places(count) == expected


def test_slice_lies_across_the_coarsest_axis_where_most_foreground_is():
    labels = np.zeros((20, 30, 6), np.int8)
    labels[5:9, 5:9, 4] = 1
    geometry = Geometry(spacing=(1.0, 0.5, 4.0))
    image = Image(np.zeros((1, *labels.shape), np.float32), geometry)
    plane, spacing, view = overlays.choose_plane(image, labels, labels)
    assert plane == (slice(None), slice(None), 4)
    assert spacing == (1.0, 0.5)
    assert view == "slice 5 of 6 along axis 2"


def test_picture_is_as_wide_as_its_voxels():
    labels = np.zeros((40, 40), np.int8)
    labels[10:30, 10:30] = 1
    shown = overlays._Slice(np.zeros((40, 40)), labels, labels, aspect=2.0, view="")
    source = overlays._draw(shown)
    picture = Picture.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2])))
    assert picture.width / picture.height == pytest.approx(3 / 2, rel=0.15)


def test_tiny_foreground_is_zoomed_and_none_is_not():
    labels = np.zeros((500, 400), np.int8)
    assert overlays.zoom_box(labels, labels) == (slice(None), slice(None))
    labels[100:110, 200:220] = 1
    rows, columns = overlays.zoom_box(labels, labels)
    assert rows.stop - rows.start == overlays.MIN_ZOOM
    assert columns.start <= 200
    assert columns.stop >= 220


def test_numbers_are_written_for_people():
    assert text.duration(0.352) == "0.35 s"
    assert text.duration(7500) == "2 h 05 min"
    assert text.size(1_234_567) == "1.2 MB"
    assert text.number(None) == text.MISSING
    assert text.count(1234567) == "1\u202f234\u202f567"
    assert text.short(58740.4) == "58\u202f740"
    assert text.percent(0.99984, 2) == "99.98 %"

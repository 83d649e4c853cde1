import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.open import open_dataset
from autoseg.report.first_look import class_colours, draw_cases
from autoseg.testing.layouts import LAYOUTS


@pytest.mark.parametrize("name", ["nnunet", "signals"])
def test_volumes_and_signals_are_drawn(name, tmp_path):
    LAYOUTS[name](tmp_path)
    dataset = open_dataset(tmp_path, None, None)
    path = tmp_path / "pictures" / "look.png"
    draw_cases(dataset, dataset.cases[:1], path)
    colours = np.asarray(Pillow.open(path).convert("RGB")).astype(int)
    assert (colours[..., 2] > colours[..., 0] + 60).sum() > 100  # the first class
    assert (colours[..., 0] > colours[..., 2] + 60).sum() > 100  # the second


def test_voxels_that_are_not_annotated_are_grey(tmp_path):
    LAYOUTS["folders"](tmp_path)
    dataset = open_dataset(tmp_path, None, None)
    labels = dataset.labels
    ignoring = type(labels)(names=labels.names[:2], values=labels.values[:2], ignore=2)
    draw_cases(dataset.revised(labels=ignoring), dataset.cases[:1], tmp_path / "look.png")
    draw_cases(dataset, dataset.cases[:1], tmp_path / "all.png")
    ignored, shown = (
        np.asarray(Pillow.open(tmp_path / name).convert("RGB")).astype(int)
        for name in ("look.png", "all.png")
    )
    orange = [(c[..., 0] > c[..., 2] + 60).sum() for c in (ignored, shown)]
    assert orange[0] == 0 < orange[1]


@pytest.mark.parametrize("count", [2, 9, 10, 40])
def test_every_class_has_its_own_colour(count):
    assert len(set(class_colours(count))) == count - 1

from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.lossy import declared_greys, gathered_colours, lossy_suggestion
from autoseg.dataset.open import open_dataset
from autoseg.errors import AutosegError
from autoseg.runtime.recipe import Labels

SHAPE = (64, 80)
COLOURS = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (20, 60, 250))


def classes(seed=0):
    """Return blocks of 16 pixels, each of a class."""
    blocks = np.random.default_rng(seed).integers(0, len(COLOURS), (4, 5))
    return np.kron(blocks, np.ones((16, 16), int))


def jpeg(path, colours, array, quality=75):
    path.parent.mkdir(exist_ok=True)
    Pillow.fromarray(np.array(colours, np.uint8)[array]).save(path, quality=quality)
    return path


def test_the_colours_that_jpeg_smeared_are_found(tmp_path):
    paths = [jpeg(tmp_path / f"{i}.jpg", COLOURS, classes(i)) for i in range(3)]
    found = gathered_colours(paths)
    assert found is not None
    codes = np.array([[c >> 16, c >> 8 & 255, c & 255] for c in found])
    nearest = [np.abs(codes - colour).max(axis=1).min() for colour in COLOURS]
    assert len(found) == len(COLOURS)
    assert max(nearest) <= 4


def test_the_declared_colours_are_read_as_the_nearest(tmp_path):
    for index in range(3):
        jpeg(tmp_path / f"masks/{index}.jpg", COLOURS, classes(index))
        jpeg(tmp_path / f"images/{index}.jpg", COLOURS, classes(index + 9))
    names: dict[str, Any] = {
        f"c{i}": "#{:02x}{:02x}{:02x}".format(*c) for i, c in enumerate(COLOURS)
    }
    dataset = open_dataset(tmp_path, DatasetSpec(labels=names), None)
    for index, case in enumerate(dataset.cases):
        right = read_case(dataset, case)[1] == classes(index)
        assert right.mean() > 0.97
    few = DatasetSpec(labels={"a": "#000000", "b": "#ff0000"})
    dataset = open_dataset(tmp_path, few, None)
    with pytest.raises(AutosegError, match="near to none of the declared ones"):
        read_case(dataset, dataset.cases[0])


def test_photographs_and_black_and_white_get_no_colours(tmp_path):
    photo = tmp_path / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
    Pillow.fromarray(noise).save(photo)
    assert lossy_suggestion([photo]) is None
    white = jpeg(tmp_path / "white.jpg", [0, 255], classes() % 2)
    assert lossy_suggestion([white]) is None


def test_declared_numbers_that_are_shades_become_colours(tmp_path):
    path = jpeg(tmp_path / "a.jpg", [0, 80, 160, 240], classes())
    names = ("background", "a", "b", "c")
    shades = Labels(names=names, values=(0, 80, 160, 240))
    assert declared_greys(path, shades) == {
        "background": "#000000",
        "a": "#505050",
        "b": "#a0a0a0",
        "c": "#f0f0f0",
    }
    assert declared_greys(path, Labels(names=names, values=(0, 1, 2, 3))) is None

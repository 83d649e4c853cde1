import re

import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.open import open_dataset
from autoseg.dataset.problems import DatasetProblems
from autoseg.errors import DatasetError


def masks(root, *values):
    """Write a case for each tuple of values."""
    for index, shown in enumerate(values):
        mask = np.zeros((8, 8), np.uint8)
        for row, value in enumerate(shown):
            mask[row] = value
        image = np.arange(64, dtype=np.uint8).reshape(8, 8)
        for folder, array in (("images", image), ("masks", mask)):
            (root / folder).mkdir(exist_ok=True)
            Pillow.fromarray(array).save(root / folder / f"c{index}.png")
    return root


def test_foreground_that_is_1_here_and_255_there_is_one_class(tmp_path):
    root = masks(tmp_path, (1,), (255,), (), (255,))
    with pytest.raises(DatasetProblems) as caught:
        open_dataset(root, None, None)
    (finding,) = caught.value.findings
    assert finding.files == ("masks/c1.png", "masks/c3.png")
    assert finding.fix == {"label_map": {"255": 1}}
    assert '"class_255": 255' in finding.remedy
    dataset = open_dataset(root, DatasetSpec(**(finding.fix or {})), None)
    assert dataset.labels.values == (0, 1)
    assert [int(read_case(dataset, case)[1].sum()) for case in dataset.cases] == [8, 8, 0, 8]


@pytest.mark.parametrize(
    ("values", "ignore", "classes"),
    [
        (((1,), (255,), (1, 255)), None, (0, 1, 255)),
        (((1,), (255,)), 255, (0, 1)),
        (((1,), (2, 255)), None, (0, 1, 2, 255)),
        (((1,), (254,)), None, (0, 1, 254)),
    ],
)
def test_other_values_are_classes(tmp_path, values, ignore, classes):
    dataset = open_dataset(masks(tmp_path, *values), DatasetSpec(ignore=ignore), None)
    assert dataset.labels.values == classes


def test_what_the_remedy_declares_makes_one_class_of_instances(tmp_path):
    root = masks(tmp_path, tuple(range(8)))
    numbers = np.arange(64, dtype=np.uint16).reshape(8, 8)
    Pillow.fromarray(numbers).save(root / "masks/c0.png")
    with pytest.raises(DatasetError, match="64 different values") as caught:
        open_dataset(root, None, None)
    (told,) = re.findall(r"declare ({.*?}) in", str(caught.value))
    dataset = open_dataset(root, DatasetSpec.from_json(told, "remedy"), None)
    assert dataset.labels.values == (0, 1)
    assert int(read_case(dataset, dataset.cases[0])[1].sum()) == 63

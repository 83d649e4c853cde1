import numpy as np
import pytest

from autoseg.dataset.case import read_case
from autoseg.dataset.open import open_dataset
from autoseg.testing.synthetic import Style, draw_balls, write_dataset, write_rings, write_spheres


def test_every_class_is_brighter_than_the_one_before(tmp_path):
    root = write_spheres(tmp_path / "a", num_cases=3, seed=0, num_classes=4)
    dataset = open_dataset(root, None, None)
    for case in dataset.cases:
        image, classes = read_case(dataset, case)
        means = [image.array[0][classes == index].mean() for index in range(4)]
        assert (np.diff(means) > 40).all()


def test_balls_are_round_in_millimetres(tmp_path):
    root = write_spheres(
        tmp_path / "a", num_cases=1, seed=0, shape=(16, 48, 48), spacing=(3.0, 1.0, 1.0)
    )
    dataset = open_dataset(root, None, None)
    image, classes = read_case(dataset, dataset.cases[0])
    voxels = np.array([np.ptp(axis) + 1 for axis in np.nonzero(classes)])
    extents = voxels * np.array(image.geometry.spacing)
    assert extents.max() - extents.min() <= 4


def test_the_same_seed_writes_the_same_cases(tmp_path):
    datasets = [
        open_dataset(write_rings(tmp_path / name, num_cases=2, seed=seed), None, None)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    first, same, other = (read_case(dataset, dataset.cases[0]) for dataset in datasets)
    np.testing.assert_array_equal(first[0].array, same[0].array)
    assert (first[1] != other[1]).any()


@pytest.mark.parametrize("ending", [".png", ".tif", ".nii.gz"])
@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("layout", ["nnunet", "folders"])
def test_pictures_are_written_in_every_layout(tmp_path, ending, num_channels, layout):
    style = Style(
        shape=(20, 24),
        spacing=(1.0, 1.0),
        num_channels=num_channels,
        layout=layout,
        ending=ending,
    )
    root = write_dataset(tmp_path / "a", draw_balls, num_cases=2, seed=0, style=style)
    dataset = open_dataset(root, None, None)
    image, classes = read_case(dataset, dataset.cases[0])
    assert image.array.shape == (num_channels, 20, 24)
    assert classes.max() == 1

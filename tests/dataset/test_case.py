import numpy as np
import pytest

from autoseg.dataset.case import describe, inspect_case, read_case
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError
from autoseg.runtime.images import Geometry, Image, write_image, write_labels
from autoseg.testing.synthetic import write_spheres

SHAPE = (12, 14, 16)
GEOMETRY = Geometry((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))


@pytest.fixture
def dataset(tmp_path):
    return open_dataset(write_spheres(tmp_path / "a", num_cases=1, seed=0, shape=SHAPE), None, None)


def image_path(dataset):
    return dataset.root / dataset.cases[0].images[0]


def label_path(dataset):
    return dataset.label_paths(dataset.cases[0])[0]


def test_a_case_is_its_image_and_class_indices(dataset):
    image, classes = read_case(dataset, dataset.cases[0])
    assert image.array.shape == (1, *SHAPE)
    assert classes.shape == SHAPE
    assert classes.dtype == np.int8
    assert set(np.unique(classes)) == {0, 1}


def test_different_shapes_are_refused(dataset):
    write_labels(label_path(dataset), np.zeros((12, 14, 15), int), GEOMETRY)
    with pytest.raises(DatasetError, match="12 x 14 x 16, the labels 12 x 14 x 15"):
        read_case(dataset, dataset.cases[0])


@pytest.mark.parametrize(("spacing", "fits"), [(1.0005, True), (1.01, False)])
def test_spacings_must_agree_to_a_thousandth(dataset, spacing, fits):
    labels = np.ones(SHAPE, int)
    write_labels(label_path(dataset), labels, Geometry((1.0, 1.0, spacing)))
    _, _, findings = inspect_case(dataset, dataset.cases[0])
    assert [finding.severity for finding in findings] == ([] if fits else ["error"])


def test_different_positions_are_only_a_warning(dataset):
    image = Image(np.ones((1, *SHAPE), np.float32), GEOMETRY)
    write_image(image_path(dataset), image)
    moved = Geometry(GEOMETRY.spacing, (5.0, 0.0, 0.0), GEOMETRY.direction)
    write_labels(label_path(dataset), np.ones(SHAPE, int), moved)
    found, _, findings = inspect_case(dataset, dataset.cases[0])
    assert found is not None
    assert [finding.severity for finding in findings] == ["warning"]
    assert "origin" in findings[0].found


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_voxels_are_counted(dataset, value):
    array = np.ones((1, *SHAPE), np.float32)
    array[0, 0, 0, :3] = value
    write_image(image_path(dataset), Image(array, GEOMETRY))
    with pytest.raises(DatasetError, match="NaN or infinite values in 3 of"):
        read_case(dataset, dataset.cases[0])


def test_a_wrong_number_of_channels_is_named(dataset):
    write_image(image_path(dataset), Image(np.ones((2, *SHAPE), np.float32), GEOMETRY))
    with pytest.raises(DatasetError, match="2 channels"):
        read_case(dataset, dataset.cases[0])


def test_undeclared_values_are_named_with_their_file(dataset):
    write_labels(label_path(dataset), np.full(SHAPE, 9), GEOMETRY)
    _, _, findings = inspect_case(dataset, dataset.cases[0])
    assert "labelsTr/case_000.nii.gz: label values 9" in describe(findings[0])
    assert "0 (background), 1 (class_1)" in findings[0].expected


def test_problems_of_image_and_labels_are_found_together(dataset):
    image_path(dataset).write_bytes(b"no image")
    label_path(dataset).unlink()
    with pytest.raises(DatasetError) as caught:
        read_case(dataset, dataset.cases[0])
    assert "cannot be read" in caught.value.found
    assert "no file" in caught.value.found

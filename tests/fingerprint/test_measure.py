import time

import numpy as np
import pytest

from autoseg.dataset.open import open_dataset
from autoseg.fingerprint.fingerprint import CaseStats
from autoseg.fingerprint.measure import (
    MAX_CASE_SAMPLES,
    MAX_SAMPLES,
    class_facts,
    measure_case,
    sample_limit,
)
from autoseg.fingerprint.measured_file import measured_key
from autoseg.runtime.images import Geometry, Image, write_image, write_labels
from autoseg.testing.synthetic import write_spheres

SHAPE = (12, 14, 16)
GEOMETRY = Geometry((1.0, 1.0, 1.0))


@pytest.fixture
def root(tmp_path):
    return write_spheres(tmp_path / "a", num_cases=1, seed=0, shape=SHAPE)


def measured(root, image=None, labels=None):
    if image is not None:
        path = root / "imagesTr" / "case_000_0000.nii.gz"
        write_image(path, Image(image[None], GEOMETRY))
    if labels is not None:
        write_labels(root / "labelsTr" / "case_000.nii.gz", labels, GEOMETRY)
    dataset = open_dataset(root, None, None)
    result = measure_case(dataset, dataset.cases[0])
    assert result.stats is not None
    return result.stats, result.findings


@pytest.mark.parametrize("kind", [np.int8, np.int16])
@pytest.mark.parametrize("shape", [(20,), (9, 20), (5, 9, 20)])
def test_classes_are_counted_and_located(kind, shape):
    classes = np.zeros(shape, kind)
    classes[..., 4:6] = 2
    classes[..., 10:12] = 2
    classes[..., 0] = 1
    classes[..., -1] = -1
    facts = class_facts(classes, 4)
    others = int(np.prod(shape[:-1]))
    assert facts.voxels == (14 * others, others, 4 * others, 0)
    assert facts.components == (0, 1, 2, 0)
    assert facts.centres[1] == (*(0.5,) * (len(shape) - 1), 0.025)
    assert facts.centres[2] == (*(0.5,) * (len(shape) - 1), 0.4)
    assert facts.centres[0] == facts.centres[3] == ()


def test_fewer_foreground_voxels_than_classes_are_counted():
    classes = np.zeros((5, 6, 7), np.int8)
    classes[2, 3, 4] = 9
    facts = class_facts(classes, 12)
    assert facts.voxels[9] == facts.components[9] == 1
    assert sum(facts.voxels) == classes.size
    assert facts.centres[9] == (0.5, 0.5833, 0.6429)


def test_cases_without_foreground_have_no_places():
    facts = class_facts(np.zeros((4, 5), np.int8), 3)
    assert facts.voxels == (20, 0, 0)
    assert facts.centres == ((), (), ())


def test_margins_and_the_brightest_voxels_are_measured(root):
    image = np.full(SHAPE, -1000.0, np.float32)
    image[3:9, 4:10, 5:11] = np.arange(216).reshape(6, 6, 6)
    image[3, 4, :4] = 500
    stats, _ = measured(root, image)
    assert stats.padding == (-1000.0,)
    assert stats.brightest == (round(4 / image.size, 4),)
    assert measured(root, np.maximum(image, 0))[0].padding == ()


def test_foreground_at_the_border_is_measured(root):
    labels = np.zeros(SHAPE, int)
    labels[3:9, 4:10, 5:11] = 1
    assert measured(root, labels=labels)[0].border_foreground == 0
    assert measured(root, labels=1 - labels)[0].border_foreground == 1


def test_a_constant_channel_is_a_warning_that_names_the_file(root):
    _, (finding,) = measured(root, np.full(SHAPE, 7, np.float32))
    assert (finding.severity, finding.case) == ("warning", "case_000")
    assert finding.files == ("imagesTr/case_000_0000.nii.gz",)
    assert "is 7 in every voxel" in finding.found


def test_facts_that_were_not_measured_are_not_written():
    bare = CaseStats(case_id="a", shape=(2, 3), shape_after_crop=(2, 3), spacing=(1.0, 1.0))
    assert "thumbnail" not in bare.model_dump()
    assert "class_centres" not in bare.to_json()
    assert CaseStats.from_json(bare.to_json(), "a") == bare
    full = bare.revised(thumbnail="0" * 16, class_centres=((), (0.5, 0.5)), border_foreground=0.0)
    assert CaseStats.from_json(full.to_json(), "a") == full


def test_the_number_of_samples_falls_in_steps_with_the_number_of_cases_to_train_on(root):
    dataset = open_dataset(root, None, None)
    (case,) = dataset.cases
    tested = case.revised(split="test")

    def limit(count, num_tested=0):
        return sample_limit(dataset.revised(cases=(case,) * count + (tested,) * num_tested))

    assert limit(50) == limit(50, num_tested=30) == MAX_CASE_SAMPLES
    assert limit(60) == limit(100) == MAX_CASE_SAMPLES // 2
    assert limit(2000) * 2000 <= MAX_SAMPLES
    assert measured_key(dataset, case) == measured_key(dataset.revised(cases=(case,) * 9), case)
    assert measured_key(dataset, case) != measured_key(dataset.revised(cases=(case,) * 90), case)


def test_the_limit_of_samples_is_told_to_each_of_many_cases_in_a_moment(root):
    dataset = open_dataset(root, None, None)
    many = dataset.revised(cases=dataset.cases * 5_000)
    start = time.process_time()
    assert len({sample_limit(many) for _ in many.cases}) == 1
    assert time.process_time() - start < 1  # counting all cases for each takes 10 s and more
    assert len(many.revised(cases=dataset.cases).training_cases) == 1

import shutil
import threading
import time
import tracemalloc

import numpy as np
import pytest

from autoseg.dataset.open import open_dataset
from autoseg.dataset.problems import as_error
from autoseg.errors import DatasetError
from autoseg.fingerprint import fingerprint_dataset, measure
from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.fingerprint.fingerprint_dataset import peak_bytes, survey_dataset
from autoseg.runtime.images import Geometry, Image, read_labels, write_image, write_labels
from autoseg.testing.synthetic import write_rings, write_spheres

RAM = 1 << 30


@pytest.fixture
def root(tmp_path):
    return write_spheres(tmp_path / "spheres", num_cases=4, seed=0, shape=(12, 14, 16))


def fingerprint(root, folder, num_workers=2, ram_bytes=10**9, on_case=lambda case: None):
    found, findings = survey_dataset(
        open_dataset(root, None, None),
        folder,
        num_workers=num_workers,
        ram_bytes=ram_bytes,
        on_case=on_case,
    )
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors or found is None:
        raise as_error(errors)
    return found, findings


def geometry(spacing=(1.0, 1.0, 1.0)):
    return Geometry(spacing)


def test_a_fingerprint_says_what_the_cases_hold(root, tmp_path):
    image = np.zeros((1, 12, 14, 16), np.float32)
    image[0, 2:10, 3:9, 4:14] = 5
    labels = np.zeros((12, 14, 16), int)
    labels[3:5, 4:6, 5:7] = labels[7:9, 4:6, 5:7] = 1
    write_image(root / "imagesTr" / "case_000_0000.nii.gz", Image(image, geometry()))
    write_labels(root / "labelsTr" / "case_000.nii.gz", labels, geometry())
    found, findings = fingerprint(root, tmp_path / "measured")
    case = found.cases[0]
    assert case.case_id == "case_000"
    assert case.shape == (12, 14, 16)
    assert case.shape_after_crop == (8, 6, 10)
    assert case.class_voxels == (12 * 14 * 16 - 16, 16)
    assert case.class_components == (0, 2)
    assert case.foreground_means == (5.0,)
    assert case.dtype == "float32"
    assert found.intensities[0].min == 5.0
    assert found.unit == "mm"
    assert found.median_relative_size_after_cropping == 1.0
    assert not findings
    assert Fingerprint.from_json(found.to_json(), "fingerprint.json") == found


def test_the_number_of_workers_changes_nothing(root, tmp_path):
    one = fingerprint(root, tmp_path / "one", num_workers=1)
    assert fingerprint(root, tmp_path / "many", num_workers=4) == one


def test_only_changed_cases_are_read_again(root, tmp_path, monkeypatch):
    first, _ = fingerprint(root, tmp_path / "measured")
    read = []

    def counted(dataset, case):
        read.append(case.id)
        return measure.measure_case(dataset, case)

    monkeypatch.setattr(fingerprint_dataset, "measure", counted)
    seen = []
    assert fingerprint(root, tmp_path / "measured", on_case=seen.append)[0] == first
    assert read == []
    assert sorted(seen) == [case.case_id for case in first.cases]
    path = root / "labelsTr" / "case_002.nii.gz"
    write_labels(path, np.roll(read_labels(path).array[0], 1, axis=0), geometry())
    broken = next((tmp_path / "measured").iterdir())
    broken.write_bytes(broken.read_bytes()[:-7])
    second, _ = fingerprint(root, tmp_path / "measured")
    assert "case_002" in read
    assert len(read) in (1, 2)  # the broken file may be that of case_002
    assert second.cases[2].content_hash != first.cases[2].content_hash


def test_ignored_voxels_are_no_foreground(root, tmp_path):
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text(text.replace('"class_1": 1', '"class_1": 1, "ignore": 2'))
    labels = np.full((12, 14, 16), 2)
    labels[0], labels[1] = 0, 1
    image = np.full((1, 12, 14, 16), 1000, np.float32)
    image[0, 1] = 10
    write_image(root / "imagesTr" / "case_000_0000.nii.gz", Image(image, geometry()))
    write_labels(root / "labelsTr" / "case_000.nii.gz", labels, geometry())
    found, _ = fingerprint(root, tmp_path / "measured")
    assert found.cases[0].class_voxels == (224, 224)
    assert found.cases[0].class_components == (0, 1)
    assert found.cases[0].foreground_means == (10.0,)


def test_all_errors_of_all_cases_are_listed(root, tmp_path):
    (root / "imagesTr" / "case_000_0000.nii.gz").write_bytes(b"\x1f\x8b broken")
    write_labels(root / "labelsTr" / "case_001.nii.gz", np.full((12, 14, 16), 5), geometry())
    write_labels(root / "labelsTr" / "case_002.nii.gz", np.ones((12, 14, 17), int), geometry())
    with pytest.raises(DatasetError) as caught:
        fingerprint(root, tmp_path / "measured")
    found = caught.value.found
    assert "case_000_0000.nii.gz" in found
    assert "labelsTr/case_001.nii.gz: label values 5" in found
    assert "12 x 14 x 17" in found
    assert "case_003" not in found


def test_no_foreground_anywhere_is_an_error(root, tmp_path):
    for path in (root / "labelsTr").iterdir():
        write_labels(path, np.zeros((12, 14, 16), int), geometry())
    with pytest.raises(DatasetError, match="no foreground in any of 4"):
        fingerprint(root, tmp_path / "measured")


def test_mixed_numbers_of_axes_are_an_error(tmp_path):
    root = write_rings(tmp_path / "a", num_cases=3, seed=0, shape=(20, 20), ending=".tif")
    volume = np.zeros((3, 20, 20), np.uint8)
    volume[1, :9] = 1
    stack = Geometry((1.0,) * 3, unit="pixel")
    write_labels(root / "images" / "case_001.tif", volume + 1, stack)
    write_labels(root / "masks" / "case_001.tif", volume, stack)
    with pytest.raises(
        DatasetError, match=r"case_001\.tif: number of axes 3, while 2 cases have 2"
    ):
        fingerprint(root, tmp_path / "measured")


def test_pictures_have_pixels(tmp_path):
    root = write_rings(tmp_path / "a", num_cases=2, seed=0, num_channels=3, shape=(20, 22))
    found, _ = fingerprint(root, tmp_path / "measured")
    assert found.unit == "pixel"
    assert found.dimensions == 2
    assert found.cases[0].spacing == (1.0, 1.0)
    assert len(found.intensities) == 3


def test_copies_have_the_same_content_hash(root, tmp_path):
    shutil.copy(
        root / "imagesTr" / "case_000_0000.nii.gz", root / "imagesTr" / "case_003_0000.nii.gz"
    )
    shutil.copy(root / "labelsTr" / "case_000.nii.gz", root / "labelsTr" / "case_003.nii.gz")
    hashes = [case.content_hash for case in fingerprint(root, tmp_path / "m")[0].cases]
    assert hashes[0] == hashes[3]
    assert len(set(hashes)) == 3


def test_samples_are_all_voxels_or_as_many_as_allowed():
    array = np.arange(60.0).reshape(1, 3, 4, 5)
    classes = np.zeros((3, 4, 5), np.int8)
    classes[1] = 1
    rng = np.random.default_rng(0)
    everything = measure.sample_foreground(array, classes, 20, rng)
    np.testing.assert_array_equal(everything, np.arange(20.0, 40.0)[None])
    some = measure.sample_foreground(array, classes, 7, rng)
    assert some.shape == (1, 7)
    assert set(some[0]) <= set(range(20, 40))


def test_little_memory_means_one_case_at_a_time(root, tmp_path, monkeypatch):
    at_once, most, lock = 0, 0, threading.Lock()

    def counted(dataset, case):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.01)
        measured = measure.measure_case(dataset, case)
        with lock:
            at_once -= 1
        return measured

    monkeypatch.setattr(fingerprint_dataset, "measure", counted)
    fingerprint(root, tmp_path / "one", num_workers=4, ram_bytes=1)
    assert most == 1
    fingerprint(root, tmp_path / "many", num_workers=4)
    assert most > 1


def test_memory_is_told_by_the_extent_and_not_by_the_size_of_the_file(tmp_path):
    root = write_rings(tmp_path / "a", num_cases=2, seed=0, num_channels=3, shape=(20, 22))
    empty = np.zeros((3, 900, 1000), np.uint8)
    write_image(root / "images" / "case_001.png", Image(empty, geometry((1.0, 1.0))))
    empty[0, 50:850, 50:950] = 1
    write_labels(root / "masks" / "case_001.png", empty[0], geometry((1.0, 1.0)))
    dataset = open_dataset(root, None, None)
    small, large = (peak_bytes(dataset, case, RAM) for case in dataset.cases)
    assert large * 20 * 22 == small * 900 * 1000
    tracemalloc.start()
    measure.measure_case(dataset, dataset.cases[1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.3 * large < peak < large
    (root / "images" / "case_000.png").write_bytes(b"broken")
    assert peak_bytes(dataset, dataset.cases[0], RAM) == 0

import numpy as np
import pytest
import tifffile

from autoseg.dataset import big
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.open import open_dataset
from autoseg.fingerprint import measure as whole
from autoseg.fingerprint import measure_big
from autoseg.fingerprint.components import SlabComponents
from autoseg.fingerprint.measure import class_facts, measure_case
from autoseg.testing.big_pictures import write_pictures


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(big, "BIG_BYTES", 1000)
    monkeypatch.setattr(big, "SLAB_BYTES", 3000)


def check(root, **spec):
    """Return what a case was measured as, the same in slabs and at once."""
    dataset = open_dataset(root, DatasetSpec(**spec), None)
    found = measure_big.measure(dataset, dataset.cases[0])
    expected = measure_case(dataset, dataset.cases[0])
    assert found.stats is not None
    assert expected.stats is not None
    assert found.stats == expected.stats.revised(class_widths=(), class_lengths=())
    np.testing.assert_array_equal(found.samples, expected.samples)
    assert found.findings == expected.findings
    assert found.unit == expected.unit
    return found


@pytest.mark.parametrize("options", [{"tile": (16, 32)}, {"rowsperstrip": 7}], ids=str)
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_slabs_add_up_to_what_the_whole_case_has(tmp_path, kind, options):
    found = check(write_pictures(tmp_path, kind=kind, **options))
    assert found.stats is not None
    assert found.stats.shape_after_crop == (66, 87)


def test_the_same_voxels_are_drawn(tmp_path, monkeypatch):
    for module in (whole, measure_big):
        monkeypatch.setattr(module, "sample_limit", lambda _: 50)
    assert check(write_pictures(tmp_path)).samples.shape == (3, 50)


def test_stacks_are_measured_in_slabs(tmp_path):
    root, rng = tmp_path, np.random.default_rng(0)
    for name, high in (("images", 1000), ("masks", 3)):
        (root / name).mkdir()
        for index in range(2):
            stack = rng.integers(1 if high > 3 else 0, high, (9, 40, 50))
            kind = np.uint16 if high > 3 else np.uint8
            tifffile.imwrite(
                root / name / f"{index}.tif", stack.astype(kind), photometric="minisblack"
            )
    assert check(root).stats is not None


def test_ignored_voxels_and_constant_channels(tmp_path):
    root = write_pictures(tmp_path)
    image = np.zeros((70, 90, 3), np.uint8)
    image[..., 1:] = 7
    tifffile.imwrite(root / "images" / "case_0.tif", image, photometric="rgb")
    found = check(root, labels={"background": 0, "a": 1}, ignore=2)
    assert len(found.findings) == 3


def test_a_copy_of_the_mask_is_told(tmp_path):
    root = write_pictures(tmp_path, kind="u2")
    for index in range(3):
        mask = tifffile.imread(root / "masks" / f"case_{index}.tif")
        tifffile.imwrite(root / "images" / f"case_{index}.tif", mask)
    (finding,) = check(root).findings
    assert "copy" in finding.found


def test_cases_with_errors_are_not_measured(tmp_path):
    root = write_pictures(tmp_path)
    dataset = open_dataset(root, DatasetSpec(labels={"background": 0, "a": 1}), None)
    found = measure_big.measure(dataset, dataset.cases[0])
    assert found.stats is None
    assert "label values 2" in found.findings[0].found


@pytest.mark.parametrize("shape", [(60, 50), (20, 14, 16)])
@pytest.mark.parametrize("thick", [1, 3, 7])
def test_components_are_joined_across_slabs(shape, thick):
    rng = np.random.default_rng(0)
    classes = np.maximum(rng.integers(-4, 3, shape), -1).astype(np.int8)
    classes[11:14] = 0
    components = SlabComponents(3)
    for start in range(0, shape[0], thick):
        components.add(classes[start : start + thick])
    assert tuple(components.counts()) == class_facts(classes, 3).components

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from autoseg.dataset import big
from autoseg.dataset.case import inspect_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.open import open_dataset
from autoseg.errors import AutosegError
from autoseg.runtime import big_pictures
from autoseg.runtime.crop import box_slices
from autoseg.testing.big_pictures import write_pictures


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(big, "BIG_BYTES", 1000)
    monkeypatch.setattr(big, "SLAB_BYTES", 3000)


def opened(root, **spec):
    dataset = open_dataset(root, DatasetSpec(**spec), None)
    found = big.open_big(dataset, dataset.cases[0])
    assert found is not None
    return dataset, found


def check(root, **spec):
    """Return the findings, after a comparison with what is read at once."""
    dataset, found = opened(root, **spec)
    image, classes, findings = inspect_case(dataset, dataset.cases[0])
    assert [f.found for f in found.findings] == [f.found for f in findings]
    if image is None or classes is None:
        assert found.image is found.classes is None
        return found.findings
    assert found.image is not None
    assert found.classes is not None
    assert found.image.geometry == image.geometry
    whole = tuple((0, n) for n in image.shape)
    np.testing.assert_array_equal(found.image.read(whole), image.array)
    box = ((3, 40), (5, 60))
    for array, expected in ((found.classes.read(box)[0], classes),):
        np.testing.assert_array_equal(array, expected[box_slices(box)])
        assert array.dtype == expected.dtype
    return found.findings


@pytest.mark.parametrize("options", [{"tile": (32, 48)}, {"rowsperstrip": 5}, {}], ids=str)
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_big_cases_are_read_as_small_ones(tmp_path, options, kind):
    root = write_pictures(tmp_path, kind=kind, **options)
    assert check(root) == ()


def test_masks_without_declared_labels_are_counted_in_slabs(tmp_path):
    root = write_pictures(tmp_path, values=(0, 3, 200))
    dataset, _ = opened(root)
    assert dataset.labels.values == (0, 3, 200)


@pytest.mark.parametrize(
    "spec",
    [
        {"labels": {"background": 0, "a": 1, "b": 2}},
        {"labels": {"background": 0, "a": 1}, "label_map": {"2": 1}},
        {"labels": {"background": 0, "a": 1}, "threshold": 2},
        {"labels": {"background": 0, "a": 1}, "ignore": 2},
    ],
    ids=str,
)
def test_specs_say_how_big_masks_are_read(tmp_path, spec):
    check(write_pictures(tmp_path), **spec)


def test_masks_of_classes_are_painted_one_over_the_other(tmp_path):
    root = write_pictures(tmp_path)
    mask = tifffile.imread(root / "masks" / "case_0.tif")
    for name, value in (("a", 1), ("b", 2)):
        (root / name).mkdir()
        for index in range(3):
            tifffile.imwrite(root / name / f"case_{index}.tif", (mask >= value).astype(np.uint8))
    masks = {name: name + "/{case}.tif" for name in "ab"}
    check(root, images=("images/{case}.tif",), masks=masks)


def test_values_that_no_class_has_are_found_in_big_masks(tmp_path):
    findings = check(write_pictures(tmp_path), labels={"background": 0, "a": 1})
    assert "label values 2" in findings[0].found


def test_a_mask_of_another_shape_is_an_error(tmp_path):
    root = write_pictures(tmp_path)
    tifffile.imwrite(root / "masks" / "case_0.tif", np.ones((20, 30), np.uint8))
    assert "the labels 20 x 30" in check(root, labels={"background": 0, "a": 1})[0].found


@pytest.mark.parametrize("fixes", [(), ("replace_nan",)])
def test_broken_numbers_of_big_images_are_found_and_replaced(tmp_path, fixes):
    root = write_pictures(tmp_path, kind="f4", broken=True)
    findings = check(root, fixes=fixes)
    assert "NaN or infinite values in 2 of" in findings[0].found


def test_a_mask_that_can_only_be_read_at_once_lies_beside_a_big_image(tmp_path):
    root = write_pictures(tmp_path)
    for path in (root / "masks").iterdir():
        Pillow.fromarray(tifffile.imread(path)).save(path.with_suffix(".png"))
        path.unlink()
    assert check(root) == ()


def test_small_images_are_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(big, "BIG_BYTES", 1 << 20)
    root = write_pictures(tmp_path)
    dataset = open_dataset(root, None, None)
    assert big.open_big(dataset, dataset.cases[0]) is None
    assert big.memory_of(dataset, dataset.cases[0], 1 << 30) is None


def test_a_picture_compressed_in_one_piece_is_decoded_once_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(big_pictures, "MAX_PART_BYTES", 1000)
    root = write_pictures(tmp_path, compression="zlib", rowsperstrip=1000)
    assert check(root) == ()
    dataset = open_dataset(root, None, None)
    assert big.open_image(dataset, dataset.cases[0]) is None
    needed = big.memory_of(dataset, dataset.cases[0], 1 << 30)
    assert needed is not None
    assert needed > big.PASS_BYTES
    with pytest.raises(AutosegError, match=r"compressed in one piece(.|\n)*vips tiffsave"):
        big.memory_of(dataset, dataset.cases[0], 1000)

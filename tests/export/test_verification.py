import numpy as np
import pytest

from autoseg.dataset.case import read_case
from autoseg.dataset.open import open_dataset
from autoseg.export.verification import synthetic_image, write_image_files, write_synthetic
from autoseg.plan.registry import load_planner
from autoseg.runtime.images import read_image
from autoseg.testing.fingerprints import fingerprint_of, request_of
from autoseg.testing.layouts import write_zarr


def test_a_case_that_is_no_plain_file_travels_as_one(tmp_path):
    pytest.importorskip("zarr", reason="needs the extra zarr")
    (tmp_path / "data").mkdir()
    write_zarr(tmp_path / "data")
    dataset = open_dataset(tmp_path / "data", None, None)
    case = dataset.cases[1]
    names = write_image_files(
        tmp_path,
        dataset,
        case.id,
        plan=None,  # type: ignore[arg-type]  # only for synthetic images
        configuration=None,  # type: ignore[arg-type]
    )
    assert names == ("verification/image_0000.nii.gz",)
    image, _ = read_case(dataset, case)
    np.testing.assert_array_equal(read_image([tmp_path / names[0]]).array, image.array)


@pytest.mark.parametrize("unit", ["s", "pixel"])
def test_the_synthetic_signal_keeps_the_unit_of_training(tmp_path, unit):
    plan = load_planner("auto")(request_of(fingerprint_of([(5000,)] * 20, (0.5,))))
    plan = plan.revised(unit=unit)
    image = synthetic_image(plan.configurations[0], plan.seed, plan.unit)
    (name,) = write_synthetic(tmp_path, image, ".csv")
    read = read_image([tmp_path / name])
    np.testing.assert_array_equal(read.array, image.array)
    assert read.geometry.unit == unit

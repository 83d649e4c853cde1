import numpy as np
import pytest

from autoseg.dataset.case import read_case
from autoseg.dataset.open import open_dataset
from autoseg.export.verification import write_image_files
from autoseg.runtime.images import read_image
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
        configuration=None,  # type: ignore[arg-type]  # only for synthetic images
        seed=0,
    )
    assert names == ("verification/image_0000.nii.gz",)
    image, _ = read_case(dataset, case)
    np.testing.assert_array_equal(read_image([tmp_path / names[0]]).array, image.array)

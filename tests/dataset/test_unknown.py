from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset import unknown
from autoseg.dataset.open import open_dataset
from autoseg.dataset.unknown import MAX_LAYOUTS, unknown_folder
from autoseg.errors import DatasetError
from autoseg.testing.synthetic import write_rings


def pictures(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(np.zeros((4, 4), np.uint8)).save(path)


def layouts(error):
    """Return the names of the layouts that an error tells."""
    lines = error.expected.splitlines()
    return [line.strip().partition(":")[0] for line in lines if line.startswith("  ")]


def test_what_was_seen_is_counted_and_named(tmp_path):
    pictures(tmp_path, *(f"first/{i}.png" for i in range(5)), "second/0_mask.png")
    error = unknown_folder(tmp_path)
    assert "holds first/, second/" in error.found
    assert "5 images: first/0.png, first/1.png, first/2.png, ..." in error.found
    assert "1 file named like masks: second/0_mask.png" in error.found


def test_missing_masks_and_files_of_other_kinds_are_said(tmp_path):
    (tmp_path / "notes.docx").write_text("")
    assert "no file of a known kind of image: 1 .docx" in unknown_folder(tmp_path).found
    pictures(tmp_path, "first/a.png")
    assert "no file named like a mask" in unknown_folder(tmp_path).found


@pytest.mark.parametrize(
    ("files", "nearest"),
    [
        (("scan.zarr/zarr.json",), "zarr"),
        (("p1/1.dcm",), "dicom"),
        (("sub-01/t1.nii.gz",), "bids"),
        (("imagesTr/a_0000.nii.gz",), "nnunet"),
        (("paths.csv", "x/a.png"), "table"),
        (("a.png", "b.png"), "stems"),
        (("one/a.png", "two/a.png"), "folders"),
        ((), "folders"),
    ],
)
def test_few_layouts_are_told_the_nearest_first(files, nearest, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    error = unknown_folder(tmp_path)
    assert layouts(error)[0] == nearest
    assert len(layouts(error)) <= MAX_LAYOUTS
    assert "docs/layouts.md" in error.expected
    assert "autoseg import" in error.fix


def test_layouts_of_other_packages_are_always_told(tmp_path, monkeypatch):
    def find_cases(root, spec) -> Any: ...

    find_cases.__module__ = "third_party"
    other = SimpleNamespace(
        name="npz", expects="*.npz", find_cases=find_cases, is_found=lambda _: False
    )
    known = (*unknown.formats(), other)
    monkeypatch.setattr(unknown, "formats", lambda: known)
    assert layouts(unknown_folder(tmp_path))[-1] == "npz"


def test_a_data_set_one_folder_deeper_is_pointed_to(tmp_path):
    write_rings(tmp_path / "download" / "rings", num_cases=2, seed=0)
    (tmp_path / "download" / "papers").mkdir()
    with pytest.raises(DatasetError, match="holds") as caught:
        open_dataset(tmp_path / "download", None, None)
    place = caught.value.fix.removeprefix("point to ").partition(",")[0]
    assert place == str(tmp_path / "download" / "rings")
    assert open_dataset(tmp_path / "download" / "rings", None, None).cases

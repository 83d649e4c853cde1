import json

import pytest

from autoseg.dataset.formats.nnunet import is_found
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError
from autoseg.testing.synthetic import Style, draw_balls, write_dataset

REGIONS = {"background": 0, "whole": [1, 2], "core": 2}


@pytest.fixture
def listed(tmp_path):
    """A folder whose dataset.json lists the files of each case, which lie anywhere."""
    style = Style(shape=(8, 9, 10), spacing=(1.0,) * 3, num_channels=2)
    root = write_dataset(tmp_path / "Dataset001", draw_balls, num_cases=2, seed=0, style=style)
    (root / "imagesTr").rename(root / "scans")
    (root / "labelsTr").rename(tmp_path / "elsewhere")
    cases = {
        f"p{index}": {
            "images": [f"scans/case_{index:03d}_{channel:04d}.nii.gz" for channel in (0, 1)],
            "label": str(tmp_path / "elsewhere" / f"case_{index:03d}.nii.gz"),
        }
        for index in (0, 1)
    }
    describe(root, dataset=cases)
    return root


def describe(root, **changes):
    path = root / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_files_may_be_listed_relative_or_absolute(listed):
    dataset = open_dataset(listed, None, None)
    assert dataset.layout == "nnunet"
    assert [case.id for case in dataset.cases] == ["p0", "p1"]
    assert dataset.cases[1].images == (
        "scans/case_001_0000.nii.gz",
        "scans/case_001_0001.nii.gz",
    )
    assert dataset.label_paths(dataset.cases[0])[0].is_file()


def test_files_that_are_listed_and_missing_are_named(listed):
    content = json.loads((listed / "dataset.json").read_text())["dataset"]
    content["p0"]["images"].append("scans/third.nii.gz")
    content["a/b"] = content["p1"]
    describe(listed, dataset=content)
    (listed / "scans" / "case_001_0001.nii.gz").unlink()
    with pytest.raises(DatasetError) as caught:
        open_dataset(listed, None, None)
    assert "case_001_0001.nii.gz" in caught.value.found
    assert "p0: 3 images for 2 channels" in caught.value.found
    assert "a/b: an id that is no name of a file" in caught.value.found


def test_a_list_of_another_form_is_refused(listed):
    content = json.loads((listed / "dataset.json").read_text())["dataset"]
    describe(listed, dataset=content | {"p9": {"image": "x.nii.gz"}})
    with pytest.raises(DatasetError, match="dataset"):
        open_dataset(listed, None, None)
    describe(listed, dataset="a name")
    assert not is_found(listed)


def test_the_order_of_regions_is_accepted_where_it_fits(listed):
    describe(listed, labels=REGIONS, regions_class_order=[1, 2])
    labels = open_dataset(listed, None, None).labels
    assert [(region.name, region.classes) for region in labels.regions] == [
        ("whole", (1, 2)),
        ("core", (2,)),
    ]
    for order in ([1], "12", [1, 2.5]):
        describe(listed, regions_class_order=order)
        with pytest.raises(DatasetError, match="regions_class_order"):
            open_dataset(listed, None, None)


def test_the_order_of_regions_means_nothing_without_regions(listed):
    describe(listed, labels={"background": 0, "ball": 1}, regions_class_order=[1, 2, 3])
    assert open_dataset(listed, None, None).labels.regions == ()

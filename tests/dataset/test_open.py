import json
import shutil

import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.dataset import Dataset, DatasetSpec
from autoseg.dataset.open import open_dataset
from autoseg.dataset.problems import DatasetProblems
from autoseg.errors import DatasetError
from autoseg.runtime.images import Geometry, write_labels
from autoseg.testing.synthetic import Style, draw_balls, write_dataset, write_rings, write_spheres

VOLUME = Geometry((1.0, 1.0, 1.0))
PICTURE = Geometry((1.0, 1.0), unit="pixel")


@pytest.fixture
def spheres(tmp_path):
    return write_spheres(tmp_path / "spheres", num_cases=3, seed=0, shape=(12, 14, 16))


@pytest.fixture
def rings(tmp_path):
    return write_rings(tmp_path / "rings", num_cases=3, seed=0, shape=(24, 24))


def describe(root, **changes):
    path = root / "dataset.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_a_raw_folder_is_read_as_declared(spheres):
    dataset = open_dataset(spheres, None, None)
    assert dataset.layout == "nnunet"
    assert dataset.channel_files == "suffix"
    assert dataset.channels == ("channel_0",)
    assert dataset.labels.names == ("background", "class_1")
    assert dataset.labels_declared
    assert [case.id for case in dataset.cases] == ["case_000", "case_001", "case_002"]
    assert dataset.cases[0].images == ("imagesTr/case_000_0000.nii.gz",)
    assert Dataset.from_json(dataset.to_json(), "dataset.json") == dataset


def test_old_descriptions_are_read_like_new_ones(spheres):
    new = open_dataset(spheres, None, None)
    describe(
        spheres,
        channel_names=None,
        file_ending=None,
        modality={"0": "channel_0"},
        labels={"0": "background", "1": "class_1"},
    )
    assert open_dataset(spheres, None, None) == new


def test_files_without_channel_number_hold_all_channels(spheres):
    for path in (spheres / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace("_0000", "")))
    dataset = open_dataset(spheres, None, None)
    assert dataset.channel_files == "single"
    assert dataset.cases[1].images == ("imagesTr/case_001.nii.gz",)


def test_several_channels_come_in_the_order_of_their_numbers(tmp_path):
    style = Style(shape=(8, 10, 12), spacing=(1.0,) * 3, num_channels=3)
    root = write_dataset(tmp_path / "multi", draw_balls, num_cases=2, seed=0, style=style)
    names = open_dataset(root, None, None).cases[0].images
    assert [name[-11:-7] for name in names] == ["0000", "0001", "0002"]


def test_the_ignore_label_is_no_class(spheres):
    describe(spheres, labels={"background": 0, "class_1": 1, "ignore": 2})
    labels = open_dataset(spheres, None, None).labels
    assert labels.names == ("background", "class_1")
    assert labels.ignore == 2


def test_regions_become_classes_that_do_not_overlap(spheres):
    describe(spheres, labels={"background": 0, "whole": [1, 2], "core": 2})
    labels = open_dataset(spheres, None, None).labels
    assert labels.names == ("background", "rest of whole", "core")
    assert labels.values == (0, 1, 2)
    assert [(region.name, region.classes) for region in labels.regions] == [
        ("whole", (1, 2)),
        ("core", (2,)),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "labels"),
        ({"labels": {"background": 0, "a": 1.5}}, "whole number"),
        ({"labels": {"background": 0, "a": True}}, "whole number"),
        ({"labels": {"background": 0, "a": 0}}, "twice"),
        ({"labels": {"background": 0}}, "at least one other class"),
        ({"channel_names": None}, "channel_names"),
        ({"channel_names": {"1": "T1"}}, "from 0"),
        ({"channel_names": {"0": 3}}, "channel_names"),
        ({"file_ending": 3}, "file_ending"),
        ({"file_ending": ".mha"}, r"no files ending in \.mha, only \.gz"),
    ],
)
def test_nonsense_in_the_description_is_named(spheres, changes, message):
    describe(spheres, **changes)
    with pytest.raises(DatasetError, match=message):
        open_dataset(spheres, None, None)


def test_a_description_that_is_no_json_is_named(spheres):
    (spheres / "dataset.json").write_text("{labels:")
    with pytest.raises(DatasetError, match=r"dataset\.json is no JSON"):
        open_dataset(spheres, None, None)


def test_a_raw_folder_without_description_says_what_to_write(spheres):
    (spheres / "dataset.json").unlink()
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        open_dataset(spheres, None, None)


def test_all_problems_of_pairing_are_listed_at_once(tmp_path):
    style = Style(shape=(8, 10, 12), spacing=(1.0,) * 3, num_channels=2)
    root = write_dataset(tmp_path / "multi", draw_balls, num_cases=4, seed=0, style=style)
    (root / "labelsTr" / "case_000.nii.gz").unlink()
    (root / "imagesTr" / "case_001_0001.nii.gz").unlink()
    (root / "imagesTr" / "case_002_0000.nii.gz").unlink()
    (root / "imagesTr" / "case_002_0001.nii.gz").unlink()
    (root / "imagesTr" / "case_003_0001.nii.gz").rename(root / "imagesTr" / "stray.nii.gz")
    with pytest.raises(DatasetError) as caught:
        open_dataset(root, None, None)
    found = caught.value.found
    assert "no labels labelsTr/case_000" in found
    assert "imagesTr/case_001_0001.*: missing" in found
    assert "labelsTr/case_002.nii.gz: no image" in found
    assert "imagesTr/stray.nii.gz: no channel number" in found


def test_a_problem_bears_the_id_of_its_case_whatever_its_file_is_called(tmp_path):
    for name in ("x", "y"):
        Pillow.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    lines = ["id,image,label", "first,x.png,x.png", "second,gone.png,y.png", "third,y.png,y.png"]
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    with pytest.raises(DatasetProblems) as caught:
        open_dataset(tmp_path, None, None)
    (problem,) = caught.value.findings
    assert (problem.case, problem.files) == ("second", ("gone.png",))
    assert "take the case out of the list" in problem.remedy
    dataset = open_dataset(tmp_path, DatasetSpec(exclude={"second": "no image"}), None)
    assert [case.id for case in dataset.cases] == ["first", "third"]


def test_excluding_a_case_of_one_part_keeps_that_of_another(tmp_path):
    for part in ("train", "val"):
        for name in ("1", "2"):
            path = tmp_path / part / "images" / f"{name}.png"
            for file in (path, path.parents[1] / "masks" / path.name):
                file.parent.mkdir(parents=True, exist_ok=True)
                Pillow.fromarray(np.eye(8, dtype=np.uint8)).save(file)
    (tmp_path / "train" / "masks" / "1.png").unlink()
    (tmp_path / "val" / "masks" / "2.png").unlink()
    with pytest.raises(DatasetProblems) as caught:
        open_dataset(tmp_path, None, None)
    broken = {str(finding.case): "no mask" for finding in caught.value.findings}
    assert broken == {"train_1": "no mask", "val_2": "no mask"}
    dataset = open_dataset(tmp_path, DatasetSpec(exclude=broken), None)
    assert [case.id for case in dataset.cases] == ["train_2", "val_1"]


def test_broken_files_are_listed_together_with_missing_ones(spheres):
    (spheres / "labelsTr" / "case_000.nii.gz").unlink()
    broken = spheres / "imagesTr" / "case_001_0000.nii.gz"
    broken.write_bytes(broken.read_bytes()[:400])
    write_labels(spheres / "labelsTr" / "case_002.nii.gz", np.full((12, 14, 16), 3), VOLUME)
    with pytest.raises(DatasetError) as caught:
        open_dataset(spheres, None, None)
    found = caught.value.found
    assert "3 problems" in found
    assert "no labels labelsTr/case_000" in found
    assert "case_001_0000.nii.gz" in found
    assert "labelsTr/case_002.nii.gz: label values 3" in found


def test_undeclared_values_become_classes_in_rising_order(rings):
    for index, path in enumerate(sorted((rings / "masks").iterdir())):
        labels = np.zeros((24, 24), int)
        labels[:4], labels[4:8] = 7, (255 if index else 30)
        write_labels(path, labels, PICTURE)
    dataset = open_dataset(rings, None, None)
    assert dataset.labels.values == (0, 7, 30, 255)
    assert not dataset.labels_declared
    assert dataset.layout == "folders"
    assert dataset.channel_files == "single"
    assert dataset.channels == ("image",)
    assert dataset.file_ending == ".png"


def test_more_than_32_undeclared_values_are_no_classes(rings):
    values = np.arange(24 * 24).reshape(24, 24) % 33
    write_labels(rings / "masks" / "case_000.png", values, PICTURE)
    with pytest.raises(DatasetError, match=r"33 different values.*; masks/case_000\.png has 33"):
        open_dataset(rings, None, None)


def test_masks_without_foreground_are_refused(rings):
    for path in (rings / "masks").iterdir():
        write_labels(path, np.zeros((24, 24), int), PICTURE)
    with pytest.raises(DatasetError, match="no foreground"):
        open_dataset(rings, None, None)


def test_a_spec_inverts_masks(rings):
    spec = DatasetSpec(labels={"background": 255, "membrane": 0})
    labels = open_dataset(rings, spec, None).labels
    assert labels.names == ("background", "membrane")
    assert labels.values == (255, 0)


def test_jpeg_masks_are_all_listed_with_the_remedy(rings):
    for path in list((rings / "masks").iterdir())[:2]:
        Pillow.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    with pytest.raises(DatasetError) as caught:
        open_dataset(rings, None, None)
    assert caught.value.found.count("JPEG") == 2
    assert "PNG" in caught.value.fix


def test_endings_of_image_and_mask_may_differ(rings):
    for path in list((rings / "images").iterdir()):
        Pillow.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    dataset = open_dataset(rings, None, None)
    assert dataset.file_ending == ".jpg"
    assert dataset.cases[0].labels == ("masks/case_000.png",)


def test_colour_pictures_have_three_channels(tmp_path):
    root = write_rings(tmp_path / "c", num_cases=2, seed=0, num_channels=3, shape=(24, 24))
    assert open_dataset(root, None, None).channels == ("red", "green", "blue")


def test_numbers_of_pictures_are_no_channels(rings):
    for folder in ("images", "masks"):
        for index, path in enumerate(sorted((rings / folder).iterdir())):
            path.rename(path.with_name(f"photo_{index:04d}.png"))
    dataset = open_dataset(rings, None, None)
    assert dataset.channel_files == "single"
    assert [case.id for case in dataset.cases] == ["photo_0000", "photo_0001", "photo_0002"]


def test_plain_folders_may_have_channel_numbers(rings):
    for path in list((rings / "images").iterdir()):
        (rings / "images" / f"{path.stem}_0001.png").write_bytes(path.read_bytes())
        path.rename(path.with_name(f"{path.stem}_0000.png"))
    dataset = open_dataset(rings, None, None)
    assert dataset.channels == ("channel_0", "channel_1")
    assert dataset.channel_files == "suffix"


def test_two_folders_of_labels_are_ambiguous(rings):
    shutil.copytree(rings / "masks", rings / "labels")
    with pytest.raises(DatasetError, match="labels/ and masks/"):
        open_dataset(rings, None, None)


def test_the_same_name_twice_is_a_problem(rings):
    Pillow.open(rings / "images" / "case_000.png").save(rings / "images" / "case_000.bmp")
    with pytest.raises(DatasetError, match="same name in case_000"):
        open_dataset(rings, None, None)


def test_an_unknown_layout_shows_what_is_there_and_what_is_expected(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path, None, None)
    assert "pictures/" in caught.value.found
    assert "imagesTr/" in caught.value.expected
    with pytest.raises(DatasetError, match="no folder"):
        open_dataset(tmp_path / "absent", None, None)


def test_groups_come_from_the_expression(rings):
    dataset = open_dataset(rings, DatasetSpec(group_by="never"), r"case_(\d\d)")
    assert {case.group for case in dataset.cases} == {"00"}
    for pattern, message in (("(", "regular"), (r"patient(\d)", "3 of 3 cases do not match")):
        with pytest.raises(DatasetError, match=message):
            open_dataset(rings, None, pattern)


def test_strange_names_survive(rings):
    for folder in ("images", "masks"):
        (rings / folder / "case_000.png").rename(rings / folder / "<script> Größe 1.png")
    cases = open_dataset(rings, None, None).cases
    assert "<script> Größe 1" in [case.id for case in cases]


def test_real_data_sets_open(data):
    hippocampus = open_dataset(data / "hippocampus", None, None)
    assert len(hippocampus.cases) == 208
    acdc = open_dataset(data / "acdc", None, r"(patient\d+)")
    assert len({case.group for case in acdc.cases}) == 15
    assert acdc.labels.values == (0, 1, 2, 3)
    isbi = open_dataset(data / "isbi2012", None, None)
    assert isbi.labels.values == (0, 255)


def test_a_file_in_place_of_a_folder_is_called_a_file(tmp_path):
    (tmp_path / "image.png").touch()
    with pytest.raises(DatasetError, match="is a file") as caught:
        open_dataset(tmp_path / "image.png", None, None)
    assert caught.value.fix == "give the folder that holds it"

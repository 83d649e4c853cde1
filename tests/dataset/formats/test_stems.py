import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.stems import is_found, pair_stems
from autoseg.dataset.groups import group_findings
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError

SHAPE = (6, 7)


def write(root, *names, rows=3):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.zeros(SHAPE, np.uint8)
        array[:rows] = 1
        Pillow.fromarray(array).save(path)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("*.jpg", "*.png"),
        ("*.tif", "*.png"),
        ("*.png", "*.gif"),
        ("*.png", "*_mask.png"),
        ("*.jpg", "*-Label.png"),
        ("*.jpg", "*_segmentation.png"),
        ("*.png", "*.seg.png"),
        ("*_image.png", "*_label.png"),
    ],
)
def test_image_and_mask_lie_side_by_side(tmp_path, image, mask):
    names = ("a_1", "b c", "d.2")
    write(tmp_path, *(pattern.replace("*", name) for name in names for pattern in (image, mask)))
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.layout == "stems"
    assert [case.id for case in dataset.cases] == ["a_1", "b c", "d.2"]
    assert dataset.cases[0].images == (image.replace("*", "a_1"),)
    assert dataset.cases[0].labels == (mask.replace("*", "a_1"),)
    assert dataset.channels == ("image",)


def test_pictures_alone_are_no_pairs(tmp_path):
    write(tmp_path, "a.png", "b.png", "c.png", "d.jpg")
    assert not is_found(tmp_path)
    write(tmp_path, "d.png")
    assert not is_found(tmp_path)  # one pair of five files


def test_a_name_that_only_looks_like_a_mask_is_an_image(tmp_path):
    write(tmp_path, "food_label.jpg", "food_label.png", "b.jpg", "b.png")
    found = pair_stems(sorted(tmp_path.iterdir()))
    assert [case.stem for case in found.cases] == ["b", "food_label"]
    assert found.alone == ()


def test_what_has_no_partner_is_listed(tmp_path):
    write(tmp_path, "a.jpg", "a.png", "b.jpg", "b.png", "c.jpg", "d_mask.png")
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path, None, None)
    assert "c.jpg: no mask of this name" in caught.value.found
    assert "d_mask.png: no mask of this name" in caught.value.found


def test_two_different_masks_of_one_image_are_listed(tmp_path):
    write(tmp_path, "a.png", "a_mask.png", "b.png", "b_mask.png", "b_seg.png")
    with pytest.raises(DatasetError, match=r"b_mask\.png"):
        open_dataset(tmp_path, None, None)


def test_files_beside_a_mask_are_channels(tmp_path):
    for case_id in ("p1", "p2"):
        write(tmp_path / case_id, *(f"{case_id}_{name}.png" for name in ("t2", "seg", "t1")))
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.channels == ("t1", "t2")
    assert [case.id for case in dataset.cases] == ["p1", "p2"]
    assert dataset.cases[1].images == ("p2/p2_t1.png", "p2/p2_t2.png")
    chosen = open_dataset(tmp_path, DatasetSpec(channels=("T2", "T1")), None)
    assert chosen.cases[1].images == ("p2/p2_t2.png", "p2/p2_t1.png")
    (tmp_path / "p2" / "p2_t2.png").unlink()
    write(tmp_path, "p3/p3_t1.png", "p3/p3_t2.png", "p3/p3_seg.png")
    with pytest.raises(DatasetError, match=r"p2_seg\.png: expected the images p2_t1, p2_t2"):
        open_dataset(tmp_path, None, None)


def test_numbered_folders_are_groups(tmp_path):
    for patient in ("patient1", "patient2"):
        write(tmp_path / patient, "scan.tif", "scan_mask.tif", "later.tif", "later_mask.tif")
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.layout == "stems"
    assert {case.id: case.group for case in dataset.cases} == {
        "patient1_later": "patient1",
        "patient1_scan": "patient1",
        "patient2_later": "patient2",
        "patient2_scan": "patient2",
    }


def hospitals(root, *names):
    for name in names:
        write(root / name, *(f"p{i}{end}" for i in (1, 2) for end in (".tif", "_mask.tif")))
    return root


@pytest.mark.parametrize(
    "names", [("site1", "site2"), ("Hospital_A", "Hospital_B"), ("scannerX", "city-clinic")]
)
def test_folders_called_like_sites_are_sites_to_be_confirmed(tmp_path, names):
    dataset = open_dataset(hospitals(tmp_path, *names), None, None)
    assert {case.site for case in dataset.cases} == set(names)
    assert len({case.group for case in dataset.cases}) == 4
    (note,) = group_findings(dataset)
    assert note.severity == "note"
    assert f"{names[0]}: 2 cases" in note.found


@pytest.mark.parametrize(
    "names",
    [
        ("site1_patient1", "site2_patient2"),
        ("clinical_01", "clinical_02"),
        ("centerline", "parasite"),
        ("centers", "websites"),
    ],
)
def test_folders_of_patients_or_things_are_no_sites(tmp_path, names):
    dataset = open_dataset(hospitals(tmp_path, *names), None, None)
    assert {case.site for case in dataset.cases} == {None}
    assert {case.group for case in dataset.cases} == set(names)


def test_a_spec_says_whether_folders_are_sites_or_groups(tmp_path):
    hospitals(tmp_path, "north", "south")
    groups = open_dataset(tmp_path, None, None)
    assert {case.group for case in groups.cases} == {"north", "south"}
    assert {case.site for case in groups.cases} == {None}
    sites = open_dataset(tmp_path, DatasetSpec(site_by="folder"), None)
    assert [case.site for case in sites.cases] == ["north", "north", "south", "south"]
    assert len({case.group for case in sites.cases}) == 4
    assert group_findings(sites) == []
    patients = open_dataset(hospitals(tmp_path / "b", "site1", "site2"), None, "folder")
    assert {case.group for case in patients.cases} == {"site1", "site2"}
    assert {case.site for case in patients.cases} == {None}


def test_folders_of_sites_are_no_groups_where_an_expression_tells_the_site(tmp_path):
    root = hospitals(tmp_path, "site1", "site2")
    dataset = open_dataset(root, DatasetSpec(site_by=r"^site(\d)"), None)
    assert [case.site for case in dataset.cases] == ["1", "1", "2", "2"]
    assert len({case.group for case in dataset.cases}) == 4


def test_a_single_folder_is_what_a_spec_says(tmp_path):
    root = hospitals(tmp_path, "north")
    sites = open_dataset(root, DatasetSpec(site_by="folder"), None)
    assert [(case.group, case.site) for case in sites.cases] == [("p1", "north"), ("p2", "north")]
    groups = open_dataset(root, DatasetSpec(group_by="folder"), None)
    assert {(case.group, case.site) for case in groups.cases} == {("north", None)}


def test_a_single_folder_is_no_group(tmp_path):
    write(tmp_path / "Imgs", "a.tif", "a_mask.tif", "b.tif", "b_mask.tif")
    groups = [case.group for case in open_dataset(tmp_path, None, None).cases]
    assert groups == ["a", "b"]


def test_a_folder_of_one_case_gives_its_name(tmp_path):
    for patient in ("patient1", "patient2"):
        write(tmp_path / patient, "scan.tif", "scan_mask.tif")
    cases = open_dataset(tmp_path, None, None).cases
    assert [case.id for case in cases] == ["patient1", "patient2"]


def test_folders_of_an_official_split_are_no_groups(tmp_path):
    write(tmp_path / "train", "a.jpg", "a.png", "b.jpg", "b.png")
    write(tmp_path / "val", "c.jpg", "c.png")
    write(tmp_path / "test", "d.jpg", "e.jpg")
    dataset = open_dataset(tmp_path, None, None)
    assert [case.split for case in dataset.cases] == ["train", "train", "val"]
    assert {case.group for case in dataset.cases} == {"a", "b", "c"}


def test_numbered_masks_are_objects(tmp_path):
    write(tmp_path, "a (1).png", "b.png", "b_mask.png", "a (1)_mask.png")
    write(tmp_path, "a (1)_mask_1.png", rows=5)
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.labels.names == ("background", "object")
    assert dataset.cases[0].labels == ("a (1)_mask.png", "a (1)_mask_1.png")
    assert read_case(dataset, dataset.cases[0])[1][:, 0].tolist() == [1, 1, 1, 1, 1, 0]


def objects(root, *values, ending="png"):
    """Write two cases: one with a mask, one with two of them."""
    for name, value in zip(("a_mask", "b_mask1", "b_mask2"), values, strict=True):
        array = np.zeros((64, 64), np.uint8)
        array[8:40, 10:30] = value
        Pillow.fromarray(array).save(root / f"{name}.{ending}", quality=60)
    for name in ("a.png", "b.png"):
        Pillow.fromarray(np.arange(4096).astype(np.uint8).reshape(64, 64)).save(root / name)


def test_several_masks_of_a_case_show_one_class(tmp_path):
    objects(tmp_path, 255, 255, 255)
    with pytest.raises(DatasetError, match="labels background, a, b for cases of several masks"):
        open_dataset(tmp_path, DatasetSpec(labels={"background": 0, "a": 1, "b": 2}), None)


def test_a_map_of_values_beside_several_masks_of_a_case_is_refused(tmp_path):
    objects(tmp_path, np.repeat([[1], [2]], 16, axis=0), 1, 1)
    dataset = open_dataset(tmp_path, None, None)
    with pytest.raises(DatasetError, match=r"a_mask\.png: the values 0, 1, 2"):
        read_case(dataset, dataset.cases[0])


def test_compressed_masks_of_objects_are_split_in_the_middle(tmp_path):
    objects(tmp_path, 255, 255, 255, ending="jpg")
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.reading.threshold == 128
    assert [int(read_case(dataset, case)[1].sum()) for case in dataset.cases] == [640, 640]

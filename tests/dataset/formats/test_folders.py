import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.folders import is_found
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError

SHAPE = (6, 7)


def write(root, *names):
    """Write pictures that serve as images and as masks."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.zeros(SHAPE, np.uint8)
        array[:3] = 1
        Pillow.fromarray(array).save(path)


def pairs(root, images, labels, ids=("1", "2", "3")):
    """Write images and labels by patterns with * for the id."""
    write(root, *(pattern.replace("*", i) for i in ids for pattern in (images, labels)))
    return root


def ids_of(dataset):
    return [case.id for case in dataset.cases]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("Images/*.png", "Masks/*.png"),
        ("IMG/*.png", "GT/*.png"),
        ("imgs/*.jpg", "GroundTruth/*.png"),
        ("images_tr/*.png", "labels_tr/*.png"),
        ("image/*.tif", "ground-truth/*.tif"),
        ("images/*.png", "annotations/*.png"),
        ("images/*.png", "segmentations/*.png"),
    ],
)
def test_usual_names_of_folders_are_known_in_any_case(tmp_path, images, labels):
    dataset = open_dataset(pairs(tmp_path, images, labels), None, None)
    assert dataset.layout == "folders"
    assert ids_of(dataset) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("images", "labels", "ids"),
    [
        ("images/2*_training.tif", "1st_manual/2*_manual1.gif", ["21", "22", "23"]),
        ("images/img_00*.png", "masks/mask_00*.png", ["001", "002", "003"]),
        ("images/case*.png", "labels/case*_seg.png", ["case1", "case2", "case3"]),
        ("images/x_*_training.png", "masks/x_*_training_mask.png", None),
        ("images/a*b_1.png", "masks/seg_a*b_1.png", ["a1b_1", "a2b_1", "a3b_1"]),
        ("images/img*.png", "masks/label*.png", ["1", "2", "3"]),
    ],
)
def test_ids_are_what_names_share(tmp_path, images, labels, ids):
    dataset = open_dataset(pairs(tmp_path, images, labels), None, None)
    assert ids_of(dataset) == (ids or [f"x_{i}_training" for i in "123"])
    for case in dataset.cases:
        number = next(letter for letter in reversed(case.id) if letter in "123")
        assert number in case.images[0]
        assert number in case.labels[0]


def test_numbers_are_not_torn_apart(tmp_path):
    pairs(tmp_path, "images/*_t.png", "masks/*_m.png", ids=("101", "102", "111"))
    assert ids_of(open_dataset(tmp_path, None, None)) == ["101", "102", "111"]


def test_what_does_not_pair_by_related_names_is_listed(tmp_path):
    pairs(tmp_path, "images/*_training.png", "masks/*_manual.png", ids=map(str, range(10, 20)))
    (tmp_path / "masks" / "12_manual.png").unlink()
    write(tmp_path, "masks/77_manual.png", "images/overview.png")
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path, None, None)
    found = caught.value.found
    assert "images/12_training.png: no labels masks/12_manual.*" in found
    assert "masks/77_manual.png: no image images/77_training.*" in found
    assert "images/overview.png: its name is no <case>_training" in found
    assert "15" not in found


def test_names_that_have_nothing_in_common_are_listed(tmp_path):
    write(tmp_path, "images/cat.png", "images/dog.png", "masks/one.png", "masks/two.png")
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path, None, None)
    assert "images/cat.png: no labels" in caught.value.found
    assert "masks/two.png: no image" in caught.value.found


def test_manual_annotations_go_before_the_field_of_view(tmp_path):
    pairs(tmp_path, "images/2*_training.tif", "1st_manual/2*_manual1.gif")
    pairs(tmp_path, "images/2*_training.tif", "mask/2*_training_mask.gif")
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.cases[0].labels == ("1st_manual/21_manual1.gif",)


def test_of_several_folders_the_only_one_that_pairs_is_taken(tmp_path):
    pairs(tmp_path, "images/*.png", "labels/*.png")
    write(tmp_path, "masks/other.png")
    assert open_dataset(tmp_path, None, None).cases[0].labels == ("labels/1.png",)


def test_several_folders_are_refused_until_a_spec_names_one(tmp_path):
    pairs(tmp_path, "images/*.png", "labels/*.png")
    pairs(tmp_path, "images/*.png", "gt/*.png")
    with pytest.raises(DatasetError, match="gt/ and labels/") as caught:
        open_dataset(tmp_path, None, None)
    assert '{"masks": "gt"}' in caught.value.fix
    chosen = open_dataset(tmp_path, DatasetSpec(masks="gt"), None)
    assert chosen.cases[0].labels == ("gt/1.png",)
    with pytest.raises(DatasetError, match="no such folder"):
        open_dataset(tmp_path, DatasetSpec(masks="truth"), None)


def test_a_spec_may_name_a_folder_of_any_name(tmp_path):
    pairs(tmp_path, "images/*.png", "masks/*.png")
    pairs(tmp_path, "images/*.png", "second observer/*.png")
    chosen = open_dataset(tmp_path, DatasetSpec(masks="second observer/"), None)
    assert chosen.cases[0].labels == ("second observer/1.png",)


def test_two_folders_of_images_are_refused(tmp_path):
    pairs(tmp_path, "images/*.png", "masks/*.png")
    write(tmp_path, "img/1.png")
    with pytest.raises(DatasetError, match="images/ and img/"):
        open_dataset(tmp_path, None, None)


def test_folders_without_pictures_of_labels_are_another_layout(tmp_path):
    write(tmp_path, "images/1.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances.json").write_text("{}")
    assert not is_found(tmp_path)


def test_folders_of_an_official_split_are_its_parts(tmp_path):
    pairs(tmp_path, "train/images/*.png", "train/masks/*.png")
    pairs(tmp_path, "val/images/*.png", "val/masks/*.png", ids=("4",))
    dataset = open_dataset(tmp_path, None, None)
    assert {case.id: case.split for case in dataset.cases} == {
        "1": "train",
        "2": "train",
        "3": "train",
        "4": "val",
    }
    (tmp_path / "val" / "masks" / "4.png").unlink()
    with pytest.raises(DatasetError, match=r"val/images/4\.png: no labels"):
        open_dataset(tmp_path, None, None)


def test_ids_that_come_in_several_parts_carry_its_name(tmp_path):
    for part in ("training", "test"):
        pairs(tmp_path, f"{part}/images/*.png", f"{part}/masks/*.png", ids=("1",))
    assert ids_of(open_dataset(tmp_path, None, None)) == ["training_1", "test_1"]


def test_images_to_be_tested_on_without_labels_are_left_aside(tmp_path):
    pairs(tmp_path, "training/images/*_t.png", "training/1st_manual/*_m.png")
    pairs(tmp_path, "training/images/*_t.png", "training/mask/*_t_mask.png")
    pairs(tmp_path, "test/images/*_t.png", "test/mask/*_t_mask.png")
    dataset = open_dataset(tmp_path, None, None)
    assert {case.split for case in dataset.cases} == {"train"}


def test_palette_pictures_are_read_by_their_indices(tmp_path):
    pairs(tmp_path, "images/*.png", "masks/*.gif")
    for path in (tmp_path / "masks").iterdir():
        mask = Pillow.fromarray(np.repeat([[0, 1, 2]], 6, axis=0).astype(np.uint8)).convert("P")
        mask.putpalette([0, 0, 0, 200, 30, 30, 30, 200, 30])
        mask.save(path)
    for path in (tmp_path / "images").iterdir():
        Pillow.fromarray(np.zeros((6, 3), np.uint8)).save(path)
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.labels.values == (0, 1, 2)
    assert read_case(dataset, dataset.cases[0])[1][0].tolist() == [0, 1, 2]


def test_real_vessels_are_paired_by_related_names(data):
    dataset = open_dataset(data / "drive", None, None)
    assert len(dataset.cases) == 20
    case = dataset.cases[0]
    assert (case.id, case.labels) == ("21", ("1st_manual/21_manual1.gif",))
    share = (read_case(dataset, case)[1] > 0).mean()
    assert 0.05 < share < 0.15  # vessels, and not the field of view

import json

import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats import coco
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError

CATEGORIES = ({"id": 7, "name": "dog"}, {"id": 3, "name": "cat"})
"""Cats have value 1, dogs 2."""
SHAPE = (10, 12)


def box(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def annotation(number, image, category, segmentation):
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation}


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.arange(120, dtype=np.uint8).reshape(SHAPE)).save(path)


def write(path, names, annotations, categories=CATEGORIES):
    """Write a file about images with ids from 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [
        {"id": index + 1, "file_name": name, "height": SHAPE[0], "width": SHAPE[1]}
        for index, name in enumerate(names)
    ]
    content = {"images": images, "annotations": annotations, "categories": list(categories)}
    path.write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path):
    """Three pictures: a large dog with a cat on it, a cat, and nothing."""
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.png")
    listed = [
        annotation(1, 1, 3, box(3, 3, 5, 5)),
        annotation(2, 1, 7, box(1, 1, 9, 9)),
        annotation(3, 2, 3, box(0, 0, 4, 2)),
    ]
    write(tmp_path / "instances.json", ["a.png", "b.png", "c.png"], listed)
    return tmp_path


def classes(dataset, index=0):
    return read_case(dataset, dataset.cases[index])[1]


def test_categories_are_classes_by_rising_id(root):
    dataset = open_dataset(root, None, None)
    assert dataset.layout == "coco"
    assert dataset.labels.names == ("background", "cat", "dog")
    assert dataset.labels.values == (0, 1, 2)
    assert [case.id for case in dataset.cases] == ["a", "b", "c"]
    assert dataset.cases[0].images == ("images/a.png",)


def test_small_objects_lie_on_large_ones(root):
    expected = np.zeros(SHAPE)
    expected[1:9, 1:9] = 2
    expected[3:5, 3:5] = 1
    assert np.array_equal(classes(open_dataset(root, None, None)), expected)


def test_images_without_annotations_are_background(root):
    assert not classes(open_dataset(root, None, None), 2).any()


def test_changed_annotations_are_read_again(root):
    dataset = open_dataset(root, None, None)
    assert classes(dataset, 1).sum() == 8
    write(root / "instances.json", ["a.png", "b.png", "c.png"], [])
    assert classes(dataset, 1).sum() == 0


def test_crowds_of_runs_are_painted(root):
    runs = {"counts": [10, 5, 105], "size": SHAPE}
    write(root / "instances.json", ["a.png", "b.png"], [annotation(1, 1, 3, runs)])
    expected = np.zeros(SHAPE)
    expected[:5, 1] = 1
    assert np.array_equal(classes(open_dataset(root, None, None)), expected)


def test_runs_that_do_not_fit_name_the_annotation(root):
    runs = {"counts": [10, 5], "size": SHAPE}
    write(root / "instances.json", ["a.png", "b.png"], [annotation(41, 1, 3, runs)])
    dataset = open_dataset(root, None, None)
    with pytest.raises(DatasetError, match=r"annotation of images/a\.png \(id 41\)"):
        read_case(dataset, dataset.cases[0])


def test_the_spec_gives_categories_their_values(root):
    spec = DatasetSpec(labels={"background": 5, "dog": 1, "cat": 9})
    dataset = open_dataset(root, spec, None)
    assert dataset.labels.names == ("background", "dog", "cat")
    assert np.unique(classes(dataset)).tolist() == [0, 1, 2]
    assert classes(dataset)[3, 3] == 2
    merged = DatasetSpec(labels={"background": 0, "animal": (1, 2)}, label_map={"1": 1, "2": 2})
    with pytest.raises(DatasetError, match="without the categories dog"):
        open_dataset(root, DatasetSpec(labels={"background": 0, "cat": 1}), None)
    assert open_dataset(root, merged, None).labels.regions[0].name == "animal"


def test_categories_of_other_names_are_not_matched_by_their_rank(root):
    with pytest.raises(DatasetError, match="without the categories cat, dog") as caught:
        open_dataset(root, DatasetSpec(labels={"background": 0, "Dog": 1, "Cat": 2}), None)
    assert '{"background": 0, "cat": 1, "dog": 2}' in caught.value.fix
    renamed = DatasetSpec(labels={"background": 0, "Dog": 1, "Cat": 2}, label_map={"1": 2, "2": 1})
    assert classes(open_dataset(root, renamed, None))[3, 3] == 2


def test_a_category_called_background_is_the_background(root):
    categories = ({"id": 0, "name": "Background"}, {"id": 1, "name": "cat"})
    listed = [annotation(1, 1, 1, box(0, 0, 8, 8)), annotation(2, 1, 0, box(2, 2, 4, 4))]
    write(root / "instances.json", ["a.png", "b.png"], listed, categories)
    dataset = open_dataset(root, None, None)
    assert dataset.labels.names == ("background", "cat")
    assert classes(dataset).sum() == 60


def test_files_for_training_and_validation_are_the_official_split(tmp_path):
    for part in ("train", "val"):
        for name in ("1.png", "2.png"):
            picture(tmp_path / "images" / f"{part}2017" / name)
        listed = [annotation(1, 1, 3, box(0, 0, 4, 4))]
        write(tmp_path / "annotations" / f"instances_{part}2017.json", ["1.png", "2.png"], listed)
        write(tmp_path / "annotations" / f"person_keypoints_{part}2017.json", ["1.png"], listed)
    dataset = open_dataset(tmp_path, None, None)
    assert [(case.id, case.images[0], case.split) for case in dataset.cases] == [
        ("train2017_1", "images/train2017/1.png", "train"),
        ("train2017_2", "images/train2017/2.png", "train"),
        ("val2017_1", "images/val2017/1.png", "val"),
        ("val2017_2", "images/val2017/2.png", "val"),
    ]


def test_each_part_may_have_its_own_folder(tmp_path):
    for part in ("train", "valid"):
        picture(tmp_path / part / f"{part}.png")
        listed = [annotation(1, 1, 3, box(0, 0, 4, 4))]
        write(tmp_path / part / "_annotations.coco.json", [f"{part}.png"], listed)
    dataset = open_dataset(tmp_path, None, None)
    assert [(case.id, case.split) for case in dataset.cases] == [
        ("train", "train"),
        ("valid", "val"),
    ]


def test_files_with_other_categories_do_not_go_together(root):
    write(root / "more.json", ["a.png"], [], CATEGORIES[:1])
    (root / "instances.json").rename(root / "first.json")
    with pytest.raises(DatasetError, match="different categories") as caught:
        open_dataset(root, None, None)
    assert '"layout": "coco"' in caught.value.fix
    spec = DatasetSpec(layout="coco", table="first.json")
    assert len(open_dataset(root, spec, None).cases) == 3


def test_all_faults_are_told_at_once(root):
    listed = [
        annotation(1, 1, 3, box(0, 0, 4, 4)),
        annotation(2, 99, 3, box(0, 0, 4, 4)),
        annotation(3, 1, 55, box(0, 0, 4, 4)),
        annotation(4, 1, 3, []),
        annotation(5, 1, 3, []),
    ]
    write(root / "instances.json", ["a.png", "a.png", "lost.png"], listed)
    with pytest.raises(DatasetError) as caught:
        open_dataset(root, None, None)
    found = caught.value.found
    assert "1 annotations of images that are not listed, the first with id 2" in found
    assert "1 annotations of unknown categories, the first with id 3" in found
    assert "2 annotations without segmentation, the first with id 4" in found
    assert "lost.png" in found
    assert "a.png" in found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', "is no JSON"),
        ('{"images": [{"name": 1}], "annotations": [], "categories": []}', "another form"),
        (
            '{"images": [{"id": 1}, {"id": 1}], "annotations": [], "categories": []}',
            "there twice",
        ),
    ],
)
def test_broken_files_are_named(root, content, message):
    (root / "instances.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        open_dataset(root, None, None)


def test_sizes_that_are_not_listed_come_from_the_images(root):
    content = json.loads((root / "instances.json").read_text())
    for image in content["images"]:
        del image["height"]
    (root / "instances.json").write_text(json.dumps(content))
    assert classes(open_dataset(root, None, None)).shape == SHAPE


def test_another_size_than_the_image_is_an_error(root):
    content = json.loads((root / "instances.json").read_text())
    content["images"][0]["height"] = 11
    (root / "instances.json").write_text(json.dumps(content))
    dataset = open_dataset(root, None, None)
    with pytest.raises(DatasetError, match="the image has shape 10 x 12, the labels 11 x 12"):
        read_case(dataset, dataset.cases[0])


def test_masks_beside_the_annotations_go_first(root):
    (root / "masks").mkdir()
    picture(root / "masks" / "a.png")
    assert not coco.FORMAT.is_found(root)


def test_other_json_files_are_no_annotations(root):
    (root / "instances.json").write_text('{"images": ["a.png"], "shapes": []}')
    assert not coco.FORMAT.is_found(root)

import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.instances import is_found
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError

SHAPE = (6, 7)


def write_mask(path, row, value=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros(SHAPE, np.uint8)
    array[row] = value
    Pillow.fromarray(array).save(path)


@pytest.fixture
def nuclei(tmp_path):
    for case_id in ("first", "second"):
        for row in (0, 2, 3):
            write_mask(tmp_path / case_id / "masks" / f"nucleus{row}.png", row)
        (tmp_path / case_id / "images").mkdir()
        colours = np.full((*SHAPE, 4), 255, np.uint8)
        colours[..., 0] = 7
        Pillow.fromarray(colours).save(tmp_path / case_id / "images" / f"{case_id}.png")
    return tmp_path


def test_all_objects_of_a_folder_are_one_class(nuclei):
    dataset = open_dataset(nuclei, None, None)
    assert dataset.layout == "instances"
    assert dataset.labels.names == ("background", "object")
    assert [case.id for case in dataset.cases] == ["first", "second"]
    assert len(dataset.cases[0].labels) == 3
    classes = read_case(dataset, dataset.cases[0])[1]
    assert classes[:, 0].tolist() == [1, 0, 1, 1, 0, 0]


def test_a_constant_alpha_channel_is_no_channel(nuclei):
    dataset = open_dataset(nuclei, None, None)
    assert dataset.channels == ("red", "green", "blue")
    image = read_case(dataset, dataset.cases[0])[0].array
    assert image.shape == (3, *SHAPE)
    assert (image[0] == 7).all()


def test_a_spec_names_the_class_and_its_value(nuclei):
    declared = DatasetSpec(labels={"background": 0, "nucleus": 5})
    dataset = open_dataset(nuclei, declared, None)
    assert dataset.cases[0].paint == (5, 5, 5)
    assert read_case(dataset, dataset.cases[0])[1].max() == 1
    declared = DatasetSpec(labels={"background": 0, "nucleus": 5, "nucleolus": 6})
    with pytest.raises(DatasetError, match="labels background, nucleus, nucleolus"):
        open_dataset(nuclei, declared, None)


def test_a_case_without_objects_is_background(nuclei):
    for path in (nuclei / "first" / "masks").iterdir():
        path.unlink()
    dataset = open_dataset(nuclei, None, None)
    assert not read_case(dataset, dataset.cases[0])[1].any()


def test_what_a_folder_lacks_is_listed(nuclei):
    for index in range(4):
        write_mask(nuclei / f"a{index}" / "images" / "i.png", 0)
        write_mask(nuclei / f"a{index}" / "masks" / "i.png", 0)
    write_mask(nuclei / "second" / "images" / "more.png", 0)
    write_mask(nuclei / "third" / "images" / "i.png", 0)
    with pytest.raises(DatasetError) as caught:
        open_dataset(nuclei, None, None)
    assert "second/: 2 images, and not one" in caught.value.found
    assert "third/: no folder masks/" in caught.value.found


def test_folders_of_many_images_are_no_cases(nuclei):
    write_mask(nuclei / "first" / "images" / "more.png", 0)
    assert not is_found(nuclei)


def test_real_nuclei_lie_on_their_images(data):
    dataset = open_dataset(data / "dsb2018", None, None)
    assert dataset.layout == "instances"
    assert len(dataset.cases) == 100
    image, classes = read_case(dataset, dataset.cases[0])
    grey = image.array.mean(axis=0)  # a fluorescence image: nuclei are bright
    assert grey[classes == 1].mean() > 2 * grey[classes == 0].mean()

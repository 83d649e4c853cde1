import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.check.masks import reading_notes
from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.class_folders import is_found
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError

SHAPE = (6, 7)


def write(path, rows=2, value=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros(SHAPE, np.uint8)
    array[:rows] = value
    Pillow.fromarray(array).save(path)


def fill(folder, *names, rows=2, value=255):
    for name in names:
        write(folder / f"{name}.jpg")
        write(folder / f"{name}.png", rows, value)


@pytest.fixture
def tiles(tmp_path):
    fill(tmp_path / "Crack" / "Imgs", "a", "b")
    fill(tmp_path / "Break" / "Imgs", "c", "d")
    fill(tmp_path / "Tile_Free" / "Imgs", "e", "f", rows=0)
    return tmp_path


def test_the_name_of_the_folder_is_the_class(tiles):
    dataset = open_dataset(tiles, None, None)
    assert dataset.layout == "class_folders"
    assert dataset.labels.names == ("background", "Break", "Crack")
    assert dataset.labels.values == (0, 1, 2)
    found = {case.id: int(read_case(dataset, case)[1].max()) for case in dataset.cases}
    assert found == {"a": 2, "b": 2, "c": 1, "d": 1, "e": 0, "f": 0}


def test_a_folder_without_foreground_is_no_class_only_if_it_is_called_so(tiles):
    (tiles / "Tile_Free").rename(tiles / "Scratch")
    assert "Scratch" in open_dataset(tiles, None, None).labels.names
    (tiles / "Scratch").rename(tiles / "abnormal")
    assert "abnormal" in open_dataset(tiles, None, None).labels.names


def test_folders_of_hospitals_are_no_classes(tmp_path):
    fill(tmp_path / "London", "a", "b")
    fill(tmp_path / "Paris", "c", "d")
    assert open_dataset(tmp_path, None, None).layout == "stems"
    dataset = open_dataset(tmp_path, DatasetSpec(layout="class_folders"), None)
    assert dataset.labels.names == ("background", "London", "Paris")
    (warning,) = (note for note in reading_notes(dataset) if note.severity == "warning")
    assert "London, Paris" in warning.found
    assert '"layout": "stems"' in warning.remedy


def test_foreground_in_a_folder_without_class_is_refused(tmp_path):
    fill(tmp_path / "Crack", "a", "b")
    fill(tmp_path / "good", *"cdefghijkl", rows=0)
    write(tmp_path / "good" / "d.png")
    dataset = open_dataset(tmp_path, None, None)
    assert "good" not in dataset.labels.names  # only a few masks are looked at
    broken = next(case for case in dataset.cases if case.id == "d")
    with pytest.raises(DatasetError, match="label values 2, which no class has"):
        read_case(dataset, broken)


def test_images_of_healthy_folders_need_no_masks(tmp_path):
    fill(tmp_path / "benign", "benign (1)", "benign (2)")
    fill(tmp_path / "malignant", "malignant (1)")
    for index in range(3):
        write(tmp_path / "normal" / f"normal ({index}).png")
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.labels.names == ("background", "benign", "malignant")
    healthy = [case for case in dataset.cases if not case.labels]
    assert len(healthy) == 3
    assert not read_case(dataset, healthy[0])[1].any()


def test_smoothed_masks_are_split_in_the_middle(tiles):
    array = np.zeros(SHAPE, np.uint8)
    array[1], array[2], array[3] = 90, 255, 160
    for name in ("a", "b"):
        Pillow.fromarray(array).save(tiles / "Crack" / "Imgs" / f"{name}.png")
    dataset = open_dataset(tiles, None, None)
    assert dataset.reading.threshold == 128
    assert read_case(dataset, dataset.cases[2])[1][:, 0].tolist() == [0, 0, 2, 2, 0, 0]


def test_ids_are_unique_over_folders(tiles):
    fill(tiles / "Break" / "Imgs", "a")
    ids = [case.id for case in open_dataset(tiles, None, None).cases]
    assert {"Break_a", "Crack_a", "Tile_Free_f"} <= set(ids)
    assert len(set(ids)) == len(ids) == 7


def test_a_spec_gives_classes_other_values(tiles):
    labels = {"background": 0, "Crack": 1, "Break": 4, "any": (1, 4)}
    dataset = open_dataset(tiles, DatasetSpec(labels=labels), None)
    assert dataset.cases[0].paint == (4,)
    assert "any" in [region.name for region in dataset.labels.regions]
    with pytest.raises(DatasetError, match="folders Break"):
        open_dataset(tiles, DatasetSpec(labels={"background": 0, "Crack": 1}), None)


def test_masks_that_hold_classes_themselves_are_refused(tiles):
    write(tiles / "Crack" / "Imgs" / "a.png", value=1)
    array = np.arange(42, dtype=np.uint8).reshape(SHAPE) % 3
    Pillow.fromarray(array).save(tiles / "Crack" / "Imgs" / "b.png")
    with pytest.raises(DatasetError, match=r"b\.png: values 0, 1, 2") as caught:
        open_dataset(tiles, None, None)
    assert '"layout": "stems"' in caught.value.fix
    dataset = open_dataset(tiles, DatasetSpec(layout="stems"), None)
    assert dataset.labels.values == (0, 1, 2, 255)


def test_an_image_without_mask_is_listed(tiles):
    write(tiles / "Crack" / "Imgs" / "alone.jpg")
    with pytest.raises(DatasetError, match=r"Crack/Imgs/alone\.jpg: no mask"):
        open_dataset(tiles, None, None)


@pytest.mark.parametrize(
    "names", [("patient1", "patient2"), ("train", "test"), ("TCGA_A_1", "TCGA_B_2")]
)
def test_folders_of_patients_and_splits_are_no_classes(tmp_path, names):
    for name in names:
        fill(tmp_path / name, f"{name}_1", f"{name}_2")
    assert not is_found(tmp_path)


def test_numbered_classes_are_classes(tmp_path):
    for name in ("grade_1", "grade_2"):
        fill(tmp_path / name, f"{name}_1", f"{name}_2")
    assert is_found(tmp_path)


def test_real_tiles_show_what_their_folder_says(data):
    dataset = open_dataset(data / "magnetic_tile", None, None)
    assert dataset.layout == "class_folders"
    assert len(dataset.cases) == 238
    assert len(dataset.labels.names) == 6
    assert dataset.reading.threshold == 128
    assert set(np.unique(read_case(dataset, dataset.cases[0])[1])) == {0, 1}

import json

import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError
from autoseg.runtime.images import Geometry, Image, write_image

CLASSES = np.repeat([[0, 0, 0, 1, 1, 2]], 6, axis=0)
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 64]], np.uint8)
NAMES = ("a", "b", "c")
SPEC = DatasetSpec(labels={"background": "#000000", "car": "#FF0000", "tree": "#008040"})


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(array).save(path, **options)


@pytest.fixture
def coloured(tmp_path):
    """Return a folder of pictures with masks in three colours."""
    for name in NAMES:
        save(tmp_path / "images" / f"{name}.png", np.arange(36, dtype=np.uint8).reshape(6, 6))
        save(tmp_path / "masks" / f"{name}.png", COLOURS[CLASSES])
    return tmp_path


def volumes(root, channels, spec=None):
    """Write volumes with masks of (C, *S) channels, and open them."""
    geometry = Geometry((1.0, 1.0, 1.0))
    for name in NAMES:
        image = Image(np.arange(216, dtype=np.float32).reshape(1, 6, 6, 6), geometry)
        for folder, content in (("images", image), ("labels", Image(channels, geometry))):
            (root / folder).mkdir(exist_ok=True)
            write_image(root / folder / f"{name}.nii.gz", content)
    return open_dataset(root, spec, None)


def one_hot(num_classes, first=0):
    classes = np.broadcast_to(CLASSES, (6, 6, 6))
    return np.stack([classes == index for index in range(first, num_classes)]).astype(np.uint8)


def read(dataset, index=0):
    return read_case(dataset, dataset.cases[index])[1]


def test_declared_colours_are_classes(coloured):
    dataset = open_dataset(coloured, SPEC, None)
    assert dataset.reading.masks == "colours"
    assert dataset.labels.names == ("background", "car", "tree")
    assert np.array_equal(read(dataset), CLASSES)


def test_the_background_need_not_be_declared_first(coloured):
    spec = DatasetSpec(labels={"car": "#ff0000", "tree": "#008040", "background": "#000000"})
    dataset = open_dataset(coloured, spec, None)
    assert dataset.labels.names == ("background", "car", "tree")
    assert np.array_equal(read(dataset), CLASSES)


def test_colours_of_palettes_and_with_alpha_are_the_same(coloured):
    palette = Pillow.fromarray(CLASSES.astype(np.uint8), "P")
    palette.putpalette(COLOURS.ravel().tolist())
    palette.save(coloured / "masks" / "a.png")
    alpha = np.dstack([COLOURS[CLASSES], np.full((6, 6), 255, np.uint8)])
    save(coloured / "masks" / "b.png", alpha)
    dataset = open_dataset(coloured, SPEC, None)
    for index in range(3):
        assert np.array_equal(read(dataset, index), CLASSES)


def test_undeclared_colours_are_listed_ready_to_declare(coloured):
    save(coloured / "masks" / "c.png", np.zeros((6, 6, 3), np.uint8))
    with pytest.raises(DatasetError, match="3 colours") as caught:
        open_dataset(coloured, None, None)
    labels = json.loads(caught.value.fix.splitlines()[-1])["labels"]
    assert labels == {"background": "#000000", "class_1": "#ff0000", "class_2": "#008040"}
    dataset = open_dataset(coloured, DatasetSpec(labels=labels), None)
    assert np.array_equal(read(dataset), CLASSES)


def test_photographs_as_masks_are_no_colours_of_classes(coloured):
    rng = np.random.default_rng(0)
    save(coloured / "masks" / "a.png", rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    with pytest.raises(DatasetError, match="3 different channels"):
        open_dataset(coloured, None, None)


def test_broken_masks_are_told_before_colours(coloured):
    save(coloured / "masks" / "a.jpg", COLOURS[CLASSES])
    (coloured / "masks" / "a.png").unlink()
    with pytest.raises(DatasetError, match="JPEG"):
        open_dataset(coloured, None, None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("class_dict.csv", "name,r,g,b\ncar,255,0,0\ntree, 0, 128, 64\nVoid,0,0,0\n"),
        ("label_colors.txt", "255 0 0\tcar\n0 128 64\t\ttree\n0 0 0 Void\n\n"),
    ],
)
def test_a_table_of_colours_names_the_classes(coloured, name, content):
    (coloured / name).write_text(content)
    dataset = open_dataset(coloured, None, None)
    assert dataset.labels_declared
    assert dataset.labels.names == ("Void", "car", "tree")
    assert np.array_equal(read(dataset), CLASSES)


@pytest.mark.parametrize(
    "line", ["car,255,0", "car,255,0,300", "car,red,0,0", ",1,2,3", "Void,1,2,3"]
)
def test_a_broken_table_of_colours_is_named_with_its_line(coloured, line):
    (coloured / "class_dict.csv").write_text(f"name,r,g,b\nVoid,0,0,0\n{line}\n")
    with pytest.raises(DatasetError, match=r"class_dict\.csv") as caught:
        open_dataset(coloured, None, None)
    assert line in caught.value.found


def test_a_table_of_colours_does_not_change_masks_of_values(coloured):
    (coloured / "class_dict.csv").write_text("name,r,g,b\nVoid,0,0,0\ncar,255,0,0\n")
    for name in NAMES:
        save(coloured / "masks" / f"{name}.png", CLASSES.astype(np.uint8))
    dataset = open_dataset(coloured, None, None)
    assert dataset.reading.masks == "values"
    assert dataset.labels.values == (0, 1, 2)


@pytest.mark.parametrize("first", [0, 1])
def test_a_channel_a_class_is_read_with_and_without_background(tmp_path, first):
    spec = DatasetSpec(labels={"background": 0, "edge": 4, "core": 9})
    dataset = volumes(tmp_path, one_hot(3, first), spec)
    assert dataset.reading.masks == "channels"
    assert np.array_equal(read(dataset)[0], CLASSES)


def test_channels_of_smooth_numbers_are_no_classes(tmp_path):
    channels = one_hot(3) * np.linspace(0.1, 1, 6, dtype=np.float32)
    spec = DatasetSpec(labels={"background": 0, "edge": 1, "core": 2})
    dataset = volumes(tmp_path, channels, spec)
    assert dataset.reading.masks == "values"


def test_undeclared_channels_are_listed_ready_to_declare(tmp_path):
    with pytest.raises(DatasetError, match="several channels") as caught:
        volumes(tmp_path, one_hot(3, 1))
    labels = json.loads(caught.value.fix.splitlines()[-1])["labels"]
    assert labels == {"background": 0, "class_1": 1, "class_2": 2}
    assert np.array_equal(
        read(volumes(tmp_path, one_hot(3, 1), DatasetSpec(labels=labels)))[0], CLASSES
    )


def test_pages_of_a_flat_images_mask_are_channels(coloured):
    pages = [Pillow.fromarray(page * 255) for page in one_hot(3)[:, 0]]
    for name in NAMES:
        (coloured / "masks" / f"{name}.png").unlink()
        path = coloured / "masks" / f"{name}.tif"
        pages[0].save(path, save_all=True, append_images=pages[1:])
    spec = DatasetSpec(labels={"background": 0, "edge": 1, "core": 2})
    assert np.array_equal(read(open_dataset(coloured, spec, None)), CLASSES)


def test_grey_masks_stored_in_three_channels_stay_maps_of_values(coloured):
    for name in NAMES:
        grey = (CLASSES > 0).astype(np.uint8)
        save(coloured / "masks" / f"{name}.png", np.dstack([grey] * 3))
    spec = DatasetSpec(labels={"background": 0, "one": 1, "two": 2})
    dataset = open_dataset(coloured, spec, None)
    assert dataset.reading.masks == "values"
    assert np.array_equal(read(dataset), CLASSES > 0)

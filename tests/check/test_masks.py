import json

import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.check.masks import mask_storage, reading_notes
from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.open import open_dataset

BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)
MASK = np.zeros((8, 8), np.uint8)
MASK[:3] = 1
SPEC = DatasetSpec(labels={"background": 0, "x": 1})


def picture(root, number, mask=MASK, palette=None, orientation=1):
    """Write an image, turned by its EXIF data, and its mask, with a palette."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(exist_ok=True)
    image = Pillow.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    exif = image.getexif()
    if orientation != 1:
        exif[274] = orientation
    image.save(root / "images" / f"{number}.jpg", exif=exif)
    stored = Pillow.fromarray(mask)
    if palette is not None:
        stored = Pillow.fromarray(mask, "P")
        stored.putpalette([level for colour in palette for level in colour])
    stored.save(root / "masks" / f"{number}.png")


def findings(root, severity, spec=SPEC):
    dataset = open_dataset(root, spec, None)
    return [found for found in mask_storage(dataset) if found.severity == severity]


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_a_colour_with_two_numbers_is_an_error_that_declared_colours_settle(tmp_path):
    for number in range(3):
        picture(tmp_path, number, palette=(BLACK, WHITE))
    picture(tmp_path, 3, mask=1 - MASK, palette=(WHITE, BLACK))
    (error,) = findings(tmp_path, "error")
    assert error.files == ("masks/3.png",)
    written = json.loads(error.remedy.partition("spec: ")[2].partition("; or")[0])
    assert written == {"labels": {"background": "#000000", "x": "#ffffff"}}
    declared = DatasetSpec(**written)
    assert mask_storage(open_dataset(tmp_path, declared, None)) == []
    dataset = open_dataset(tmp_path, declared, None)
    assert [int(read_case(dataset, case)[1].sum()) for case in dataset.cases] == [24] * 4


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_a_number_with_two_colours_is_a_warning(tmp_path):
    for number in range(3):
        picture(tmp_path, number, palette=(BLACK, WHITE))
    picture(tmp_path, 3, palette=(BLACK, RED))
    (warning,) = findings(tmp_path, "warning")
    assert warning.files == ("masks/3.png",)
    assert findings(tmp_path, "error") == []


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_colours_that_no_mask_uses_do_not_matter(tmp_path):
    picture(tmp_path, 0, palette=(BLACK, WHITE))
    picture(tmp_path, 1, palette=(BLACK, WHITE, RED))
    picture(tmp_path, 2, mask=0 * MASK, palette=(BLACK, RED, WHITE))
    assert [found.severity for found in mask_storage(open_dataset(tmp_path, SPEC, None))] == [
        "note"
    ]


@pytest.mark.parametrize("orientation", [2, 3, 8])
def test_a_turned_image_whose_mask_is_not_turned_is_a_warning(tmp_path, orientation):
    picture(tmp_path, 0)
    picture(tmp_path, 1, orientation=orientation)
    (warning,) = findings(tmp_path, "warning")
    assert warning.files == ("images/1.jpg",)
    assert "EXIF" in warning.found


def test_upright_images_are_no_finding(tmp_path):
    picture(tmp_path, 0)
    assert mask_storage(open_dataset(tmp_path, SPEC, None)) == []


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_colours_of_few_masks_are_declared_too(tmp_path):
    for number in range(2):
        picture(tmp_path, number, palette=(BLACK, WHITE))
    picture(tmp_path, 2, mask=1 - MASK, palette=(RED, BLACK))
    (error,) = findings(tmp_path, "error")
    assert '{"background": "#000000", "x": "#ffffff", "class_ff0000": "#ff0000"}' in error.remedy
    binary = DatasetSpec(images=("images/{case}.jpg",), masks={"x": "masks/{case}.png"})
    (error,) = findings(tmp_path, "error", binary)
    assert error.remedy == "export the masks again, all with one palette"


def test_cases_that_annotate_some_classes_are_counted(tmp_path):
    for number in range(4):
        picture(tmp_path, number)
    plain = DatasetSpec(labels={"background": 0, "x": 1, "y": 2})
    spec = plain.revised(annotated={"0": ("x",), "1": ("x",), "2": ()})
    notes = reading_notes(open_dataset(tmp_path, spec, None))
    assert [item.found for item in notes] == [
        "2 cases annotate only x",
        "1 case annotates no class",
    ]
    assert notes[0].files == ("masks/0.png", "masks/1.png")
    assert "not scored" in notes[0].remedy
    assert reading_notes(open_dataset(tmp_path, plain, None)) == []

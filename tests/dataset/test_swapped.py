import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.open import list_dataset, open_dataset
from autoseg.dataset.problems import DatasetProblems
from autoseg.dataset.swapped import swapped_finding

RNG = np.random.default_rng(0)


def noise():
    return RNG.integers(0, 256, (20, 24)).astype(np.uint8)


def classes():
    return (np.arange(480).reshape(20, 24) % 3).astype(np.uint8)


def instances():
    """Return 96 objects of 5 voxels, each with a number of its own."""
    return (np.arange(480).reshape(20, 24) // 5 + 1).astype(np.uint16)


def smoothed():
    """Return the white half of a picture with an edge of 60 shades."""
    return np.r_[[0] * 200, range(1, 61), [255] * 220].reshape(20, 24).astype(np.uint8)


def binary():
    return (255 * (classes() > 0)).astype(np.uint8)


def folders(root, image, mask, ending=".png"):
    for case in range(3):
        for name, make, end in (("images", image, ending), ("masks", mask, ".png")):
            (root / name).mkdir(exist_ok=True)
            Pillow.fromarray(make()).save(root / name / f"p{case}{end}")
    return root


def finding(root):
    dataset, _ = list_dataset(root, DatasetSpec(), None)
    assert dataset is not None
    return swapped_finding(dataset)


def test_what_a_remedy_declares_reads_them_right(tmp_path):
    folders(tmp_path, classes, noise)
    with pytest.raises(DatasetProblems, match="seem to be exchanged") as caught:
        open_dataset(tmp_path, None, None)
    assert '{"images": ["masks/{case}.png"], "masks": "images/{case}.png"}' in str(caught.value)
    spec = DatasetSpec(images=("masks/{case}.png",), masks="images/{case}.png")
    assert open_dataset(tmp_path, spec, None).labels.values == (0, 1, 2)


@pytest.mark.parametrize(
    ("image", "mask", "ending"),
    [
        (noise, classes, ".png"),
        (noise, noise, ".png"),
        (classes, classes, ".png"),
        (classes, noise, ".jpg"),
        (lambda: 0 * classes(), noise, ".png"),
        (binary, instances, ".png"),
        (classes, instances, ".png"),
        (binary, smoothed, ".png"),
    ],
    ids=[
        "right",
        "two images",
        "two masks",
        "JPEG",
        "empty images",
        "line drawings of numbered instances",
        "few values and numbered instances",
        "silhouettes and smoothed masks",
    ],
)
def test_others_are_not_called_exchanged(image, mask, ending, tmp_path):
    assert finding(folders(tmp_path, image, mask, ending)) is None


def test_names_without_a_pattern_are_to_be_exchanged_by_hand(tmp_path):
    folders(tmp_path, classes, noise)
    (tmp_path / "images/p0.png").rename(tmp_path / "images/p0.bmp")
    found = finding(tmp_path)
    assert found is not None
    assert found.remedy == "exchange the folders images and masks"

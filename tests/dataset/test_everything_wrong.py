import numpy as np
import pytest
from PIL import Image

from autoseg.dataset.open import open_dataset
from autoseg.dataset.problems import DatasetProblems


def write(folder, value):
    """Write five images with masks; that of case 1 has another value, image 3 is cut off."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(5):
        image = rng.integers(0, 255, (40, 40), dtype=np.uint8)
        mask = np.zeros((40, 40), np.uint8)
        mask[5:20, 5:20] = value if index == 1 else 1
        Image.fromarray(image).save(folder / "images" / f"{index}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{index}.png")
    broken = folder / "images" / "3.png"
    broken.write_bytes(broken.read_bytes()[:200])


@pytest.mark.parametrize("is_paired", [True, False])
def test_an_image_that_is_cut_off_is_told_beside_the_masks_of_another_value(tmp_path, is_paired):
    write(tmp_path, value=255)
    if not is_paired:
        (tmp_path / "masks" / "4.png").unlink()
    with pytest.raises(DatasetProblems) as caught:
        open_dataset(tmp_path, None, None)
    files = [name for finding in caught.value.findings for name in finding.files]
    assert {"images/3.png", "masks/1.png"} <= set(files)
    assert files.count("images/3.png") == 1
    assert ("images/4.png" in files) == (not is_paired)

import numpy as np
import pytest

from autoseg.fingerprint.thumbnail import thumbnail


def picture(seed, shape):
    """Return an image with structures of all sizes, as real ones have."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=shape)
    for axis in range(len(shape)):
        image = np.cumsum(image, axis=axis) / 4
    return (100 + image - image.mean())[None].astype(np.float32)


def bits(image):
    look = thumbnail(image)
    assert look is not None
    assert len(look) == 16
    return int(look, 16)


def difference(first, second):
    return (bits(first) ^ bits(second)).bit_count()


SHAPES = [(900,), (70, 90), (30, 44, 38), (3, 64, 64), (1, 64, 64), (20, 33)]


@pytest.mark.parametrize("shape", SHAPES)
def test_other_images_differ_in_many_bits(shape):
    differences = [difference(picture(0, shape), picture(seed, shape)) for seed in range(1, 9)]
    assert min(differences) > 8


@pytest.mark.parametrize("shape", SHAPES)
def test_brightness_and_type_change_nothing(shape):
    image = picture(0, shape)
    assert difference(image, 3 * image + 20) == 0
    low, high = image.min(), image.max()
    assert difference(image, ((image - low) / (high - low) * 255).astype(np.uint8)) <= 3


@pytest.mark.parametrize("shape", SHAPES)
def test_noise_changes_few_bits(shape):
    image = picture(0, shape)
    noise = np.random.default_rng(1).normal(0, 0.02 * image.std(), image.shape)
    assert difference(image, image + noise) <= 4


def test_a_resized_picture_keeps_its_bits():
    image = picture(0, (128, 160))
    assert difference(image, image.repeat(2, axis=1).repeat(2, axis=2)) == 0


def test_an_image_of_one_value_has_no_look():
    assert thumbnail(np.full((1, 20, 20), 7.0)) is None
    assert thumbnail(np.ones((1, 1, 1, 1))) is None

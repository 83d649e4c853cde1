import numpy as np
import pytest
import torch
from scipy.special import ndtri

from autoseg.augment.device_intensity import change_intensities
from autoseg.augment.intensity import (
    Blur,
    Brightness,
    Contrast,
    Gamma,
    LowResolution,
    Noise,
)

SHAPE = (3, 2, 9, 11, 10)


def stay(tensor):
    return tensor


def random_images(shape=SHAPE):
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def changed(drawn, images):
    images = images.clone()
    change_intensities(images, drawn, stay)
    return images.numpy()


def expected(drawn, images):
    images = images.clone().numpy()
    for image, transforms in zip(images, drawn, strict=True):
        for transform in transforms:
            transform.apply(image)
    return images


@pytest.mark.parametrize(
    "drawn",
    [
        ((Brightness((0.8, 1.2)),), (), (Brightness((1.1, 0.7)),)),
        ((Contrast((0.8, 1.2)),), (Contrast((1.0, 1.0)),), ()),
        ((Gamma((0.7, 1.4), 1),), (Gamma((1.5, 0.9), -1),), ()),
        ((Gamma((0.7, 1.4), -1), Gamma((1.2, 0.8), 1)), (Gamma((1.5, 0.9), 1),), ()),
        ((Blur(((0.5, 1.0, 0.6), ())),), (), (Blur(((1.4, 0.5, 0.5), (2.5, 0.7, 0.9))),)),
        ((Blur(((), ())),), (), ()),
        (
            (LowResolution(((0.5, 0.5, 0.5), ())),),
            (LowResolution(((1.0, 0.7, 0.7), (0.9, 0.9, 0.9))),),
            (),
        ),
        ((Gamma((0.7, 1.4), 1), Blur(((0.5, 1.0, 0.6), ()))), (Blur(((), (0.9,) * 3)),), ()),
    ],
)
def test_a_batch_is_changed_as_each_of_its_images(drawn):
    images = random_images()
    found = changed(drawn, images)
    np.testing.assert_allclose(found, expected(drawn, images), atol=2e-5)
    untouched = [index for index, transforms in enumerate(drawn) if not transforms]
    assert (found[untouched] == images.numpy()[untouched]).all()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_few_voxels_are_blurred_as_on_the_processor(size):
    images = random_images((1, 1, 4, size))
    drawn = ((Blur(((0.9, 1.0),)),),)
    np.testing.assert_allclose(changed(drawn, images), expected(drawn, images), atol=1e-6)


def test_constant_images_stay_finite():
    drawn = ((Contrast((0.8,)), Gamma((0.7,), -1), Gamma((1.4,), 1)),)
    assert np.isfinite(changed(drawn, torch.full((1, 1, 8, 8), 2.5))).all()


def test_noise_is_normally_distributed_and_comes_from_its_seed():
    images = torch.zeros((3, 2, 300, 400))
    drawn = tuple((Noise(std=std, seed=seed),) for std, seed in ((0.5, 1), (0.5, 1), (0.1, 2**62)))
    first, second, third = changed(drawn, images)
    assert (first == second).all()
    places = np.linspace(0.001, 0.999, 100)
    np.testing.assert_allclose(np.quantile(first, places), 0.5 * ndtri(places), atol=0.02)
    assert third.std() == pytest.approx(0.1, rel=0.02)
    assert abs(np.corrcoef(first.ravel(), third.ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(first[0].ravel(), first[1].ravel())[0, 1]) < 0.01


def test_noise_has_the_moments_of_the_processors():
    images = torch.zeros((1, 1, 400, 500))
    drawn = ((Noise(std=0.08, seed=5),),)
    ours, theirs = changed(drawn, images), expected(drawn, images)
    for power in (1, 2, 3, 4):
        moments = [(values.astype(float) / 0.08) ** power for values in (ours, theirs)]
        error = np.sqrt(sum(values.var() for values in moments) / ours.size)
        assert abs(moments[0].mean() - moments[1].mean()) < 5 * error


def test_a_change_without_a_form_for_devices_is_refused():
    class Other:
        def apply(self, image):
            return None

    with pytest.raises(ValueError, match="Other"):
        change_intensities(random_images(), ((), (Other(),), ()), stay)

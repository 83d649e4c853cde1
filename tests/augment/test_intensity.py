import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from scipy import ndimage
from scipy.special import ndtri

from autoseg.augment.intensity import (
    Blur,
    Brightness,
    Contrast,
    Gamma,
    LowResolution,
    Noise,
    blur_kernel,
    draw_factor,
    draw_intensity,
)

SHAPE = (2, 14, 17, 20)
CHANNELS = torch.tensor([0, 1])


def random_image(shape=SHAPE):
    return np.random.default_rng(0).normal(0.3, 2.0, shape).astype(np.float32)


def library_result(transform, **params):
    return transform._apply_to_image(torch.from_numpy(random_image()), **params).numpy()


def our_result(transform):
    image = random_image()
    transform.apply(image)
    return image


def test_brightness_equals_the_library():
    expected = library_result(
        MultiplicativeBrightnessTransform((1, 1), False),
        apply_to_channel=CHANNELS,
        multipliers=torch.tensor([0.8, 1.2]),
    )
    np.testing.assert_allclose(our_result(Brightness((0.8, 1.2))), expected, rtol=1e-6)


def test_contrast_equals_the_library():
    expected = library_result(
        ContrastTransform((1, 1), True, False),
        apply_to_channel=CHANNELS,
        multipliers=torch.tensor([0.8, 1.2]),
    )
    np.testing.assert_allclose(our_result(Contrast((0.8, 1.2))), expected, atol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_gamma_equals_the_library(sign):
    expected = library_result(
        GammaTransform((1, 1), 0, False, 1, 1),
        apply_to_channel=CHANNELS,
        retain_stats=torch.tensor([True, True]),
        invert_image=torch.tensor([sign < 0] * 2),
        gamma=torch.tensor([0.7, 1.5]),
    )
    np.testing.assert_allclose(our_result(Gamma((0.7, 1.5), sign)), expected, atol=2e-5)


@pytest.mark.parametrize("sigma", [0.5, 0.58, 0.7, 0.83, 1.0])
def test_blur_equals_the_library(sigma):
    expected = library_result(
        GaussianBlurTransform((0.5, 1)),
        apply_to_channel=torch.tensor([False, True]),
        sigmas=[[sigma, 0.6, 0.9]],
    )
    np.testing.assert_allclose(our_result(Blur(((), (sigma, 0.6, 0.9)))), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 0.61, 0.77, 0.93, 1.0])
def test_low_resolution_equals_the_library(scale):
    expected = library_result(
        SimulateLowResolutionTransform((1, 1), False, True, ()),
        apply_to_channel=torch.tensor([1]),
        scales=torch.tensor([[1.0, scale, scale]]),
    )
    ours = our_result(LowResolution(((), (1.0, scale, scale))))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_noise_has_its_deviation_and_comes_from_its_seed():
    image = np.zeros((2, 40, 40, 20), np.float32)
    Noise(std=0.08, seed=3).apply(image)
    again = np.zeros_like(image)
    Noise(std=0.08, seed=3).apply(again)
    other = np.zeros_like(image)
    Noise(std=0.08, seed=4).apply(other)

    assert image.std() == pytest.approx(0.08, rel=0.02)
    assert image.mean() == pytest.approx(0, abs=0.002)
    assert (image == again).all()
    assert abs(np.corrcoef(image.ravel(), other.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(image[0].ravel(), image[1].ravel())[0, 1]) < 0.02


def test_noise_is_normally_distributed():
    image = np.zeros((1, 400, 500), np.float32)
    Noise(std=1.0, seed=0).apply(image)
    places = np.linspace(0.0005, 0.9995, 200)
    np.testing.assert_allclose(np.quantile(image, places), ndtri(places), atol=0.08)
    assert (image**4).mean() == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("shape", [(1, 40), (1, 5, 7), (1, 2, 3, 4)])
def test_blur_of_few_voxels_mirrors_their_ends(shape):
    image = random_image(shape)
    expected = image[0]
    for axis, sigma in enumerate((0.9,) * (len(shape) - 1)):
        expected = ndimage.correlate1d(expected, blur_kernel(sigma), axis=axis, mode="mirror")
    Blur(((0.9,) * (len(shape) - 1),)).apply(image)
    np.testing.assert_allclose(image[0], expected, atol=1e-6)


def test_factors_are_distributed_as_in_the_library(monkeypatch):
    rng = np.random.default_rng(0)
    ours = np.sort([draw_factor(rng, (0.7, 1.5)) for _ in range(4000)])
    state = np.random.RandomState(0)
    monkeypatch.setattr(np.random, "random", state.random)
    monkeypatch.setattr(np.random, "uniform", state.uniform)
    theirs = np.sort(np.array([BGContrast((0.7, 1.5))() for _ in range(4000)], float))

    assert np.abs(ours - theirs).max() < 0.05


def test_changes_happen_as_often_as_planned_and_in_order(plan):
    rng = np.random.default_rng(0)
    drawn = [draw_intensity(rng, plan, (1, 8, 8, 8)) for _ in range(4000)]
    order = [Noise, Blur, Brightness, Contrast, LowResolution, (Gamma, -1), (Gamma, 1)]
    names = [
        [(type(t), t.sign) if isinstance(t, Gamma) else type(t) for t in transforms]
        for transforms in drawn
    ]
    shares = [sum(name in row for row in names) / 4000 for name in order]

    np.testing.assert_allclose(shares, [0.1, 0.2, 0.15, 0.15, 0.25, 0.1, 0.3], atol=0.03)
    assert all([name for name in order if name in row] == row for row in names)


def test_planar_low_resolution_leaves_the_first_axis_alone(always):
    planar = always.revised(planar=True, rotation=((-3.0, 3.0),))
    rng = np.random.default_rng(0)
    scales = [
        scale
        for _ in range(20)
        for transform in draw_intensity(rng, planar, (2, 8, 8, 8))
        if isinstance(transform, LowResolution)
        for scale in transform.scales
        if scale
    ]
    assert {scale[0] for scale in scales} == {1.0}
    assert all(scale[1] == scale[2] < 1 for scale in scales)


def test_constant_image_stays_finite(always):
    image = np.full((1, 8, 8, 8), 2.5, np.float32)
    for transform in draw_intensity(np.random.default_rng(0), always, image.shape):
        transform.apply(image)
    assert np.isfinite(image).all()


@pytest.mark.parametrize("limits", [(0.5, 0.8), (0.5, 1.0), (1.2, 1.5), (0.9, 0.9)])
def test_a_factor_stays_within_limits_on_one_side_of_1(limits):
    rng = np.random.default_rng(0)
    drawn = [draw_factor(rng, limits) for _ in range(50)]
    assert limits[0] <= min(drawn) <= max(drawn) <= limits[1]

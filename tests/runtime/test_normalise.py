import numpy as np
import pytest

from autoseg.runtime.normalise import constants, normalise
from autoseg.runtime.recipe import Channel


def one(values, channel, region=None):
    mean, std = constants(np.asarray(values)[None], (channel,), region)
    return float(mean[0]), float(std[0])


def test_zscore_takes_mean_and_deviation_of_the_image():
    image = np.random.default_rng(0).integers(0, 4000, (30, 20, 10)).astype(np.uint16)
    mean, std = one(image, Channel(name="MRI", scheme="zscore"))
    assert mean == pytest.approx(image.mean(), rel=1e-6)
    assert std == pytest.approx(image.std(), rel=1e-6)


def test_large_offset_does_not_cost_precision():
    image = (1e6 + np.random.default_rng(0).normal(size=(50, 50))).astype(np.float32)
    _, std = one(image, Channel(name="MRI", scheme="zscore"))
    assert std == pytest.approx(image.astype(np.float64).std(), rel=1e-5)


def test_mask_leaves_the_outside_out_of_the_statistics():
    image = np.zeros((10, 10), dtype=np.float32)
    image[2:5] = np.arange(30).reshape(3, 10)
    region = np.zeros((10, 10), dtype=bool)
    region[2:5] = True
    masked = Channel(name="MRI", scheme="zscore", use_mask=True)
    assert one(image, masked, region)[0] == pytest.approx(14.5)
    assert one(image, Channel(name="MRI", scheme="zscore"), region)[0] == pytest.approx(4.35)


def test_constant_image_is_divided_by_something():
    image = np.full((1, 4, 4), 3.0)
    channels = (Channel(name="MRI", scheme="zscore"),)
    mean, std = constants(image, channels, None)
    np.testing.assert_array_equal(normalise(image, mean, std, channels), 0)


def test_unit_goes_from_zero_to_one():
    image = np.array([[-4.0, 0.0], [4.0, 12.0]])[None]
    channels = (Channel(name="x", scheme="unit"),)
    out = normalise(image, *constants(image, channels, None), channels)
    np.testing.assert_allclose(out, [[[0, 0.25], [0.5, 1]]])


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        (Channel(name="CT", scheme="ct", lower=-10.0, upper=90.0, mean=40.0, std=25.0), (40, 25)),
        (Channel(name="R", scheme="rgb"), (0, 255)),
        (Channel(name="R", scheme="rgb", mean=0.0, std=255.0), (0, 255)),
        (Channel(name="x", scheme="none"), (0, 1)),
    ],
)
def test_constant_schemes_do_not_look_at_the_image(channel, expected):
    assert one(np.arange(12.0).reshape(3, 4), channel) == expected


def test_values_are_clipped_before_they_are_shifted():
    channels = (Channel(name="CT", scheme="ct", lower=0.0, upper=100.0, mean=50.0, std=25.0),)
    image = np.array([[-1000, 0, 50, 3000]], dtype=np.int16)
    out = normalise(image, np.array([50.0]), np.array([25.0]), channels)
    assert out.dtype == np.float32
    assert out.tolist() == [[-2, -2, 0, 2]]
    assert image[0, 0] == -1000


def test_normalising_by_zero_and_one_copies_nothing():
    image = np.ones((1, 3, 3), dtype=np.float32)
    channels = (Channel(name="x", scheme="zscore"),)
    assert normalise(image, np.zeros(1), np.ones(1), channels) is image


def test_pretrained_weights_see_their_mean_and_std_of_values_from_0_to_1():
    image = np.random.default_rng(0).integers(0, 256, (2, 30, 20)).astype(np.uint8)
    channels = tuple(
        Channel(name="x", scheme="pretrained", lower=0.0, upper=255.0, mean=mean, std=std)
        for mean, std in ((0.485, 0.229), (0.456, 0.224))
    )
    found = normalise(image, *constants(image, channels, None), channels)
    expected = (image / 255 - [[[0.485]], [[0.456]]]) / [[[0.229]], [[0.224]]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pretrained_weights_see_the_same_of_bytes_and_of_fractions():
    image = np.random.default_rng(0).integers(0, 256, (1, 30, 20)).astype(np.uint8)
    seen = []
    for values, upper in ((image, 255.0), (image / np.float32(255), 1.0)):
        channel = Channel(name="x", scheme="pretrained", lower=0.0, upper=upper, mean=0.4, std=0.2)
        seen.append(normalise(values, *constants(values, (channel,), None), (channel,)))
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-5)


def test_pretrained_weights_see_each_image_s_own_range_where_units_mean_nothing():
    image = np.random.default_rng(0).normal(size=(1, 60, 50)).astype(np.float32)
    channel = Channel(name="MRI", scheme="pretrained", mean=0.4, std=0.2)
    seen = [
        normalise(values, *constants(values, (channel,), None), (channel,))
        for values in (image, 1e3 * image + 500)
    ]
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-3)
    low, high = np.percentile(seen[0], (0.5, 99.5))
    assert low == pytest.approx((0 - 0.4) / 0.2, abs=1e-3)
    assert high == pytest.approx((1 - 0.4) / 0.2, abs=1e-3)

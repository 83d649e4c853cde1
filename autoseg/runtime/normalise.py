"""Clip, subtract `mean`, divide by `std`: the one form of every normalisation.

Letters in shapes: C channels, S spatial axes (ZYX or YX).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .recipe import Channel, Recipe

if TYPE_CHECKING:
    from .prepare import Prepared

STD_FLOOR = 1e-8
"""A constant channel is divided by this instead of zero."""
RGB_RANGE = 255.0
RANGE_PERCENTILES = (0.5, 99.5)
"""Few voxels are far brighter than the rest, and would leave it dark."""


def constants(
    image: NDArray, channels: Sequence[Channel], region: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return `mean` and `std` (C,) of an image (C, *S) on its original grid.

    Taken in float64, of the clipped values; within `region` (*S) for channels that use a mask.
    """
    pairs = [
        _channel_constants(values, channel, region if channel.use_mask else None)
        for values, channel in zip(image, channels, strict=True)
    ]
    return (
        np.array([mean for mean, _ in pairs], dtype=np.float32),
        np.array([max(std, STD_FLOOR) for _, std in pairs], dtype=np.float32),
    )


def _channel_constants(
    values: NDArray, channel: Channel, region: NDArray[np.bool_] | None
) -> tuple[float, float]:
    given = given_constants(channel)
    if given is not None:
        return given
    if channel.scheme == "pretrained":
        return pretrained_constants(channel, own_range(values))
    if region is not None and region.any():
        values = values[region]
    if channel.lower is not None or channel.upper is not None:
        values = np.clip(values, channel.lower, channel.upper)
    if channel.scheme == "unit":
        low, high = float(values.min()), float(values.max())
        return low, high - low
    return moments(values)


def given_constants(channel: Channel) -> tuple[float, float] | None:
    """Return `mean` and `std` of a channel where no image decides about them, else None."""
    if channel.scheme == "rgb":
        return channel.mean or 0.0, channel.std or RGB_RANGE
    if channel.scheme == "none":
        return channel.mean or 0.0, channel.std or 1.0
    if channel.scheme != "pretrained" and channel.mean is not None and channel.std is not None:
        return channel.mean, channel.std
    return None


def pretrained_constants(channel: Channel, image_range: tuple[float, float]) -> tuple[float, float]:
    """Return mean and std, in the image's units, that an encoder's weights ask for.

    They were trained on values of 0 to 1 with the channel's mean and std; the channel's bounds,
    or without them the range of the image, take the place of 0 and 1.
    """
    low, high = image_range
    if channel.lower is not None and channel.upper is not None:
        low, high = channel.lower, channel.upper
    scale = high - low
    return low + (channel.mean or 0.0) * scale, (channel.std or 1.0) * scale


def own_range(values: NDArray) -> tuple[float, float]:
    """Return what counts as black and as white of an image whose units mean nothing."""
    low, high = np.percentile(values, RANGE_PERCENTILES)
    return float(low), float(high)


def moments(values: NDArray) -> tuple[float, float]:
    """Return mean and standard deviation in float64, never holding a float64 copy of all values."""
    mean = float(values.mean(dtype=np.float64))
    total = 0.0
    for part in values if values.ndim > 1 else (values,):
        deviation = part.astype(np.float64)
        deviation -= mean
        np.square(deviation, out=deviation)
        total += float(deviation.sum())
    return mean, float(np.sqrt(total / values.size))


def normalise(
    array: NDArray, mean: NDArray, std: NDArray, channels: Sequence[Channel]
) -> NDArray[np.float32]:
    """Return (C, *S) clipped and normalised; the array itself if there is nothing to do."""
    bounded = any(c.lower is not None or c.upper is not None for c in channels)
    if not bounded and not np.any(mean) and np.all(std == 1):
        return np.asarray(array, dtype=np.float32)
    out = np.array(array, dtype=np.float32, order="C")
    for values, channel, centre, scale in zip(out, channels, mean, std, strict=True):
        if channel.lower is not None or channel.upper is not None:
            np.clip(values, channel.lower, channel.upper, out=values)
        values -= np.float32(centre)
        values /= np.float32(scale)
    return out


def network_input(prepared: "Prepared", recipe: Recipe) -> NDArray[np.float32]:
    """Return (C, *S) as a network sees it that does not normalise by itself."""
    if recipe.order == "normalise-resample":
        return prepared.array
    return normalise(prepared.array, prepared.mean, prepared.std, recipe.channels)

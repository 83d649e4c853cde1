"""What every image must fulfil before it is prepared."""

from typing import TYPE_CHECKING

import numpy as np

from .errors import AutosegError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .images import Image
    from .recipe import Channel

WHITE = 255.0
FAR_ABOVE_ONE = 2.0
"""Interpolation leaves values of 0 to 1 a little above it, but not as much as this."""


def check_image(image: "Image", expected_channels: int, dims: int) -> None:
    """Refuse an image that the model cannot take.

    Raises
    ------
    AutosegError
        Wrong number of axes or channels, no voxels, or values that are not finite.
    """
    channels, *shape = image.array.shape
    if len(shape) != dims:
        raise AutosegError(
            found=f"an image with {len(shape)} axes of shape {tuple(shape)}",
            expected=f"an image with {dims} axes",
            fix="give an image of the kind that the model was trained on",
        )
    if channels != expected_channels:
        raise AutosegError(
            found=f"an image with {channels} channels",
            expected=f"{expected_channels} channels",
            fix="give all channels, in the order and naming of the training data",
        )
    if image.array.size == 0:
        raise AutosegError(
            found=f"an image without voxels, of shape {tuple(shape)}",
            expected="at least one voxel along every axis",
            fix="write the image again",
        )
    check_finite(image.array)


def check_unit(image: "Image", unit: str) -> None:
    """Refuse a signal whose samples are measured otherwise than those that the model knows.

    Pictures and volumes without spacing are taken as they are; a signal would be stretched by a
    factor of hundreds.

    Raises
    ------
    AutosegError
        The times of the samples are known here and were not in training, or the other way round.
    """
    found = image.geometry.unit
    if len(image.shape) != 1 or found == unit:
        return
    if unit == "s":
        expected = "a table (.csv) with a first column t of times in seconds"
        fix = "write the signal as such a table: the model was trained on times"
    else:
        expected = "a table (.csv) without times, or an array (.npy)"
        fix = "leave out the column of times: the model was trained on samples without times"
    words = "times in seconds" if found == "s" else "no times of the samples"
    raise AutosegError(found=f"a signal with {words}", expected=expected, fix=fix)


def check_range(image: "Image", channels: "Sequence[Channel]") -> None:
    """Refuse values of 0 to 1 where a pretrained encoder has learnt from larger ones, and reverse.

    Both would be taken, clipped, and be all black or all white.

    Raises
    ------
    AutosegError
        A channel has the other range.
    """
    is_float = np.issubdtype(image.array.dtype, np.floating)
    for index, (values, channel) in enumerate(zip(image.array, channels, strict=True)):
        if channel.scheme != "pretrained" or channel.lower != 0 or channel.upper is None:
            continue
        highest = float(values.max())
        if channel.upper <= 1 < FAR_ABOVE_ONE <= highest:
            fix = f"divide the values by their largest possible one, such as {WHITE:g}"
        elif channel.upper > 1 and is_float and 0 < highest <= 1:
            fix = f"multiply the values by {channel.upper:g}"
        else:
            continue
        raise AutosegError(
            found=f"channel {index} with values up to {highest:g}",
            expected=f"values from 0 to {channel.upper:g}, as in the training data",
            fix=fix,
        )


def check_finite(array: "NDArray") -> None:
    """Refuse an image (C, *S), or a part of one, with values that are not finite."""
    if not np.issubdtype(array.dtype, np.floating):
        return
    for index, channel in enumerate(array):
        # The extremes are NaN or infinite as soon as one voxel is, and need no mask in memory.
        if np.isfinite(channel.min()) and np.isfinite(channel.max()):
            continue
        count = int(np.count_nonzero(~np.isfinite(channel)))
        raise AutosegError(
            found=f"{count} voxels of channel {index} are NaN or infinite",
            expected="finite values",
            fix="replace them, e.g. by the lowest valid value, and write the image again",
        )

"""What every image must fulfil before it is prepared."""

from typing import TYPE_CHECKING

import numpy as np

from .errors import AutosegError

if TYPE_CHECKING:
    from .images import Image


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
    _check_finite(image)


def _check_finite(image: "Image") -> None:
    if not np.issubdtype(image.array.dtype, np.floating):
        return
    for index, channel in enumerate(image.array):
        # The extremes are NaN or infinite as soon as one voxel is, and need no mask in memory.
        if np.isfinite(channel.min()) and np.isfinite(channel.max()):
            continue
        count = int(np.count_nonzero(~np.isfinite(channel)))
        raise AutosegError(
            found=f"{count} voxels of channel {index} are NaN or infinite",
            expected="finite values",
            fix="replace them, e.g. by the lowest valid value, and write the image again",
        )

"""Which random changes training patches get."""

import math
from collections.abc import Sequence

from autoseg.plan.plan import AugmentationPlan

PLANAR_RATIO = 3.0
"""A patch whose first axis is this many times shorter than its longest is changed slice by slice:
turning it out of the plane would smear slices that are millimetres apart."""
OBLONG_RATIO = 1.5
"""A 2D patch longer than this is turned only a little: more would turn the image out of it."""
FREE, LITTLE, OBLONG = math.radians(180), math.radians(30), math.radians(15)


def is_planar(patch_size: Sequence[int]) -> bool:
    """Return whether spatial changes are made only in the plane of the last two axes."""
    return len(patch_size) == 3 and max(patch_size) / patch_size[0] > PLANAR_RATIO


def rotation(patch_size: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """Return the range of angles about each axis (one in a plane), radians."""
    if len(patch_size) == 3 and not is_planar(patch_size):
        return ((-LITTLE, LITTLE),) * 3
    oblong = len(patch_size) == 2 and max(patch_size) / min(patch_size) > OBLONG_RATIO
    angle = OBLONG if oblong else FREE
    return ((-angle, angle),)


def nnunet_augmentation(patch_size: Sequence[int]) -> AugmentationPlan:
    """Return nnU-Net's distribution: rare but strong, meant for 250,000 steps."""
    return AugmentationPlan(
        planar=is_planar(patch_size),
        rotation=rotation(patch_size),
        rotation_probability=0.2,
        scale=(0.7, 1.4),
        scale_probability=0.2,
        noise_probability=0.1,
        noise_std=(0.0, 0.1),
        blur_probability=0.2,
        blur_sigma=(0.5, 1.0),
        brightness_probability=0.15,
        brightness=(0.75, 1.25),
        contrast_probability=0.15,
        contrast=(0.75, 1.25),
        low_resolution_probability=0.25,
        low_resolution=(0.5, 1.0),
        gamma_probability=0.3,
        inverted_gamma_probability=0.1,
        gamma=(0.7, 1.5),
        mirror_probability=0.5,
    )


def light_augmentation(patch_size: Sequence[int]) -> AugmentationPlan:
    """Return a milder form for a few thousand steps on a CPU: affine changes and intensities.

    Blur and simulated low resolution, which hide detail, are left to longer runs; this choice is
    not yet measured.
    """
    limited = tuple((max(low, -LITTLE), min(high, LITTLE)) for low, high in rotation(patch_size))
    return nnunet_augmentation(patch_size).revised(
        rotation=limited,
        noise_probability=0.1,
        blur_probability=0.0,
        low_resolution_probability=0.0,
        gamma_probability=0.15,
        inverted_gamma_probability=0.0,
    )

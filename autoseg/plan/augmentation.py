"""Which random changes training patches get."""

import math
from collections.abc import Iterator, Sequence

from autoseg.plan.plan import AugmentationPlan, ConfigurationPlan

PLANAR_RATIO = 3.0
"""A patch whose first axis is this many times shorter than its longest is changed slice by slice:
turning it out of the plane would smear slices that are millimetres apart."""
OBLONG_RATIO = 1.5
"""A 2D patch longer than this is turned only a little: more would turn the image out of it."""
FREE, LITTLE, OBLONG = math.radians(180), math.radians(30), math.radians(15)

RANGES = (
    "scale",
    "blur_sigma",
    "brightness",
    "contrast",
    "low_resolution",
    "gamma",
    "elastic_sigma",
    "elastic_alpha",
    "cutmix_fraction",
    "previous_radius",
)
"""Fields from a smallest to a largest value, above 0."""


def is_planar(patch_size: Sequence[int]) -> bool:
    """Return whether spatial changes are made only in the plane of the last two axes."""
    return len(patch_size) == 3 and max(patch_size) / patch_size[0] > PLANAR_RATIO


def rotation(patch_size: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """Return the range of angles about each axis (one in a plane, none in 1D), radians."""
    if len(patch_size) == 1:
        return ()
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
        rotation_probability=0.2 if len(patch_size) > 1 else 0.0,
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


def cascade_augmentation(plan: AugmentationPlan) -> AugmentationPlan:
    """Return nnU-Net's changes to the labels of a previous stage beside those of the images.

    The labels that a second stage is trained on are a little better than those that it will see of
    new images: it must not trust their borders and small parts.
    """
    return plan.revised(previous_change_probability=0.4, previous_removal_probability=0.2)


def augmentation_problems(item: ConfigurationPlan) -> Iterator[str]:
    """Yield what contradicts itself in the augmentation of a configuration, one line a problem."""
    plan, num_axes = item.training.augmentation, len(item.patch_size)
    for name, value in plan:
        if name.endswith("_probability") and not 0 <= value <= 1:
            yield f"{name} is {value}, not from 0 to 1"
    yield from _range_problems(plan)
    changed = max(plan.previous_change_probability, plan.previous_removal_probability)
    if changed > 0 and item.previous_stage is None:
        yield "labels of a previous stage are changed, but the configuration has none"
    angles = {1: 0, 2: 1, 3: 1 if plan.planar else 3}[num_axes]
    if len(plan.rotation) != angles and plan.rotation_probability > 0:
        yield f"rotation has {len(plan.rotation)} ranges, not {angles}"
    yield from _class_problems(item)


def _range_problems(plan: AugmentationPlan) -> Iterator[str]:
    """Yield which ranges are empty or go too far."""
    for name in RANGES:
        low, high = getattr(plan, name)
        if not 0 < low <= high:
            yield f"{name} is {(low, high)}, not a range above 0"
    if not 0 <= plan.noise_std[0] <= plan.noise_std[1]:
        yield f"noise_std is {plan.noise_std}, not a range from 0"
    if plan.low_resolution[1] > 1:
        yield f"low_resolution is {plan.low_resolution}; more than 1 is no lower resolution"
    if not 0 < plan.previous_removal_limit <= 1:
        yield f"previous_removal_limit is {plan.previous_removal_limit}, not above 0 and at most 1"
    if plan.cutmix_fraction[1] > 1:
        yield f"cutmix_fraction is {plan.cutmix_fraction}; a box takes no more than the patch"


def _class_problems(item: ConfigurationPlan) -> Iterator[str]:
    """Yield which classes and axes are named that are not there."""
    plan, num_axes = item.training.augmentation, len(item.patch_size)
    last = item.network.num_classes - 1
    for index in plan.copy_paste_classes:
        if not 1 <= index <= last:
            yield f"copy_paste_classes has {index}, not a class from 1 to {last}"
    for pair in plan.side_pairs:
        if not (1 <= pair.first <= last and 1 <= pair.second <= last and pair.first != pair.second):
            yield f"side_pairs has {pair.first} and {pair.second}, not two classes from 1 to {last}"
        if not 0 <= pair.axis < num_axes:
            yield f"side_pairs has axis {pair.axis}; the network has {num_axes} axes"
        if plan.side_mirror_probability > 0 and pair.axis in item.recipe.mirror_axes:
            yield (
                f"side_pairs has axis {pair.axis}, which recipe.mirror_axes mirrors without "
                "swapping classes"
            )
    if plan.side_mirror_probability > 0 and not plan.side_pairs:
        yield "side_mirror_probability is above 0, but side_pairs names no classes to swap"

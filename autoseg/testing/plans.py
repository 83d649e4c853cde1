"""Small plans made by code, for tests of what follows a plan; `revised` changes their parts."""

from autoseg.plan.plan import AugmentationPlan, ConfigurationPlan, Cost, Plan, TrainingPlan
from autoseg.record import NetworkPlan, StagePlan
from autoseg.runtime.recipe import Channel, Labels, Recipe

STILL = AugmentationPlan(
    planar=False,
    rotation=((-0.3, 0.3),) * 3,
    rotation_probability=0.0,
    scale=(0.8, 1.2),
    scale_probability=0.0,
    noise_probability=0.0,
    noise_std=(0.0, 0.1),
    blur_probability=0.0,
    blur_sigma=(0.5, 1.0),
    brightness_probability=0.0,
    brightness=(0.75, 1.25),
    contrast_probability=0.0,
    contrast=(0.75, 1.25),
    low_resolution_probability=0.0,
    low_resolution=(0.5, 1.0),
    gamma_probability=0.0,
    inverted_gamma_probability=0.0,
    gamma=(0.7, 1.5),
    mirror_probability=0.0,
)
"""Patches stay as they are, but for what a test turns on."""
TRAINING = TrainingPlan(
    optimizer="sgd",
    peak_lr=0.01,
    momentum=0.99,
    weight_decay=0.0,
    poly_power=0.9,
    warmup_steps=0,
    max_gradient_norm=12.0,
    ema_decay=0.0,
    batch_dice=False,
    supervision_weights=(1.0,),
    foreground_fraction=0.33,
    augmentation=STILL,
    default_steps=None,
    default_budget_s=None,
)
FREE = Cost(
    parameters=1,
    step_operations=1.0,
    step_seconds=1.0,
    train_seconds=1.0,
    memory_bytes=1,
    disk_bytes=1,
)


def small_network(
    num_axes: int, *, num_classes: int = 3, stages: tuple[tuple[int, int], ...] = ((4, 1),)
) -> NetworkPlan:
    """Return a plain network of one channel; a stage is its features and its stride."""
    return NetworkPlan(
        encoder="plain",
        in_channels=1,
        num_classes=num_classes,
        stages=tuple(
            StagePlan(
                features=features,
                kernel_size=(3,) * num_axes,
                strides=(stride,) * num_axes,
                num_blocks=1,
            )
            for features, stride in stages
        ),
        decoder_convs=1,
        num_supervised=1,
    )


def small_configuration(
    patch_size: tuple[int, ...] = (16, 16, 16), *, image_axes: int = 3, **changes: object
) -> ConfigurationPlan:
    """Return a configuration of one channel and one stage, with fields of it changed.

    Parameters
    ----------
    patch_size
        As many axes as the network.
    image_axes
        Axes of the images; of volumes a network of two axes sees slices.
    """
    dims = len(patch_size)
    recipe = Recipe(
        transpose=tuple(range(image_axes)),
        spacing=(1.0,) * dims,
        channels=(Channel(name="MRI", scheme="zscore"),),
        order="resample-normalise",
        spline_order=3,
        coarse_ratio=3.0,
        padding="mirror",
        overlap=0.5,
        mirror_axes=tuple(range(dims)),
        test_time_mirroring=False,
    )
    fields = {
        "name": ("1d", "2d", "3d_fullres")[dims - 1],
        "recipe": recipe,
        "patch_size": patch_size,
        "batch_size": 2,
        "median_shape": patch_size,
        "network": small_network(dims),
        "training": TRAINING,
        "cost": FREE,
        "train_by_default": True,
        "why": "a test",
    }
    return ConfigurationPlan.model_validate({**fields, **changes})


def small_plan(
    labels: Labels, configurations: tuple[ConfigurationPlan, ...], **changes: object
) -> Plan:
    """Return a plan for a processor, with fields of it changed."""
    fields = {
        "autoseg_version": "0",
        "planner": "test",
        "dataset_name": "made",
        "fingerprint_digest": "0",
        "labels": labels,
        "unit": "mm",
        "configurations": configurations,
        "num_folds": 5,
        "seed": 0,
        "budget_s": None,
        "device": "cpu",
        "memory_bytes": 8 * 10**9,
        "ram_bytes": 8 * 10**9,
        "num_threads": 1,
        "nsd_tolerance": 1.0,
        "decisions": (),
    }
    return Plan.model_validate({**fields, **changes})

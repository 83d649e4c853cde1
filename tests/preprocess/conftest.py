"""A small data set on disk, and plans for it."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from autoseg.dataset.dataset import Case, Dataset
from autoseg.plan.plan import AugmentationPlan, ConfigurationPlan, Cost, Plan, TrainingPlan
from autoseg.record import NetworkPlan, StagePlan
from autoseg.runtime.recipe import Channel, Labels, Recipe

LABELS = Labels(names=("background", "a", "b"), values=(0, 10, 20), ignore=255)


def write(path: Path, array: np.ndarray, spacing: tuple[float, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(value) for value in reversed(spacing)])
    sitk.WriteImage(image, str(path))


def volume(index: int, shape=(12, 20, 18)):
    """Return a noisy image with two nested boxes, and the label values of its file."""
    rng = np.random.default_rng(index)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[3:9, 4:15, 4:14] = 10
    labels[5:8, 7:12, 7:12] = 20
    labels[-1] = 255
    image = rng.normal(100 + labels % 255, 5).astype(np.float32)
    return image, labels


def dataset(root: Path, case_ids=("a", "b", "c"), spacing=(2.0, 1.0, 1.0)) -> Dataset:
    cases = []
    for index, case_id in enumerate(case_ids):
        image, labels = volume(index)
        write(root / f"images/{index}.nii.gz", image, spacing)
        write(root / f"labels/{index}.nii.gz", labels, spacing)
        files = (f"images/{index}.nii.gz",)
        cases.append(
            Case(id=case_id, images=files, labels=(f"labels/{index}.nii.gz",), group=case_id)
        )
    return Dataset(
        name="boxes",
        root=root,
        layout="folders",
        channel_files="single",
        channels=("MRI",),
        labels=LABELS,
        labels_declared=True,
        file_ending=".nii.gz",
        cases=tuple(cases),
    )


AUGMENTATION = AugmentationPlan(
    planar=False,
    rotation=((0.0, 0.0),),
    rotation_probability=0.0,
    scale=(1.0, 1.0),
    scale_probability=0.0,
    noise_probability=0.0,
    noise_std=(0.0, 0.0),
    blur_probability=0.0,
    blur_sigma=(1.0, 1.0),
    brightness_probability=0.0,
    brightness=(1.0, 1.0),
    contrast_probability=0.0,
    contrast=(1.0, 1.0),
    low_resolution_probability=0.0,
    low_resolution=(1.0, 1.0),
    gamma_probability=0.0,
    inverted_gamma_probability=0.0,
    gamma=(1.0, 1.0),
    mirror_probability=0.5,
)
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
    augmentation=AUGMENTATION,
    default_steps=1,
    default_budget_s=None,
)


def configuration(name: str, spacing: tuple[float, ...], patch: tuple[int, ...]):
    dims = len(patch)
    recipe = Recipe(
        transpose=(0, 1, 2),
        spacing=spacing,
        channels=(Channel(name="MRI", scheme="zscore"),),
        order="resample-normalise",
        spline_order=3,
        coarse_ratio=3.0,
        padding="mirror",
        overlap=0.5,
        mirror_axes=tuple(range(dims)),
        test_time_mirroring=False,
    )
    stage = StagePlan(features=4, kernel_size=(3,) * dims, strides=(1,) * dims, num_blocks=1)
    network = NetworkPlan(
        encoder="plain",
        in_channels=1,
        num_classes=3,
        stages=(stage,),
        decoder_convs=1,
        num_supervised=1,
    )
    cost = Cost(
        parameters=1,
        step_operations=1.0,
        step_seconds=1.0,
        train_seconds=1.0,
        memory_bytes=1,
        disk_bytes=1,
    )
    return ConfigurationPlan(
        name=name,
        recipe=recipe,
        patch_size=patch,
        batch_size=2,
        median_shape=patch,
        network=network,
        training=TRAINING,
        cost=cost,
        train_by_default=True,
        why="test",
    )


def plan(spacing=(2.0, 1.0, 1.0), **changes) -> Plan:
    fields = {
        "autoseg_version": "0",
        "planner": "test",
        "dataset_name": "boxes",
        "fingerprint_digest": "0",
        "labels": LABELS,
        "unit": "mm",
        "configurations": (
            configuration("2d", spacing[1:], (16, 16)),
            configuration("3d_fullres", spacing, (8, 16, 16)),
        ),
        "num_folds": 5,
        "seed": 0,
        "budget_s": None,
        "device": "cpu",
        "memory_bytes": 8_000_000_000,
        "ram_bytes": 8_000_000_000,
        "num_threads": 1,
        "nsd_tolerance": 1.0,
        "decisions": (),
    }
    return Plan(**{**fields, **changes})


@pytest.fixture
def make_dataset():
    """Function that writes a data set below a folder."""
    return dataset


@pytest.fixture
def make_plan():
    """Function that returns a plan with the configurations 2d and 3d_fullres."""
    return plan

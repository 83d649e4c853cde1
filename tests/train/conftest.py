"""A small planned and prepared data set, and jobs on it."""

import pytest
import torch

from autoseg.dataset.open import open_dataset
from autoseg.plan.plan import (
    AugmentationPlan,
    ConfigurationPlan,
    Cost,
    Plan,
    TrainingPlan,
)
from autoseg.preprocess.preprocess import preprocess
from autoseg.record import NetworkPlan, StagePlan
from autoseg.runtime.recipe import Channel, Recipe
from autoseg.testing.synthetic import write_spheres
from autoseg.train.job import FoldJob
from autoseg.workspace import Workspace

AUGMENTATION = AugmentationPlan(
    planar=False,
    rotation=((-0.3, 0.3),) * 3,
    rotation_probability=0.2,
    scale=(0.8, 1.2),
    scale_probability=0.2,
    noise_probability=0.1,
    noise_std=(0.0, 0.1),
    blur_probability=0.0,
    blur_sigma=(0.5, 1.0),
    brightness_probability=0.1,
    brightness=(0.75, 1.25),
    contrast_probability=0.1,
    contrast=(0.75, 1.25),
    low_resolution_probability=0.0,
    low_resolution=(0.5, 1.0),
    gamma_probability=0.1,
    inverted_gamma_probability=0.0,
    gamma=(0.7, 1.5),
    mirror_probability=0.5,
)

TRAINING = TrainingPlan(
    optimizer="adamw",
    peak_lr=5e-3,
    momentum=0.9,
    weight_decay=1e-2,
    poly_power=0.9,
    warmup_steps=2,
    max_gradient_norm=12.0,
    ema_decay=0.9,
    batch_dice=True,
    supervision_weights=(0.7, 0.3),
    foreground_fraction=0.5,
    augmentation=AUGMENTATION,
    default_steps=None,
    default_budget_s=None,
)


def small_configuration(**training):
    stages = tuple(
        StagePlan(features=width, kernel_size=(3, 3, 3), strides=(stride,) * 3, num_blocks=1)
        for width, stride in ((8, 1), (16, 2), (16, 2))
    )
    return ConfigurationPlan(
        name="3d_fullres",
        recipe=Recipe(
            transpose=(0, 1, 2),
            spacing=(1.0, 1.0, 1.0),
            channels=(Channel(name="mri", scheme="zscore"),),
            order="resample-normalise",
            spline_order=3,
            coarse_ratio=3.0,
            padding="mirror",
            overlap=0.5,
            mirror_axes=(2,),
            test_time_mirroring=False,
        ),
        patch_size=(16, 16, 16),
        batch_size=2,
        median_shape=(20, 24, 22),
        network=NetworkPlan(
            encoder="plain",
            in_channels=1,
            num_classes=2,
            stages=stages,
            decoder_convs=1,
            num_supervised=2,
        ),
        training=TRAINING.revised(**training),
        cost=Cost(
            parameters=0,
            step_operations=0.0,
            step_seconds=0.0,
            train_seconds=0.0,
            memory_bytes=0,
            disk_bytes=0,
        ),
        train_by_default=True,
        why="the only one",
    )


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Six small volumes with one ball each, planned and prepared: (plan, dataset, workspace)."""
    root = tmp_path_factory.mktemp("prepared")
    data = write_spheres(root / "spheres", num_cases=6, seed=0, shape=(20, 24, 22))
    dataset = open_dataset(data, None, None)
    plan = Plan(
        autoseg_version="0",
        planner="test",
        dataset_name="spheres",
        fingerprint_digest="",
        labels=dataset.labels,
        unit="mm",
        configurations=(small_configuration(),),
        num_folds=2,
        seed=0,
        budget_s=None,
        device="cpu",
        memory_bytes=10**9,
        ram_bytes=10**9,
        num_threads=1,
        nsd_tolerance=1.0,
        decisions=(),
    )
    workspace = Workspace(root / "spheres.autoseg")
    preprocess(dataset, plan, workspace, ["3d_fullres"], num_workers=1, on_case=lambda *_: None)
    return plan, dataset, workspace


@pytest.fixture
def make_job(prepared, tmp_path_factory):
    """Return a function that makes jobs in a workspace of their own on the prepared cases."""
    plan, dataset, workspace = prepared
    threads = torch.get_num_threads()

    def make(fold="0", num_steps=8, root=None, **changes):
        root = root or tmp_path_factory.mktemp("fold") / "run.autoseg"
        target = Workspace(root).preprocessed("3d_fullres")
        if not target.exists():
            target.parent.mkdir(parents=True)
            target.symlink_to(workspace.preprocessed("3d_fullres"))
        ids = [case.id for case in dataset.cases]
        values = {
            "plan": plan,
            "dataset": dataset,
            "root": root,
            "configuration": "3d_fullres",
            "fold": fold,
            "train_cases": tuple(ids[2:]) if fold == "0" else tuple(ids[:4]),
            "val_cases": tuple(ids[:2]) if fold == "0" else tuple(ids[4:]),
            "device": "cpu",
            "num_threads": 1,
            "num_steps": num_steps,
        }
        return FoldJob(**{**values, **changes})

    yield make
    torch.set_num_threads(threads)

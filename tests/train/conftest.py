"""A small planned and prepared data set, and jobs on it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from autoseg.dataset.open import open_dataset
from autoseg.plan.compose import cascade
from autoseg.preprocess.preprocess import preprocess
from autoseg.preprocess.previous_store import PreviousStore
from autoseg.testing.plans import STILL, small_configuration, small_network, small_plan
from autoseg.testing.synthetic import write_spheres
from autoseg.train.job import FoldJob
from autoseg.workspace import Workspace

LIVELY = STILL.revised(
    rotation_probability=0.2,
    scale_probability=0.2,
    noise_probability=0.1,
    brightness_probability=0.1,
    contrast_probability=0.1,
    gamma_probability=0.1,
    mirror_probability=0.5,
)


def learning_configuration():
    """Return a configuration whose network learns in a few steps."""
    item = small_configuration((16, 16, 16), median_shape=(20, 24, 22))
    network = small_network(3, num_classes=2, stages=((8, 1), (16, 2), (16, 2)))
    training = item.training.revised(
        optimizer="adamw",
        peak_lr=5e-3,
        momentum=0.9,
        weight_decay=1e-2,
        warmup_steps=2,
        ema_decay=0.9,
        batch_dice=True,
        supervision_weights=(0.7, 0.3),
        foreground_fraction=0.5,
        augmentation=LIVELY,
    )
    return item.revised(
        recipe=replace(item.recipe, mirror_axes=(2,)),
        network=network.revised(num_supervised=2),
        training=training,
    )


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Six small volumes with one ball each, planned and prepared: (plan, dataset, workspace)."""
    root = tmp_path_factory.mktemp("prepared")
    data = write_spheres(root / "spheres", num_cases=6, seed=0, shape=(20, 24, 22))
    dataset = open_dataset(data, None, None)
    plan = small_plan(dataset.labels, (learning_configuration(),), num_folds=2, ram_bytes=10**9)
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


SECOND = "3d_cascade_fullres"


@pytest.fixture
def find_previous():
    """Return a function that writes what a previous stage found in some cases of a job.

    It is off by some voxels along the last axis, at most.
    """

    def find(job, case_ids, off=0):
        store = PreviousStore(Workspace(job.root).previous_labels(SECOND))
        for case_id in case_ids:
            labels = np.roll(job.store.labels(case_id)[:], off, axis=-1)
            store.write(case_id, labels, job.planned.patch_size, f"{case_id} off by {off}")
        return store

    return find


@pytest.fixture
def make_second_stage(make_job, find_previous):
    """Return a function that makes jobs of a second stage, all it needs of the first prepared."""

    def make(**changes):
        job = make_job(**changes)
        (full,) = job.plan.configurations
        coarse = full.revised(name="3d_lowres")
        plan = job.plan.revised(configurations=(full, coarse, cascade(full, "3d_lowres", "a test")))
        job = replace(job, plan=plan, configuration=SECOND)
        find_previous(job, (*job.train_cases, *job.val_cases), off=2)
        return job

    return make

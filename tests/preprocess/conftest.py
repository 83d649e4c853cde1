"""A small data set on disk, and plans for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from autoseg.dataset.dataset import Case, Dataset
from autoseg.plan.plan import Plan
from autoseg.runtime.recipe import Labels
from autoseg.testing.plans import small_configuration, small_plan

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


def plan(spacing=(2.0, 1.0, 1.0), **changes) -> Plan:
    flat, full = small_configuration((16, 16)), small_configuration((8, 16, 16))
    flat = flat.revised(recipe=replace(flat.recipe, spacing=spacing[1:]))
    full = full.revised(recipe=replace(full.recipe, spacing=spacing))
    return small_plan(LABELS, (flat, full), **changes)


@pytest.fixture
def make_dataset():
    """Function that writes a data set below a folder."""
    return dataset


@pytest.fixture
def make_plan():
    """Function that returns a plan with the configurations 2d and 3d_fullres."""
    return plan

"""A small planned data set whose folds are trained as far as records tell."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.dataset import Case, Dataset
from autoseg.evaluate.score import score_case
from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint, Intensities
from autoseg.machine import Machine
from autoseg.plan.plan import Plan
from autoseg.plan.request import PlanRequest
from autoseg.runtime.images import Geometry, write_labels
from autoseg.runtime.recipe import Labels
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace, write_text
from autoseg_planners import nnunet

SHAPE = (10, 12, 14)
SPACING = (1.0, 1.0, 1.0)
LABELS = Labels(names=("background", "large", "small"), values=(0, 5, 9))


@pytest.fixture(scope="session")
def plan() -> Plan:
    stats = [
        CaseStats(case_id=f"case {i}", shape=SHAPE, shape_after_crop=SHAPE, spacing=SPACING)
        for i in range(6)
    ]
    ranges = Intensities(
        mean=1.0, median=1.0, std=1.0, min=0.0, max=2.0, percentile_00_5=0.0, percentile_99_5=2.0
    )
    fingerprint = Fingerprint(
        autoseg_version="0",
        dataset_name="made up",
        unit="mm",
        labels=LABELS,
        channels=("MR",),
        cases=tuple(stats),
        intensities=(ranges,),
        median_relative_size_after_cropping=1.0,
    )
    request = PlanRequest(
        fingerprint=fingerprint,
        machine=Machine(
            num_cpus=2,
            memory_bytes=8 * 10**9,
            gpus=(),
            cpu_features=(),
            flops=1e11,
            system="Linux",
            python="3.11",
        ),
        device="cpu",
        memory_bytes=None,
        ram_bytes=4 * 10**9,
        budget_s=None,
        num_folds=3,
        seed=0,
    )
    return nnunet.plan(request)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "made up.autoseg")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    cases = tuple(
        Case(
            id=f"case {i}",
            images=(f"images/case {i}.nii.gz",),
            labels=f"labels/case {i}.nii.gz",
            group=f"patient {i // 2}",
        )
        for i in range(6)
    )
    return Dataset(
        name="made up",
        root=tmp_path / "data",
        layout="folders",
        channel_files="single",
        channels=("MR",),
        labels=LABELS,
        labels_declared=True,
        file_ending=".nii.gz",
        cases=cases,
    )


@pytest.fixture
def train(
    plan: Plan, workspace: Workspace, dataset: Dataset
) -> Callable[[str, str, dict[str, tuple[np.ndarray, np.ndarray]]], FoldResult]:
    """Write reference and prediction (class indices) of the cases of a fold, and its result."""

    def write(configuration, fold, cases):
        folder = workspace.fold(configuration, fold)
        folder.validation.mkdir(parents=True)
        (dataset.root / "labels").mkdir(parents=True, exist_ok=True)
        values = np.array(LABELS.values)
        geometry = Geometry(spacing=SPACING)
        scores = []
        for name, (reference, prediction) in cases.items():
            path = dataset.root / "labels" / f"{name}.nii.gz"
            write_labels(path, values[reference], geometry)
            write_labels(folder.validation / path.name, values[prediction], geometry)
            scores.append(score_case(name, prediction, reference, SPACING, 3, 1.0))
        result = FoldResult(
            autoseg_version="0",
            plan_digest=plan.digest(),
            configuration=configuration,
            fold=fold,
            seed=0,
            num_steps=1,
            train_seconds=1.0,
            validation_seconds=1.0,
            scores=tuple(scores),
        )
        write_text(folder.result, result.to_json())
        return result

    return write

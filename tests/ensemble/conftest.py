"""A small planned data set whose folds are trained as far as records tell."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.dataset import Case, Dataset
from autoseg.ensemble.stored import Source
from autoseg.evaluate.score import score_case
from autoseg.plan.plan import Plan
from autoseg.runtime.images import Geometry, write_labels
from autoseg.runtime.prepare import Placement
from autoseg.runtime.recipe import Labels
from autoseg.testing.fingerprints import fingerprint_of, request_of
from autoseg.train.job import Listeners
from autoseg.train.out_of_fold import StoredCase, to_steps, write_stored
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace, write_text
from autoseg_planners import nnunet

SHAPE = (10, 12, 14)
SPACING = (1.0, 1.0, 1.0)
LABELS = Labels(names=("background", "large", "small"), values=(0, 5, 9))


@pytest.fixture(scope="session")
def plan() -> Plan:
    fingerprint = fingerprint_of([SHAPE] * 6, SPACING, labels=LABELS)
    return nnunet.plan(request_of(fingerprint, num_folds=3))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "made up.autoseg")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    cases = tuple(
        Case(
            id=f"case {i}",
            images=(f"images/case {i}.nii.gz",),
            labels=(f"labels/case {i}.nii.gz",),
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
def source(plan: Plan, dataset: Dataset, workspace: Workspace) -> Source:
    return Source(plan, dataset, workspace, Listeners(lambda _: None, lambda: False))


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


@pytest.fixture
def store(plan: Plan, workspace: Workspace) -> Callable[[str, str, str, np.ndarray], None]:
    """Store the probabilities of a case of a fold from logits (K, *S) on the image's grid."""

    def write(configuration, fold, name, logits):
        shape = logits.shape[1:]
        placement = Placement(
            image_shape=shape,
            transpose=(0, 1, 2),
            box=tuple((0, size) for size in shape),
            prepared_shape=shape,
            coarse_axis=None,
        )
        case = StoredCase(name, to_steps(logits), placement, float(np.prod(SPACING)))
        write_stored(workspace.fold(configuration, fold), case, plan.digest())

    return write

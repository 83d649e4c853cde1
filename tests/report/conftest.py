"""Workspaces at every stage, with results made by code instead of by training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import Dataset, Finding, Findings
from autoseg.dataset.label_values import to_values
from autoseg.dataset.open import open_dataset
from autoseg.ensemble.choose import choose_ensemble
from autoseg.ensemble.postprocessing import choose_postprocessing
from autoseg.ensemble.stored import Source
from autoseg.evaluate.score import score_case
from autoseg.fingerprint.fingerprint_dataset import survey_dataset
from autoseg.plan.plan import Plan
from autoseg.runtime.images import write_labels
from autoseg.runtime.manifest import (
    MANIFEST,
    Configuration,
    Manifest,
    Parity,
    StoredFile,
    Timing,
    Verification,
)
from autoseg.seeds import stream
from autoseg.testing.fingerprints import request_of
from autoseg.testing.synthetic import write_spheres
from autoseg.train.job import Listeners
from autoseg.train.records import FoldResult, RunSettings
from autoseg.workspace import Workspace, append_line, write_bytes, write_text
from autoseg_planners import nnunet

FINDINGS = (
    Finding(severity="note", found="12 cases have another spacing", expected="one", remedy="none"),
    Finding(
        severity="warning",
        files=("labels/a.nii.gz",),
        found="class <b>rare</b> is in 2 cases",
        expected="more",
        remedy="check that it was annotated everywhere",
    ),
)


def planned(root: Path, workspace: Workspace, num_folds: int) -> tuple[Dataset, Plan]:
    """Write what `autoseg plan` writes."""
    dataset = open_dataset(root, None, None)
    fingerprint, _ = survey_dataset(
        dataset, workspace.measured, num_workers=1, ram_bytes=10**9, on_case=lambda _: None
    )
    assert fingerprint is not None
    plan = nnunet.plan(request_of(fingerprint, num_folds=num_folds))
    for path, record in (
        (workspace.dataset, dataset),
        (workspace.findings, Findings(findings=FINDINGS)),
        (workspace.fingerprint, fingerprint),
        (workspace.plan, plan),
    ):
        write_text(path, record.to_json())
    return dataset, plan


def train_fold(
    dataset: Dataset, plan: Plan, workspace: Workspace, configuration: str, fold: int
) -> FoldResult:
    """Write what training a fold writes; predictions are references, moved and with a speckle."""
    folder = workspace.fold(configuration, str(fold))
    folder.validation.mkdir(parents=True)
    write_settings(plan, workspace, configuration, fold)
    scores = []
    for case in dataset.cases[fold :: plan.num_folds]:
        image, reference = read_case(dataset, case)
        prediction = disturbed(reference, stream(1, case.id, configuration))
        path = folder.validation / f"{case.id}{dataset.file_ending}"
        write_labels(path, to_values(prediction, plan.labels), image.geometry)
        num_classes, spacing = len(plan.labels.names), image.geometry.spacing
        regions = [region.classes for region in plan.labels.regions]
        pair = prediction, reference
        scores.append(score_case(case.id, *pair, spacing, num_classes, 1.0, regions))
    result = FoldResult(
        autoseg_version="0.1.0",
        plan_digest=plan.digest(),
        configuration=configuration,
        fold=str(fold),
        seed=plan.seed,
        num_steps=500,
        train_seconds=431.0,
        validation_seconds=12.5,
        scores=tuple(scores),
    )
    write_text(folder.result, result.to_json())
    return result


def disturbed(reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return class indices that are nearly those of the reference."""
    noise = rng.normal(size=(reference.ndim, *reference.shape))
    field = ndimage.gaussian_filter(noise, (0,) + (3,) * reference.ndim)
    field *= rng.uniform(0.2, 1.5) / max(field.std(), 1e-6)
    grid = np.indices(reference.shape) + field
    moved = ndimage.map_coordinates(np.maximum(reference, 0), grid, order=0, mode="nearest")
    if rng.random() < 0.5:
        moved[tuple(slice(1, 3) for _ in reference.shape)] = 1
    return moved


def write_settings(plan: Plan, workspace: Workspace, configuration: str, fold: int) -> None:
    """Write what a fold writes before and while it trains."""
    folder = workspace.fold(configuration, str(fold))
    settings = RunSettings(
        plan_digest=plan.digest(),
        configuration=configuration,
        fold=str(fold),
        num_steps=500,
        device="cpu",
        precision="bf16",
        num_threads=2,
        channels_last=True,
        seconds_per_step=0.83,
    )
    write_text(folder.settings, settings.to_json())
    rng = stream(fold, "metrics")
    for step in range(10, 501, 10):
        line = {"step": step, "lr": 0.01 * (1 - step / 500) ** 0.9, "seconds": step * 0.83}
        line["loss"] = 0.9 * np.exp(-step / 150) - 0.85 + rng.normal(0, 0.02)
        if step % 50 == 0:
            line["dice"] = 0.88 * (1 - np.exp(-step / 90)) + rng.normal(0, 0.01)
        append_line(folder.metrics, line)


def export(plan: Plan, workspace: Workspace, configuration: str, folds: tuple[str, ...]) -> None:
    """Write a manifest and a file that stands for the zipped model."""
    item = plan.configuration(configuration)
    parity = Parity(
        backend="onnx",
        num_cases=3,
        num_voxels=183_456,
        label_agreement=0.999984,
        max_probability_difference=3.1e-5,
    )
    timing = Timing(
        backend="onnx", num_threads=2, import_seconds=0.12, load_seconds=0.2, tile_seconds=0.31
    )
    manifest = Manifest(
        autoseg_version="0.1.0",
        name=plan.dataset_name,
        planner=plan.planner,
        plan_digest=plan.digest(),
        fingerprint_digest=plan.fingerprint_digest,
        seed=plan.seed,
        unit=plan.unit,
        channels=tuple(channel.name for channel in item.recipe.channels),
        channel_files="suffix",
        file_ending=".nii.gz",
        labels=plan.labels,
        configurations=(
            Configuration(
                name=configuration,
                weight=1.0,
                folds=folds,
                recipe=item.recipe,
                patch_size=item.patch_size,
                tiles_per_case=2.0,
                input="normalised" if item.recipe.order == "normalise-resample" else "raw",
                spatial="dynamic",
                spatial_multiple=item.network.total_strides,
                onnx="network.onnx",
                torchscript="network.pt",
                parity=(parity,),
                timings=(timing,),
            ),
        ),
        postprocessing=(),
        files=tuple(
            StoredFile(name=name, num_bytes=1, sha256="0" * 64)
            for name in ("network.onnx", "network.pt", "image.nii.gz", "labels.nii.gz")
        ),
        verification=Verification(
            kind="synthetic",
            images=("image.nii.gz",),
            expected="labels.nii.gz",
            label_agreement=1.0,
        ),
    )
    write_text(workspace.model / MANIFEST, manifest.to_json())
    write_bytes(workspace.model_zip, b"zipped" * 5000)
    write_text(
        workspace.run,
        '{"commands": ["autoseg train -w spheres.autoseg"], "active_s": {"1": 900.5},'
        ' "versions": {"torch": "2.13.0", "numpy": "2.4.1"}, "machine": {"num_cpus": 2,'
        ' "memory_bytes": 8000000000, "gpus": [], "cpu_features": ["avx512_bf16"],'
        ' "system": "Linux", "python": "3.11.9"}}\n',
    )


def finish(root: Path, workspace: Workspace, num_folds: int) -> None:
    """Write a finished workspace."""
    dataset, plan = planned(root, workspace, num_folds)
    results = [
        train_fold(dataset, plan, workspace, item.name, fold)
        for item in plan.configurations[:2]
        for fold in range(num_folds)
    ]
    ensemble = choose_ensemble(plan, workspace, results)
    write_text(workspace.ensemble, ensemble.to_json())
    source = Source(plan, dataset, workspace, Listeners(lambda _: None, lambda: False))
    choice = choose_postprocessing(source, ensemble)
    write_text(workspace.postprocessing, choice.to_json())
    export(plan, workspace, ensemble.members[0].configuration, ensemble.members[0].folds)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "spheres.autoseg")


@pytest.fixture
def spheres(tmp_path: Path) -> Path:
    return write_spheres(
        tmp_path / "spheres",
        num_cases=6,
        seed=0,
        shape=(10, 20, 18),
        spacing=(3.0, 1.0, 1.0),
        num_classes=3,
    )


@pytest.fixture
def plan_workspace(spheres: Path, workspace: Workspace) -> Callable[[], tuple[Dataset, Plan]]:
    return lambda: planned(spheres, workspace, 2)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished workspace: read it, do not write to it."""
    folder = tmp_path_factory.mktemp("finished")
    root = write_spheres(
        folder / "spheres",
        num_cases=6,
        seed=0,
        shape=(10, 20, 18),
        spacing=(3.0, 1.0, 1.0),
        num_classes=3,
    )
    workspace = Workspace(folder / "spheres.autoseg")
    finish(root, workspace, 2)
    return workspace


@pytest.fixture(name="planned")
def _planned() -> Callable[[Path, Workspace, int], tuple[Dataset, Plan]]:
    return planned


@pytest.fixture(name="train_fold")
def _train_fold() -> Callable[[Dataset, Plan, Workspace, str, int], FoldResult]:
    return train_fold


@pytest.fixture(name="write_settings")
def _write_settings() -> Callable[[Plan, Workspace, str, int], None]:
    return write_settings

"""A planned data set whose folds are "trained": their weights are drawn, not learnt."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.dataset import Case, Dataset
from autoseg.ensemble.choose import Candidate, Ensemble, Member
from autoseg.ensemble.postprocessing import PostprocessingChoice
from autoseg.evaluate.scores import CaseScore
from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint, Intensities
from autoseg.machine import Machine
from autoseg.network.build import build_network, initialise
from autoseg.plan.compose import cascade
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.plan.request import PlanRequest
from autoseg.record import NetworkPlan, StagePlan
from autoseg.runtime.images import Geometry, Image, write_image
from autoseg.runtime.recipe import KeepLargest, Labels
from autoseg.train.checkpoint import Standing, save_weights
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace, write_text
from autoseg_planners import nnunet

SHAPE = (13, 22, 20)
SPACING = (1.5, 1.0, 1.0)
LABELS = Labels(names=("background", "large", "small"), values=(0, 5, 300), ignore=9)
CASES = ("<script>", "Fall ä 1", "c")


@dataclass(frozen=True)
class Trained:
    """What an export starts from."""

    plan: Plan
    dataset: Dataset
    workspace: Workspace
    ensemble: Ensemble
    postprocessing: PostprocessingChoice


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    """A data set with one planned configuration and two folds."""
    dataset = write_images(tmp_path / "data")
    workspace = Workspace(tmp_path / "made up.autoseg")
    plan = make_plan(dataset, workspace)
    return train(plan, dataset, workspace, {"3d_fullres": 1.0})


@pytest.fixture
def trained_cascade(trained: Trained) -> Trained:
    """The same data set with a coarse stage and one that sees its labels; only the latter votes."""
    fullres = trained.plan.configuration("3d_fullres")
    coarse = tuple(2 * size for size in fullres.recipe.spacing)
    lowres = fullres.revised(name="3d_lowres", recipe=replace(fullres.recipe, spacing=coarse))
    second = cascade(fullres, lowres.name, "made up").revised(region_margin=1.0)
    plan = trained.plan.revised(configurations=(lowres, fullres, second))
    weights = {"3d_lowres": 0.5, "3d_cascade_fullres": 0.5}
    both = train(plan, trained.dataset, trained.workspace, weights)
    voting = both.ensemble.members[1].revised(weight=1.0)
    return replace(both, ensemble=both.ensemble.revised(members=(voting,)))


def write_images(root: Path) -> Dataset:
    rng = np.random.default_rng(0)
    cases = []
    for case_id in CASES:
        array = (100 + 30 * rng.standard_normal((1, *SHAPE))).astype(np.int16)
        name = f"images/{case_id}_0000.nii.gz"
        write_image(root / name, Image(array, Geometry(SPACING)))
        cases.append(
            Case(id=case_id, images=(name,), labels=(f"labels/{case_id}.nii.gz",), group=case_id)
        )
    return Dataset(
        name="made up",
        root=root,
        layout="nnunet",
        channel_files="suffix",
        channels=("CT",),
        labels=LABELS,
        labels_declared=True,
        file_ending=".nii.gz",
        cases=tuple(cases),
    )


def make_plan(dataset: Dataset, workspace: Workspace) -> Plan:
    """Return nnU-Net's plan with a network that is fast to export."""
    stats = tuple(
        CaseStats(case_id=case, shape=SHAPE, shape_after_crop=SHAPE, spacing=SPACING)
        for case in CASES
    )
    ranges = Intensities(
        mean=100, median=100, std=30, min=0, max=200, percentile_00_5=40, percentile_99_5=160
    )
    fingerprint = Fingerprint(
        autoseg_version="0",
        dataset_name=dataset.name,
        unit="mm",
        labels=LABELS,
        channels=dataset.channels,
        cases=stats,
        intensities=(ranges,),
        median_relative_size_after_cropping=1.0,
    )
    write_text(workspace.fingerprint, fingerprint.to_json())
    machine = Machine(
        num_cpus=2,
        memory_bytes=8 * 10**9,
        gpus=(),
        cpu_features=(),
        flops=1e11,
        system="Linux",
        python="3.11",
    )
    request = PlanRequest(
        fingerprint=fingerprint,
        machine=machine,
        device="cpu",
        memory_bytes=None,
        ram_bytes=4 * 10**9,
        budget_s=None,
        num_folds=2,
        seed=0,
    )
    plan = nnunet.plan(request)
    return plan.revised(configurations=tuple(shrink(item) for item in plan.configurations))


def shrink(item: ConfigurationPlan) -> ConfigurationPlan:
    """Return a configuration with a small patch, two stages, and normalisation in the graph."""
    dims = len(item.patch_size)
    network = NetworkPlan(
        encoder="plain",
        in_channels=1,
        num_classes=3,
        stages=tuple(
            StagePlan(features=4, kernel_size=(3,) * dims, strides=(s,) * dims, num_blocks=1)
            for s in (1, 2)
        ),
        decoder_convs=1,
        num_supervised=1,
    )
    return item.revised(
        network=network,
        patch_size=(8, 12, 16)[-dims:],
        recipe=replace(item.recipe, order="resample-normalise", padding="mirror"),
    )


def train(plan: Plan, dataset: Dataset, workspace: Workspace, weights: dict[str, float]) -> Trained:
    """Return folds 0 and 1 of each configuration, with drawn weights and a result."""
    digest = plan.digest()
    for name in weights:
        for fold in ("0", "1"):
            folder = workspace.fold(name, fold)
            network = build_network(plan.configuration(name).network)
            initialise(network, int(fold))
            standing = Standing(plan_digest=digest, step=1, elapsed_s=1.0)
            save_weights(folder.final, network.state_dict(), standing)
            write_text(folder.result, make_result(digest, name, fold).to_json())
    members = [
        Member(configuration=name, folds=("0", "1"), weight=weight)
        for name, weight in weights.items()
    ]
    candidates = [
        Candidate(configuration=name, folds=("0", "1"), num_cases=3, dice=0.5) for name in weights
    ]
    ensemble = Ensemble(
        autoseg_version="0",
        plan_digest=digest,
        members=tuple(members),
        candidates=tuple(candidates),
        reason="made up",
    )
    return Trained(plan, dataset, workspace, ensemble, make_postprocessing(digest))


def make_result(digest: str, name: str, fold: str) -> FoldResult:
    return FoldResult(
        autoseg_version="0",
        plan_digest=digest,
        configuration=name,
        fold=fold,
        seed=0,
        num_steps=1,
        train_seconds=1.0,
        validation_seconds=1.0,
        scores=(CaseScore(case_id=CASES[int(fold)], classes=()),),
    )


def make_postprocessing(digest: str) -> PostprocessingChoice:
    return PostprocessingChoice(
        autoseg_version="0",
        plan_digest=digest,
        configuration="3d_fullres",
        steps=(KeepLargest(classes=(1, 2)),),
        num_cases=3,
        trials=(),
        dice=None,
        dice_in_sample=None,
        dice_cross_fitted=None,
        cross_fitting="none",
        class_dice=(),
        class_dice_in_sample=(),
        class_dice_cross_fitted=(),
        reason="made up",
    )


@pytest.fixture
def train_more(trained: Trained) -> Callable[[dict[str, float]], Trained]:
    """Train other configurations of the same plan."""
    return lambda weights: train(trained.plan, trained.dataset, trained.workspace, weights)

"""One configuration of an artifact: its files, and the proof that they are right."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from torch import nn

from autoseg.dataset.dataset import Dataset
from autoseg.ensemble.choose import Ensemble, Member
from autoseg.ensemble.postprocessing import PostprocessingChoice
from autoseg.ensemble.stages import with_stages
from autoseg.export import parity
from autoseg.export.backend import Backend, opener
from autoseg.export.network import load_folds, make_ensemble
from autoseg.export.onnx import write_onnx
from autoseg.export.timing import measure_timing
from autoseg.export.torchscript import write_torchscript
from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.infer.predict import count_tiles
from autoseg.machine import measure_machine
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.runtime.manifest import Configuration, Manifest
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace

FULL_PRECISION: tuple[Backend, ...] = ("onnx", "torch")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What an artifact is made from."""

    plan: Plan
    dataset: Dataset
    workspace: Workspace
    fingerprint: Fingerprint
    ensemble: Ensemble
    members: tuple[Member, ...]
    """Those of the ensemble, and the stages that they follow."""
    postprocessing: PostprocessingChoice
    folds: dict[str, list[nn.Module]]
    """Trained networks of each configuration."""


def load_sources(
    plan: Plan,
    dataset: Dataset,
    workspace: Workspace,
    ensemble: Ensemble,
    postprocessing: PostprocessingChoice,
) -> Sources:
    """Return what an artifact is made from, with the trained weights."""
    members = with_stages(plan, ensemble)
    return Sources(
        plan=plan,
        dataset=dataset,
        workspace=workspace,
        fingerprint=Fingerprint.load(workspace.fingerprint),
        ensemble=ensemble,
        members=members,
        postprocessing=postprocessing,
        folds={member.configuration: load_folds(workspace, plan, member) for member in members},
    )


def describe_member(sources: Sources, member: Member) -> Configuration:
    """Return a configuration of the manifest as far as it is known before it is exported."""
    plan = member.predicting(sources.plan)
    total = sum(item.weight for item in sources.ensemble.members)
    raw = plan.recipe.order == "resample-normalise"
    is_valid = any(plan.network.output_margin)
    return Configuration(
        name=plan.name,
        weight=member.weight / total,
        folds=member.folds,
        recipe=plan.recipe,
        patch_size=plan.patch_size,
        tiles_per_case=tiles_per_case(plan, sources.fingerprint),
        input="raw" if raw else "normalised",
        spatial="fixed",
        spatial_multiple=plan.patch_size if is_valid else plan.network.total_strides,
        onnx=f"{plan.name}.onnx",
        torchscript=f"{plan.name}.torchscript.pt",
        parity=(),
        timings=(),
        output_margin=plan.network.output_margin if is_valid else (),
        missing_channels=plan.network.missing_channels,
        previous=plan.previous_stage,
        region_margin=plan.region_margin,
    )


def tiles_per_case(plan: ConfigurationPlan, fingerprint: Fingerprint) -> float:
    """Return how many tiles the median training case takes, without mirroring."""
    recipe, counts = plan.recipe, []
    slices = len(recipe.transpose) - len(plan.patch_size)
    for case in fingerprint.cases:
        shape = [case.shape_after_crop[axis] for axis in recipe.transpose]
        spacing = [case.spacing[axis] for axis in recipe.transpose]
        target = [*spacing[:slices], *recipe.spacing]
        axes = zip(shape, spacing, target, strict=True)
        counts.append(count_tiles([max(1, round(n * old / new)) for n, old, new in axes], plan))
    return float(median(counts))


def write_member(
    folder: Path, item: Configuration, folds: Sequence[nn.Module], num_further: int = 0
) -> Configuration:
    """Write a configuration's networks and return it with what its ONNX graph takes.

    `num_further` channels of a previous stage come after those of the image.
    """
    module = make_ensemble(folds, item.recipe, num_further)
    channels = len(item.recipe.channels) + num_further
    write_torchscript(
        module, folder / item.torchscript, num_channels=channels, patch_size=item.patch_size
    )
    is_dynamic = write_onnx(
        module,
        folder / item.onnx,
        num_channels=channels,
        patch_size=item.patch_size,
        strides=None if item.output_margin else item.spatial_multiple,
    )
    return replace(item, spatial="dynamic" if is_dynamic else "fixed")


def prove_member(
    folder: Path, manifest: Manifest, item: Configuration, sources: Sources
) -> Configuration:
    """Return a configuration with agreement and speed of every backend that agrees.

    Raises
    ------
    ExportError
        A backend in full precision disagrees with the training framework on real cases.
    """
    unseen = _unseen_cases(sources, item)
    samples = parity.draw_samples(
        sources.dataset,
        unseen or [case.id for case in sources.dataset.training_cases],
        _as_predicted(sources),
        item.name,
        sources.folds,
    )
    checks, timings = [], []
    for backend in (*FULL_PRECISION, *_reduced()):
        check = parity.compare(samples, item, opener(backend)(folder, manifest, item), backend)
        if backend in FULL_PRECISION:
            parity.require_parity(check, item.name)
        elif not check.label_agreement >= parity.MIN_REDUCED_AGREEMENT:
            continue
        checks.append(replace(check, cases="validation" if unseen else "training"))
        timings.append(measure_timing(folder, manifest, item, backend))
    return replace(item, parity=tuple(checks), timings=tuple(timings))


def _as_predicted(sources: Sources) -> Plan:
    """Return the plan with the tiles that the members predict with."""
    changed = {member.configuration: member.predicting(sources.plan) for member in sources.members}
    items = sources.plan.configurations
    return sources.plan.revised(
        configurations=tuple(changed.get(item.name, item) for item in items)
    )


def _unseen_cases(sources: Sources, item: Configuration) -> Sequence[str]:
    """Return cases that a fold has not seen: none where every fold has seen all."""
    results = [sources.workspace.fold(item.name, fold).result for fold in item.folds]
    return [score.case_id for path in results for score in FoldResult.load(path).scores]


def _reduced() -> tuple[Backend, ...]:
    """Return the backends in reduced precision that this machine can measure."""
    return ("torch-bf16",) if measure_machine().has_bf16 else ()

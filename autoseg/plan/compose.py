"""Putting decisions together: configurations and plans with their costs and reasons."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from autoseg.plan.augmentation import cascade_augmentation
from autoseg.plan.cost import configuration_cost
from autoseg.plan.expectation import with_accuracy
from autoseg.plan.family import Facts
from autoseg.plan.overrides import with_cost
from autoseg.plan.plan import ConfigurationPlan, Decision, Plan, TrainingPlan
from autoseg.plan.request import PlanRequest
from autoseg.plan.rules import ANISOTROPY_RATIO, Grid, channels
from autoseg.plan.speed import evidence
from autoseg.record import NetworkPlan, autoseg_version
from autoseg.runtime.recipe import Recipe

SPLINE_ORDER = 3
"""Cubic interpolation of images."""
OVERLAP = 0.5
"""Tiles share half with their neighbours: errors concentrate at their borders."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a planner wants images prepared and predicted."""

    order: Literal["resample-normalise", "normalise-resample"]
    padding: Literal["mirror", "zero"]
    mirror: bool
    test_time_mirroring: bool


@dataclass(frozen=True, kw_only=True)
class Draft:
    """One configuration before its cost and its recipe are written out."""

    name: str
    spacing: tuple[float, ...]
    median_shape: tuple[float, ...]
    network: NetworkPlan
    patch_size: tuple[int, ...]
    batch_size: int
    training: TrainingPlan
    train_by_default: bool
    why: str
    inherits_from: str | None = None
    previous_stage: str | None = None


def facts(request: PlanRequest) -> Facts:
    """Return what the data say about a network's ends."""
    labels = request.fingerprint.labels
    return Facts(
        in_channels=len(request.fingerprint.channels),
        num_classes=len(labels.names),
        num_outputs=len(labels.names) + (labels.ignore is not None),
    )


def recipe(request: PlanRequest, grid: Grid, style: Style, spacing: tuple[float, ...]) -> Recipe:
    """Return how images become input of a network with as many axes as `spacing`."""
    return Recipe(
        transpose=grid.transpose,
        spacing=spacing,
        channels=channels(request.fingerprint),
        order=style.order,
        spline_order=SPLINE_ORDER,
        coarse_ratio=ANISOTROPY_RATIO,
        padding=style.padding,
        overlap=OVERLAP,
        mirror_axes=tuple(range(len(spacing))) if style.mirror else (),
        test_time_mirroring=style.test_time_mirroring,
    )


def configuration(
    request: PlanRequest, grid: Grid, style: Style, draft: Draft, train_seconds: float | None
) -> ConfigurationPlan:
    """Return a configuration with its recipe and cost.

    Parameters
    ----------
    request, grid, style, draft
        What was decided.
    train_seconds
        Of one fold; None: the recipe's default number of steps decides.
    """
    slices = grid.median_slices if len(draft.spacing) < len(grid.spacing) else 1.0
    num_voxels = slices * grid.num_cases
    for size in draft.median_shape:
        num_voxels *= size
    cost = configuration_cost(
        draft.network,
        draft.patch_size,
        batch_size=draft.batch_size,
        device=request.device,
        machine=request.machine,
        dataset_voxels=num_voxels,
        training=draft.training,
    )
    if train_seconds is None:
        train_seconds = cost.step_seconds * (draft.training.default_steps or 0)
    return ConfigurationPlan(
        name=draft.name,
        recipe=recipe(request, grid, style, draft.spacing),
        patch_size=draft.patch_size,
        batch_size=draft.batch_size,
        median_shape=tuple(whole(size) for size in draft.median_shape),
        network=draft.network,
        training=draft.training,
        cost=cost.revised(train_seconds=train_seconds),
        inherits_from=draft.inherits_from,
        previous_stage=draft.previous_stage,
        train_by_default=draft.train_by_default,
        why=draft.why,
    )


def cascade(fullres: ConfigurationPlan, previous: str, why: str) -> ConfigurationPlan:
    """Return the configuration that sees the labels of a coarser one as further channels."""
    network = fullres.network
    extra = network.num_classes - 1  # one-hot, without background
    training = fullres.training
    found = fullres.revised(
        name="3d_cascade_fullres",
        network=network.revised(in_channels=network.in_channels + extra),
        training=training.revised(augmentation=cascade_augmentation(training.augmentation)),
        inherits_from=fullres.name,
        previous_stage=previous,
        train_by_default=False,
        why=why,
    )
    return with_cost(found, fullres)


def compose(
    request: PlanRequest,
    *,
    planner: str,
    memory_bytes: int,
    configurations: Sequence[ConfigurationPlan],
    decisions: Sequence[Decision],
) -> Plan:
    """Return the plan of some configurations."""
    fingerprint = request.fingerprint
    finest = configurations[-1] if len(configurations) == 1 else _finest(configurations)
    plan = Plan(
        autoseg_version=autoseg_version(),
        planner=planner,
        dataset_name=fingerprint.dataset_name,
        fingerprint_digest=fingerprint.digest(),
        labels=fingerprint.labels,
        unit=fingerprint.unit,
        configurations=tuple(configurations),
        num_folds=request.num_folds,
        seed=request.seed,
        budget_s=request.budget_s,
        device=request.device,
        memory_bytes=memory_bytes,
        ram_bytes=request.ram_bytes,
        num_threads=num_threads(request),
        nsd_tolerance=nsd_tolerance(finest.recipe.spacing),
        decisions=(*decisions, *_speed_decisions(request, configurations)),
    )
    return with_accuracy(plan)


def _speed_decisions(
    request: PlanRequest, configurations: Sequence[ConfigurationPlan]
) -> Iterator[Decision]:
    """Yield from which evidence the time of a step was found, for each number of axes."""
    machine, device = request.machine, request.device
    for dimensions in sorted({len(item.patch_size) for item in configurations}):
        found = evidence(machine, device, dimensions)
        yield decision(
            f"speed in {dimensions}D",
            found.source,
            rule="step_speed",
            reason=found.reason,
            precision=machine.training_precision(device),
            correction=found.factor,
        )


def _finest(configurations: Sequence[ConfigurationPlan]) -> ConfigurationPlan:
    """Return the full resolution with most axes."""
    names = {item.name: item for item in configurations}
    return names.get("3d_fullres", configurations[0])


def num_threads(request: PlanRequest) -> int:
    """Return the CPU threads of one fold: all, or a share where several devices train at once."""
    devices = len(request.machine.gpus) if request.device == "cuda" else 1
    return max(1, request.machine.num_cpus // max(1, devices))


def nsd_tolerance(spacing: Sequence[float]) -> float:
    """Return the larger of the two finest spacings: a surface one voxel off counts as right."""
    return sorted(spacing)[:2][-1]


def whole(size: float) -> float:
    """Return a size as an integer where it is one."""
    return int(size) if float(size).is_integer() else size


def decision(name: str, value: object, *, rule: str, reason: str, **inputs: object) -> Decision:
    """Return one decision with its inputs as text."""
    return Decision(
        name=name,
        value=text(value),
        rule=rule,
        inputs={key: text(item) for key, item in inputs.items()},
        reason=reason,
    )


def text(value: object) -> str:
    """Return a value as a researcher would write it: 160 x 192 x 160, 1.25, yes."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.3g}"
    if isinstance(value, tuple):
        return " x ".join(text(item) for item in value) or "none"
    return str(value)

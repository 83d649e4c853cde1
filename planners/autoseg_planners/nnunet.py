"""nnU-Net's own rules: the same patch, batch, network and training as its default planner."""

from dataclasses import dataclass

from autoseg.errors import PlanError
from autoseg.plan.compose import (
    Draft,
    Style,
    cascade,
    compose,
    configuration,
    decision,
    facts,
)
from autoseg.plan.explain import explain_configuration, explain_grid
from autoseg.plan.family import Family, Fitted, fit_network
from autoseg.plan.plan import ConfigurationPlan, Decision, Plan
from autoseg.plan.request import PlanRequest
from autoseg.plan.rules import Grid, find_lowres, image_grid
from autoseg.plan.training import sgd_training

PLAIN = Family(
    encoder="plain",
    blocks=(2,),
    decoder_convs=2,
    max_features={2: 512, 3: 320},
    reference_values={2: 85_000_000, 3: 560_000_000},
    reference_bytes=8_000_000_000,
    fitted_batch={2: 2, 3: 2},
    max_covered=0.05,
)
"""nnU-Net's default U-Net; the reference values are its own."""

STYLE = Style(order="normalise-resample", padding="zero", mirror=True, test_time_mirroring=True)
"""nnU-Net normalises before it resamples, pads with zeros and mirrors along all axes."""


@dataclass(frozen=True)
class Choice:
    """One configuration of nnU-Net's rules, before it is written out."""

    name: str
    spacing: tuple[float, ...]
    median_shape: tuple[float, ...]
    fitted: Fitted
    batch_dice: bool


def plan(request: PlanRequest) -> Plan:
    """Return the plan that nnU-Net's default planner makes (memory target 8 GB)."""
    return plan_family(request, PLAIN, "nnunet")


def plan_family(request: PlanRequest, family: Family, planner: str) -> Plan:
    """Return nnU-Net's plan with another family of networks.

    Raises
    ------
    PlanError
        The images are signals, for which nnU-Net has no rules.
    """
    if request.fingerprint.dimensions == 1:
        raise PlanError(
            found=f"{request.fingerprint.dataset_name}: images with 1 axis",
            expected=f"images with 2 or 3 axes: nnU-Net, whose rules {planner} follows, has no 1D",
            fix="plan with --planner auto",
        )
    grid = image_grid(request.fingerprint)
    memory = request.memory_bytes or family.reference_bytes
    chosen = choices(request, family, grid, memory)
    configurations, decisions = [], explain_grid(request.fingerprint, grid)
    for choice in chosen:
        written = _written(request, grid, choice)
        configurations.append(written)
        decisions += explain_configuration(written, choice.fitted, family, memory)
    names = [choice.name for choice in chosen]
    if "3d_lowres" in names:
        fullres = configurations[names.index("3d_fullres")]
        configurations.append(
            cascade(fullres, "3d_lowres", "It needs all folds of 3d_lowres first.")
        )
    decisions.append(_lowres_decision(grid, chosen))
    return compose(
        request,
        planner=planner,
        memory_bytes=memory,
        configurations=configurations,
        decisions=decisions,
    )


def choices(
    request: PlanRequest, family: Family, grid: Grid, memory_bytes: int
) -> tuple[Choice, ...]:
    """Return 2d, and for volumes 3d_fullres and, where its patch lacks context, 3d_lowres."""
    ends = facts(request)

    def fit(spacing: tuple[float, ...], shape: tuple[float, ...], num_voxels: float) -> Fitted:
        return fit_network(
            family,
            ends,
            memory_bytes,
            spacing=spacing,
            median_shape=shape,
            num_voxels=num_voxels,
        )

    plane, flat_shape = grid.spacing[-2:], grid.median_shape[-2:]
    flat = fit(plane, flat_shape, grid.num_voxels)
    found = [Choice("2d", plane, flat_shape, flat, batch_dice=True)]
    if not grid.is_volume:
        return tuple(found)
    full = fit(grid.spacing, grid.median_shape, grid.num_voxels)

    def fit_lowres(
        spacing: tuple[float, ...], shape: tuple[int, ...], num_voxels: float
    ) -> tuple[tuple[int, ...], Fitted]:
        fitted = fit(spacing, shape, num_voxels)
        return fitted.patch_size, fitted

    lowres = find_lowres(grid, full.patch_size, fit_lowres)
    # With a coarser companion the fine patches are pieces of an image: Dice over the batch is
    # steadier when many of them lack a class.
    has_lowres = lowres is not None
    found.append(Choice("3d_fullres", grid.spacing, grid.median_shape, full, has_lowres))
    if lowres is not None:
        spacing, shape, fitted = lowres
        found.append(Choice("3d_lowres", spacing, shape, fitted, batch_dice=False))
    return tuple(found)


def _written(request: PlanRequest, grid: Grid, choice: Choice) -> ConfigurationPlan:
    fitted = choice.fitted
    draft = Draft(
        name=choice.name,
        spacing=choice.spacing,
        median_shape=choice.median_shape,
        network=fitted.network,
        patch_size=fitted.patch_size,
        batch_size=fitted.batch_size,
        training=sgd_training(
            fitted.patch_size,
            supervised=fitted.network.num_supervised,
            batch_dice=choice.batch_dice,
        ),
        train_by_default=True,
        why="nnU-Net trains every configuration and keeps the best.",
    )
    return configuration(request, grid, STYLE, draft, None)


def _lowres_decision(grid: Grid, chosen: tuple[Choice, ...]) -> Decision:
    """Return whether a coarser configuration and a cascade were planned."""
    names = [choice.name for choice in chosen]
    if "3d_fullres" not in names:
        value, reason = "no", "The images have a single slice: there is nothing to plan in 3D."
    elif "3d_lowres" in names:
        value = "yes"
        reason = "The full-resolution patch covers less than a quarter of the median image."
    else:
        value = "no"
        reason = "The full-resolution patch shows enough of the median image."
    return decision(
        "3d_lowres", value, rule="find_lowres", reason=reason, median_shape=grid.median_shape
    )

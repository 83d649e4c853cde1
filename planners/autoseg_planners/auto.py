"""The default planner: nnU-Net's rules, fitted to the machine and the budget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autoseg.check.pairs import mirror_pairs
from autoseg.errors import duration
from autoseg.plan.after import budget_after, configurations_after
from autoseg.plan.budget import seconds_per_fold
from autoseg.plan.compose import (
    OVERLAP,
    Draft,
    Style,
    cascade,
    compose,
    configuration,
    decision,
    facts,
)
from autoseg.plan.explain import explain_grid, explain_sized
from autoseg.plan.family import fit_network
from autoseg.plan.plan import ConfigurationPlan, Decision, Plan, TrainingPlan
from autoseg.plan.request import PlanRequest
from autoseg.plan.rules import (
    Grid,
    find_lowres,
    image_grid,
    mirror_axes,
    side_pairs,
)
from autoseg.plan.sizing import Limits, Sized, cpu_limits, fit_budget, gpu_limits
from autoseg.plan.topology import first_patch
from autoseg.plan.training import adamw_training, sgd_training
from autoseg_planners.adapt import adapted, advised, with_known_encoder
from autoseg_planners.nnunet import PLAIN

CPU_BUDGET_S = 2 * 3600.0
"""Default on a CPU: an evening's wait."""
GPU_BUDGET_S = 12 * 3600.0
"""Default on a GPU: a night."""
NETWORK = replace(PLAIN, max_features={1: 256, 2: 256, 3: 256}, max_supervised=3)
"""On a CPU, deep stages stop at eight times the first one's width: small data sets need no more."""
GPU_NETWORK = replace(PLAIN, max_features={1: 512, **PLAIN.max_features})
"""nnU-Net's, and for signals, which it does not know, the same as for pictures."""
UNSEEN = 0.05
"""A patch that covers less of the image than this cannot tell left from right on a CPU's budget:
the coarser configuration is trained."""
GPU_GOOD_STEPS = 25_000
"""A further configuration is trained on a GPU when each fold of all still gets this many steps."""
MPS_MEMORY = 0.5
"""Part of the shared memory that a step may use on Apple's devices."""
GPU_MEMORY = 0.9
"""Part of a GPU's memory that a step may use: the context, the allocator's gaps and the display
take some, and what a step needs is an estimate."""
GPU_EMA = 0.99
"""Averaging the last hundred steps' weights costs nothing and steadies the end of a short run."""

Spacing = tuple[float, ...]


@dataclass(frozen=True)
class Choice:
    """One configuration with its size."""

    name: str
    spacing: Spacing
    median_shape: tuple[float, ...]
    sized: Sized
    batch_dice: bool


def plan(request: PlanRequest) -> Plan:
    """Return a plan that uses the machine and the budget as well as the rules know."""
    request, told = lengthened(request)
    grid = image_grid(request.fingerprint)
    memory = device_memory(request)
    count = configurations_after(request.after, num_trained(request, grid, memory)).value
    seconds = fold_seconds(request, count)
    limits = _limits(request, seconds, memory)
    found = choices(request, grid, limits)
    trained = preference(request, grid, found)[:count]
    style = style_of(request)
    common = advised(request)
    configurations, decisions = [], explain_grid(request.fingerprint, grid)
    decisions += [*told, *_explain_request(request, style, memory, seconds), *common.decisions]
    for choice in found:
        draft = _draft(request, grid, choice, trained)
        item = configuration(request, grid, style, draft, seconds)
        item, more = adapted(request, grid, limits, item, common)
        item = _unswapped(request, grid, item)
        configurations.append(item)
        decisions += [*explain_sized(item, choice.sized, limits), *more]
    configurations += _cascades(configurations)
    if grid.is_volume:
        decisions.append(_cascade_decision(configurations))
    made = compose(
        request,
        planner="auto",
        memory_bytes=memory,
        configurations=configurations,
        decisions=decisions,
    )
    return with_known_encoder(request, limits, made)


def _unswapped(request: PlanRequest, grid: Grid, item: ConfigurationPlan) -> ConfigurationPlan:
    """Return a configuration that mirrors along no axis that would swap left and right classes."""
    allowed = mirror_axes(request.fingerprint, grid, len(item.recipe.spacing))
    kept = tuple(axis for axis in item.recipe.mirror_axes if axis in allowed)
    pairs = side_pairs(request.fingerprint, grid, len(item.recipe.spacing))
    augmentation = item.training.augmentation.revised(side_pairs=pairs)
    return item.revised(
        recipe=replace(item.recipe, mirror_axes=kept),
        training=item.training.revised(augmentation=augmentation),
    )


def device_memory(request: PlanRequest) -> int:
    """Return the memory that one fold may fill: what was asked, or what the device has."""
    if request.device == "cpu":
        return min(request.memory_bytes or request.ram_bytes, request.ram_bytes)
    if request.device == "mps" or not request.machine.gpus:
        return request.memory_bytes or int(MPS_MEMORY * request.machine.memory_bytes)
    smallest = min(gpu.memory_bytes for gpu in request.machine.gpus)
    return request.memory_bytes or int(GPU_MEMORY * smallest)


def default_budget(request: PlanRequest) -> float:
    """Return the seconds of one `autoseg train` where no budget is given."""
    return CPU_BUDGET_S if request.device == "cpu" else GPU_BUDGET_S


def lengthened(request: PlanRequest) -> tuple[PlanRequest, list[Decision]]:
    """Return the request with the budget that a run before it asks for, and what was decided."""
    longer = budget_after(request.after, default_budget(request))
    if longer is None or request.budget_s is not None:
        return request, []
    told = decision("budget", duration(longer.value), rule="budget_after", reason=longer.reason)
    return replace(request, budget_s=longer.value), [told]


def budget(request: PlanRequest) -> float:
    """Return the seconds of one `autoseg train`."""
    return request.budget_s or default_budget(request)


def fold_seconds(request: PlanRequest, num_configurations: int) -> float:
    """Return the training time of one fold when all folds of some configurations are trained."""
    folds = request.num_folds * num_configurations
    return max(1.0, seconds_per_fold(budget(request), folds, 1))


def num_trained(request: PlanRequest, grid: Grid, memory_bytes: int) -> int:
    """Return how many configurations are trained by default: one on a CPU, more if time allows."""
    available = 2 if grid.is_volume else 1
    if request.device == "cpu" or available == 1:
        return 1
    limits = _limits(request, fold_seconds(request, 1), memory_bytes)
    slowest = max(choice.sized.step_seconds for choice in choices(request, grid, limits))
    affordable = int(fold_seconds(request, 1) / (GPU_GOOD_STEPS * slowest))
    return max(1, min(available, affordable))


def style_of(request: PlanRequest) -> Style:
    """Return how images are prepared: resampled raw, mirrored at borders, flipped if it pays."""
    on_cpu, is_signal = request.device == "cpu", request.fingerprint.dimensions == 1
    return Style(
        order="resample-normalise",
        padding="mirror",
        mirror=not is_signal and (not on_cpu or request.fingerprint.unit == "pixel"),
        test_time_mirroring=not is_signal and not on_cpu,
    )


def choices(request: PlanRequest, grid: Grid, limits: Limits) -> tuple[Choice, ...]:
    """Return 1d or 2d; for volumes 3d_fullres, too, and 3d_lowres where that lacks context."""
    family = NETWORK if limits.device == "cpu" else GPU_NETWORK
    ends = facts(request)

    def fit(spacing: Spacing, shape: tuple[float, ...], num_voxels: float) -> Sized:
        data = {"spacing": spacing, "median_shape": shape, "num_voxels": num_voxels}
        start = first_patch(spacing, shape)
        if limits.device == "cpu" and len(shape) > 1:  # never beyond nnU-Net's patch
            start = fit_network(PLAIN, ends, PLAIN.reference_bytes, **data).patch_size
        return fit_budget(family, ends, limits, start=start, **data)

    plane, flat_shape = grid.spacing[-2:], grid.median_shape[-2:]
    flat = fit(plane, flat_shape, grid.num_voxels)
    found = [Choice(f"{len(plane)}d", plane, flat_shape, flat, batch_dice=True)]
    if not grid.is_volume:
        return tuple(found)
    full = fit(grid.spacing, grid.median_shape, grid.num_voxels)

    def fit_lowres(
        spacing: Spacing, shape: tuple[int, ...], num_voxels: float
    ) -> tuple[tuple[int, ...], Sized]:
        sized = fit(spacing, shape, num_voxels)
        return sized.patch_size, sized

    lowres = find_lowres(grid, full.patch_size, fit_lowres)
    has_lowres = lowres is not None
    found.append(Choice("3d_fullres", grid.spacing, grid.median_shape, full, has_lowres))
    if lowres is not None:
        spacing, shape, sized = lowres
        found.append(Choice("3d_lowres", spacing, shape, sized, batch_dice=False))
    return tuple(found)


def preference(request: PlanRequest, grid: Grid, found: tuple[Choice, ...]) -> tuple[str, ...]:
    """Return the names of the configurations, the best suited first."""
    names = tuple(choice.name for choice in found)
    if len(names) == 1:
        return names
    if grid.is_sliced:
        return _first("2d", names)
    if request.device == "cpu" and "3d_lowres" in names:
        full = next(choice for choice in found if choice.name == "3d_fullres")
        if math.prod(full.sized.patch_size) / math.prod(grid.median_shape) < UNSEEN:
            return _first("3d_lowres", names)
    return _first("3d_fullres", names)


def _first(name: str, names: tuple[str, ...]) -> tuple[str, ...]:
    order = (name, "3d_fullres", "2d", "3d_lowres")
    return tuple(dict.fromkeys(other for other in order if other in names))


def _limits(request: PlanRequest, seconds: float, memory_bytes: int) -> Limits:
    if request.device == "cpu":
        return cpu_limits(request.machine, seconds, memory_bytes)
    return gpu_limits(request.machine, request.device, seconds, memory_bytes)


def _draft(request: PlanRequest, grid: Grid, choice: Choice, trained: tuple[str, ...]) -> Draft:
    is_trained = choice.name in trained
    return Draft(
        name=choice.name,
        spacing=choice.spacing,
        median_shape=choice.median_shape,
        network=choice.sized.network,
        patch_size=choice.sized.patch_size,
        batch_size=choice.sized.batch_size,
        training=_training(request, choice),
        train_by_default=is_trained,
        why=_why_trained(grid, choice) if is_trained else _why_not(request, choice, trained),
    )


def _training(request: PlanRequest, choice: Choice) -> TrainingPlan:
    supervised = choice.sized.network.num_supervised
    patch, batch_dice = choice.sized.patch_size, choice.batch_dice
    if request.device == "cpu":
        training = adamw_training(patch, supervised=supervised, batch_dice=batch_dice)
        return training.revised(default_budget_s=default_budget(request))
    training = sgd_training(patch, supervised=supervised, batch_dice=batch_dice)
    return training.revised(
        ema_decay=GPU_EMA, default_steps=None, default_budget_s=default_budget(request)
    )


def _why_trained(grid: Grid, choice: Choice) -> str:
    if choice.name == "1d":
        return "The images are signals."
    if choice.name == "2d" and len(grid.spacing) == 2:
        return "The images are 2D."
    if choice.name == "2d" and not grid.is_volume:
        return "The images have a single slice."
    if choice.name == "2d" and grid.is_sliced:
        return f"The slices are few ({grid.median_slices:g}) and far apart."
    if choice.name == "3d_lowres":
        return "At full resolution a patch within time and memory would show too little of it."
    if choice.name == "3d_fullres" and not grid.is_sliced:
        return "The images are volumes, and 3D sees neighbouring slices."
    return "There is time for it, and the better of both is kept."


def _why_not(request: PlanRequest, choice: Choice, trained: tuple[str, ...]) -> str:
    best = " and ".join(trained)
    if choice.name == "3d_lowres":
        return f"It serves large volumes with little time; {best} suits better here."
    if request.device == "cpu":
        return f"On a CPU one configuration gets all the time, and {best} suits better."
    return f"The time is better spent on {best}."


def _explain_request(
    request: PlanRequest, style: Style, memory_bytes: int, seconds: float
) -> list[Decision]:
    """Return the decisions that follow from machine and budget alone."""
    on_cpu = request.device == "cpu"
    given = "The budget" if request.budget_s else "The budget, the default (--budget sets it)"
    return [
        decision(
            "time of a fold",
            duration(seconds),
            rule="fold_seconds",
            reason=f"{given}, less validation and export, divided among all folds.",
            budget=duration(budget(request)),
            folds=request.num_folds,
        ),
        decision(
            "memory",
            f"{memory_bytes / 1e9:.3g} GB",
            rule="device_memory",
            reason="What was asked for." if request.memory_bytes else "What the device may give.",
            device=request.device,
        ),
        decision(
            "optimiser",
            "adamw" if on_cpu else "sgd",
            rule="adamw_training" if on_cpu else "sgd_training",
            reason=(
                "AdamW learns in a few thousand steps what SGD needs many more for."
                if on_cpu
                else "SGD with high momentum ends best when there are many steps."
            ),
        ),
        _mirror_decision(request, style),
        decision(
            "tile overlap",
            f"{OVERLAP:.0%}",
            rule="recipe",
            reason="Errors concentrate at the borders of tiles: neighbours share half of theirs.",
        ),
    ]


def _mirror_decision(request: PlanRequest, style: Style) -> Decision:
    """Return whether images are mirrored, and along which axes not."""
    pairs, value = mirror_pairs(request.fingerprint), style.mirror
    if request.fingerprint.dimensions == 1:
        reason = "A signal has a direction: nothing that it records runs backwards."
    elif not style.mirror:
        reason = "A short run learns faster from bodies seen the right way round."
    elif pairs:
        value = f"not along axis {', '.join(sorted({str(pair.axis) for pair in pairs}))}"
        reason = f"It would swap {pairs[0].first} and {pairs[0].second}."
    else:
        reason = "Mirrored images are as plausible as the originals, and teach as much."
    unit = request.fingerprint.unit
    return decision("mirroring", value, rule="style_of", reason=reason, unit=unit)


def _cascades(items: Sequence[ConfigurationPlan]) -> list[ConfigurationPlan]:
    """Return a second stage at full resolution for the coarse configuration, if there is one."""
    planned = {item.name: item for item in items}
    if "3d_lowres" not in planned:
        return []
    why = (
        "It costs the training of two configurations: train it after all folds of 3d_lowres with "
        "`autoseg train --configurations 3d_lowres,3d_cascade_fullres`."
    )
    return [cascade(planned["3d_fullres"], "3d_lowres", why)]


def _cascade_decision(items: Sequence[ConfigurationPlan]) -> Decision:
    is_planned = any(item.previous_stage is not None for item in items)
    return decision(
        "3d_cascade_fullres",
        "planned, not trained by default" if is_planned else "no",
        rule="choices",
        reason="It costs the training of two configurations, and pays where a patch at full "
        "resolution does not show where it lies."
        if is_planned
        else "There is no coarser configuration that it could refine.",
    )

"""Whether what was planned fits the memory that was given."""

import math
from dataclasses import replace

from autoseg.dataset.dataset import Finding
from autoseg.errors import PlanError, Written, as_option
from autoseg.plan.memory import FIXED_BYTES
from autoseg.plan.overrides import with_cost
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.plan.registry import Planner
from autoseg.plan.request import PlanRequest

GB, MB = 1e9, 1e6
SMALLEST_EDGE = 8
"""A patch of fewer voxels than this along each axis is pooled once at most: it sees no shapes."""
ESTIMATE_MARGIN = 1.2
"""What is expected beyond so many times the memory cannot fit: nearly all estimates are within 20 %
of what was measured (docs/cost.md)."""
MEMORY_STEP = 1.25
"""Growth of the memory while the smallest is sought that a network fits into."""


def fitting_plan(planner: Planner, request: PlanRequest, written: Written = as_option) -> Plan:
    """Return the plan for a request.

    Parameters
    ----------
    planner, request
        Who is asked what.
    written
        How messages name what to give instead.

    Raises
    ------
    PlanError
        The memory is below what the smallest useful network needs, or the planner refuses.
    """
    given = _limit(request)
    if given is None or given >= FIXED_BYTES:
        plan = planner(request)
        if has_room(plan):
            return plan
        given = plan.memory_bytes
    needed = _smallest_memory(planner, request)
    is_ram = request.device == "cpu" and request.ram_bytes < needed
    options = ["ram"] * is_ram
    options += ["memory"] * (not is_ram or request.memory_bytes is not None)
    words = [written(option, f"{needed / MB:.0f}MB") for option in options]
    raise PlanError(
        found=f"{_amount(given)} of memory for training: no useful network fits",
        expected=f"at least {needed / MB:.0f} MB for these data and this planner",
        fix=f"give {' and '.join(words)} or more",
    )


def _limit(request: PlanRequest) -> int | None:
    """Return the memory that training may take at most, None where only a planner can tell."""
    limits = [] if request.memory_bytes is None else [request.memory_bytes]
    limits += [request.ram_bytes] * (request.device == "cpu")
    return min(limits, default=None)


def has_room(plan: Plan) -> bool:
    """Return whether every patch to be trained shows more than a few voxels."""
    return plan.memory_bytes >= FIXED_BYTES and all(
        math.prod(item.patch_size)
        >= min(math.prod(item.median_shape), SMALLEST_EDGE ** len(item.patch_size))
        for item in plan.configurations
        if item.train_by_default
    )


def _smallest_memory(planner: Planner, request: PlanRequest) -> int:
    """Return a memory that suffices, within `MEMORY_STEP` of the smallest one."""
    needed = FIXED_BYTES
    while True:
        needed = math.ceil(needed * MEMORY_STEP)
        ram_bytes = max(needed, request.ram_bytes)
        if has_room(planner(replace(request, memory_bytes=needed, ram_bytes=ram_bytes))):
            return needed


def refuse_misfits(plan: Plan, planned: Plan, request: PlanRequest) -> None:
    """Raise an error if what is trained cannot fit the memory, whatever the estimate is worth.

    A planner's own networks may be larger than what was asked, but not than all memory of a
    processor: nnU-Net's fit the graphics processors that they were made for, of which we have no
    measurements.

    Parameters
    ----------
    plan
        With what a user has set.
    planned
        The same as the planner made it.
    request
        What it was asked.

    Raises
    ------
    PlanError
        With the largest that fits.
    """
    limit = memory_limit(plan, planned, request)
    problems = []
    for item in plan.configurations:
        before = planned.configuration(item.name).cost.memory_bytes
        is_own = item.cost.memory_bytes <= before
        bound = max(limit, before)
        if plan.device == "cpu":
            bound = plan.ram_bytes if is_own else min(bound, plan.ram_bytes)
        if item.train_by_default and item.cost.memory_bytes > ESTIMATE_MARGIN * bound:
            problems.append((item, bound))
    if not problems:
        return
    raise PlanError(
        found="\n".join(_needs(item) for item, _ in problems),
        expected="\n".join(f"at most {_amount(bound)} for {item.name}" for item, bound in problems),
        fix="\n".join(_remedy(plan, item, bound) for item, bound in problems),
    )


def memory_limit(plan: Plan, planned: Plan, request: PlanRequest) -> int:
    """Return the bytes that training may take: what was given, or all that the device has."""
    is_set = plan.memory_bytes != planned.memory_bytes
    given = plan.memory_bytes if is_set else request.memory_bytes
    if request.device == "cpu":
        return min(given or plan.ram_bytes, plan.ram_bytes)
    if given is not None:
        return given
    gpus = request.machine.gpus if request.device == "cuda" else ()
    return min((gpu.memory_bytes for gpu in gpus), default=request.machine.memory_bytes)


def memory_findings(plan: Plan, limit: int) -> tuple[Finding, ...]:
    """Return a warning for each trained configuration that should need more than its device has.

    The estimate may be wrong, so the plan stands; what cannot fit is refused.
    """
    trained = [item for item in plan.configurations if item.train_by_default]
    beyond = [item for item in trained if item.cost.memory_bytes > limit]
    return tuple(
        Finding(
            severity="warning",
            found=f"{_needs(item)}, as far as can be told without training",
            expected=f"at most {_amount(limit)}, which training may take here",
            remedy=_remedy(plan, item, limit),
        )
        for item in beyond
    )


def _needs(item: ConfigurationPlan) -> str:
    patch = " x ".join(map(str, item.patch_size))
    return (
        f"{item.name} with patches of {patch}, {item.batch_size} at once, needs "
        f"{_amount(item.cost.memory_bytes)} of memory"
    )


def _remedy(plan: Plan, item: ConfigurationPlan, limit: int) -> str:
    """Return what to set so that a configuration fits; each way is enough by itself."""
    ways = []
    recomputing = item.revised(training=item.training.revised(recompute=True))
    if _bytes_of(recomputing, item) <= limit:
        ways.append(f"--set {item.name}.training.recompute=true")
    batch, halvings = _largest_batch(item, limit), _halved_patches(item, limit)
    if batch is not None:
        ways.append(f"--set {item.name}.batch_size={batch}")
    if halvings and (batch is None or len(halvings) == 1):
        ways.append(f"--set {item.name}.patch_size={','.join(map(str, halvings[-1]))}")
    needed = math.ceil(item.cost.memory_bytes / MB)
    if plan.device == "cpu" and limit < needed * MB <= plan.ram_bytes:
        ways.append(f"--memory {needed}MB")
    if not ways:
        return f"set fewer features in {item.name}.network"
    return f"plan with {', or with '.join(ways)} instead"


def _bytes_of(changed: ConfigurationPlan, item: ConfigurationPlan) -> int:
    return with_cost(changed, item).cost.memory_bytes


def _largest_batch(item: ConfigurationPlan, limit: int) -> int | None:
    """Return the largest batch that fits, None where one image is too many."""
    low, high = 0, item.batch_size
    while low < high - 1:
        middle = (low + high) // 2
        fits = _bytes_of(item.revised(batch_size=middle), item) <= limit
        low, high = (middle, high) if fits else (low, middle)
    return low or None


def _halved_patches(item: ConfigurationPlan, limit: int) -> list[tuple[int, ...]]:
    """Return the patch halved until it fits at the same batch, each time; none where none does."""
    found: list[tuple[int, ...]] = []
    while True:
        patch = found[-1] if found else item.patch_size
        margins = item.network.output_margin
        halves = [max(1, (n - 2 * m) // 2) for n, m in zip(patch, margins, strict=True)]
        smaller = item.network.patch_around(halves)
        if smaller == patch:
            return []
        found.append(smaller)
        if _bytes_of(item.revised(patch_size=smaller), item) <= limit:
            return found


def _amount(num_bytes: float) -> str:
    return f"{num_bytes / MB:.0f} MB" if num_bytes < GB else f"{num_bytes / GB:,.1f} GB"

"""Whether what was planned fits the memory that was given."""

import math
from dataclasses import replace

from autoseg.dataset.dataset import Finding
from autoseg.errors import PlanError
from autoseg.plan.memory import FIXED_BYTES
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.plan.registry import Planner
from autoseg.plan.request import PlanRequest

GB, MB = 1e9, 1e6
SMALLEST_EDGE = 8
"""A patch of fewer voxels than this along each axis is pooled once at most: it sees no shapes."""
MEMORY_STEP = 1.25
"""Growth of the memory while the smallest is sought that a network fits into."""


def fitting_plan(planner: Planner, request: PlanRequest) -> Plan:
    """Return the plan for a request.

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
    options = ["--ram"] * is_ram
    options += ["--memory"] * (not is_ram or request.memory_bytes is not None)
    raise PlanError(
        found=f"{given / MB:.0f} MB of memory for training: no useful network fits",
        expected=f"at least {needed / MB:.0f} MB for these data and this planner",
        fix=f"give {' and '.join(f'{option} {needed / MB:.0f}MB' for option in options)} or more",
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


def memory_findings(plan: Plan) -> tuple[Finding, ...]:
    """Return a warning for each trained configuration that should need more than its device has.

    Planners keep to the memory; `--set` may go beyond it, and the estimate may be wrong: so the
    plan stands.
    """
    trained = [item for item in plan.configurations if item.train_by_default]
    beyond = [item for item in trained if item.cost.memory_bytes > plan.memory_bytes]
    return tuple(_finding(item, plan.memory_bytes) for item in beyond)


def _finding(item: ConfigurationPlan, memory_bytes: int) -> Finding:
    half = item.network.patch_around([max(1, n // 2) for n in item.output_size])
    patch = ",".join(map(str, half))
    return Finding(
        severity="warning",
        found=f"{item.name} should need {item.cost.memory_bytes / GB:.1f} GB as it was set",
        expected=f"at most {memory_bytes / GB:.1f} GB, which the training device may give",
        remedy=f"--set {item.name}.training.recompute=true, a smaller patch such as "
        f"--set {item.name}.patch_size={patch}, or a smaller {item.name}.batch_size; "
        "or more --memory, if there is more",
    )

"""Fitting patch, batch and width to a budget and a memory: what `auto` adds to nnU-Net's rules."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autoseg.machine import Device, Machine, StepSpeed
from autoseg.plan.cost import overhead_seconds, step_cost
from autoseg.plan.family import Facts, Family, network_of
from autoseg.plan.memory import training_memory
from autoseg.plan.rules import MIN_BATCH, largest_batch
from autoseg.plan.speed import step_speed
from autoseg.plan.topology import Topology, fit_topology, topology
from autoseg.record import NetworkPlan

CPU_MIN_STEPS = 1000
"""A fold with fewer steps gets a patch smaller than the comfortable one: networks stopped earlier
barely tell classes apart."""
CPU_TARGET_STEPS = 3000
"""A wider network or a larger batch must leave this many: on hippocampus 16 features reached Dice
0.8865 in 8 minutes (about 1600 steps), and 24 features 0.8890 in 40 (about 4000)."""
GPU_MIN_STEPS, GPU_TARGET_STEPS = 10_000, 25_000
"""The same for a GPU: a tenth of nnU-Net's steps, and less only to keep its patch. Not measured."""
CPU_WIDTHS = (16, 24, 32)
"""Features of the first stage. Fewer than 16 lose accuracy, more than 32 are slower than useful."""
GPU_WIDTHS = (32,)
"""nnU-Net's width; a GPU's memory goes to the patch and the batch."""
CPU_PATCH_FLOOR = {1: 1024, 2: 57_344, 3: 110_000}
"""Voxels at which a patch is no longer shrunk for time, by number of axes: 1024 samples (two
heartbeats at 500 Hz), 256 x 224 and 48 x 48 x 48 still show a structure with its surroundings."""
CPU_PATCH_COMFORT = {1: 4096, 2: 65_536, 3: 262_144}
"""Voxels beyond which steps are worth more than a larger patch: 256 x 256 and 64 x 64 x 64."""
GPU_PATCH_FLOOR = {1: 4096, 2: 65_536, 3: 262_144}
GPU_PATCH_COMFORT = {1: 16_384, 2: 262_144, 3: 2_097_152}
"""The same for a GPU: nnU-Net's own sizes, 512 x 512 and 128 x 128 x 128; for signals, of which
nnU-Net knows nothing, four times a CPU's. Not measured."""
CPU_BATCH_VOXELS = 180_000
"""Voxels of a batch beyond which a CPU's steps take longer without learning more from each: two
patches of 40 x 56 x 40 were enough, and much less wastes the time between layers."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one fold may use."""

    device: Device
    machine: Machine
    seconds: float
    """Training time of one fold."""
    memory_bytes: int
    min_steps: int
    target_steps: int
    widths: tuple[int, ...]
    patch_floor: Mapping[int, int]
    patch_comfort: Mapping[int, int]
    batch_voxels: float


@dataclass(frozen=True)
class Sized:
    """A network that fits, and why it is not larger."""

    topology: Topology
    network: NetworkPlan
    batch_size: int
    largest_batch: int
    step_seconds: float
    patch_reason: str
    batch_reason: str
    width_reason: str

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Patch of the topology."""
        return self.topology.patch_size


def cpu_limits(machine: Machine, seconds: float, memory_bytes: int) -> Limits:
    """Return the limits of training on a CPU."""
    return Limits(
        device="cpu",
        machine=machine,
        seconds=seconds,
        memory_bytes=memory_bytes,
        min_steps=CPU_MIN_STEPS,
        target_steps=CPU_TARGET_STEPS,
        widths=CPU_WIDTHS,
        patch_floor=CPU_PATCH_FLOOR,
        patch_comfort=CPU_PATCH_COMFORT,
        batch_voxels=CPU_BATCH_VOXELS,
    )


def gpu_limits(machine: Machine, device: Device, seconds: float, memory_bytes: int) -> Limits:
    """Return the limits of training on a GPU: memory and time, nothing else."""
    return Limits(
        device=device,
        machine=machine,
        seconds=seconds,
        memory_bytes=memory_bytes,
        min_steps=GPU_MIN_STEPS,
        target_steps=GPU_TARGET_STEPS,
        widths=GPU_WIDTHS,
        patch_floor=GPU_PATCH_FLOOR,
        patch_comfort=GPU_PATCH_COMFORT,
        batch_voxels=math.inf,
    )


def fit_budget(
    family: Family,
    facts: Facts,
    limits: Limits,
    *,
    spacing: Sequence[float],
    median_shape: Sequence[float],
    num_voxels: float,
    start: Sequence[float],
) -> Sized:
    """Return the network that learns most within the limits.

    First the patch, at the smallest width and batch: as large as memory and `target_steps` allow,
    but a comfortable one as long as `min_steps` remain, and never below the floor unless memory
    asks for it. Then the batch and then the width, as large as `target_steps` allows;
    arithmetic that takes no longer than the calls around it costs nothing.

    Parameters
    ----------
    family, facts, limits
        Constants of the networks, their ends, and what a fold may use.
    spacing, median_shape, num_voxels
        Of the prepared cases at this spacing.
    start
        The largest patch to consider.
    """
    trial = _Trial(family, facts, limits)
    first = topology(spacing, start)
    found = fit_topology(spacing, median_shape, start=start, is_too_large=trial.is_too_large)
    largest = max(MIN_BATCH, largest_batch(num_voxels, found.patch_size, family.max_covered))
    batch, batch_reason = _largest_batch(trial, found, largest)
    width, width_reason = _widest(trial, found, batch)
    chosen = trial.of_width(width)
    return Sized(
        topology=found,
        network=chosen.network(found),
        batch_size=batch,
        largest_batch=largest,
        step_seconds=chosen.step_seconds(found, batch),
        patch_reason=_patch_reason(trial, found, median_shape, first),
        batch_reason=batch_reason,
        width_reason=width_reason,
    )


@dataclass(frozen=True)
class _Trial:
    """Costs of a family's networks at its present width."""

    family: Family
    facts: Facts
    limits: Limits
    width: int = 0

    def of_width(self, width: int) -> "_Trial":
        return replace(self, width=width)

    def network(self, found: Topology) -> NetworkPlan:
        width = self.width or self.limits.widths[0]
        return network_of(widened(self.family, width), found, self.facts)

    def speed(self, found: Topology) -> StepSpeed:
        return step_speed(self.limits.machine, self.limits.device, len(found.patch_size))

    def step_seconds(self, found: Topology, batch_size: int) -> float:
        network, speed = self.network(found), self.speed(found)
        return step_cost(network, found.patch_size, batch_size=batch_size, speed=speed)[1]

    def steps(self, found: Topology, batch_size: int) -> float:
        return self.limits.seconds / self.step_seconds(found, batch_size)

    def fits_memory(self, found: Topology, batch_size: int) -> bool:
        precision = self.limits.machine.training_precision(self.limits.device)
        network = self.network(found)
        needed = training_memory(
            network, found.patch_size, batch_size=batch_size, precision=precision
        )
        return needed <= self.limits.memory_bytes

    def is_too_large(self, found: Topology) -> bool:
        dims, voxels = len(found.patch_size), math.prod(found.patch_size)
        if voxels > self.limits.patch_floor[dims]:
            is_comfortable = voxels > self.limits.patch_comfort[dims]
            needed = self.limits.target_steps if is_comfortable else self.limits.min_steps
            if self.steps(found, MIN_BATCH) < needed:
                return True
        return not self.fits_memory(found, MIN_BATCH)

    def fits(self, found: Topology, batch_size: int) -> bool:
        is_quick = self.steps(found, batch_size) >= self.limits.target_steps
        return (is_quick or self.is_cheap(found, batch_size)) and self.fits_memory(
            found, batch_size
        )

    def is_cheap(self, found: Topology, batch_size: int) -> bool:
        """Return whether a step's arithmetic takes no longer than what no operation explains."""
        overhead = overhead_seconds(self.network(found), self.speed(found))
        return self.step_seconds(found, batch_size) <= 2 * overhead


def widened(family: Family, width: int) -> Family:
    """Return the family with another width, deeper stages in proportion."""
    factor = width / family.base_features
    most = {dims: round(features * factor) for dims, features in family.max_features.items()}
    return replace(family, base_features=width, max_features=most)


def _largest_batch(trial: _Trial, found: Topology, largest: int) -> tuple[int, str]:
    """Return the largest batch that fits, by bisection, and what bounds it."""
    voxels = math.prod(found.patch_size)
    useful = max(MIN_BATCH, int(min(largest, trial.limits.batch_voxels / voxels)))
    low, high = MIN_BATCH, useful
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if trial.fits(found, middle) else (low, middle - 1)
    if low == MIN_BATCH:
        return low, "Two images are the least that a step may see."
    if low == largest:
        share = f"{trial.family.max_covered:.0%}"
        return low, f"More would show the network over {share} of the data in one step."
    if low == useful:
        return low, "Enough voxels a step to keep the processor busy."
    if trial.fits_memory(found, low + 1):
        return low, f"More would leave fewer than {trial.limits.target_steps} steps a fold."
    return low, "The memory holds no more."


def _widest(trial: _Trial, found: Topology, batch_size: int) -> tuple[int, str]:
    """Return the largest width that fits, and why."""
    steps = trial.limits.target_steps
    fitting = [w for w in trial.limits.widths if trial.of_width(w).fits(found, batch_size)]
    if not fitting:
        return trial.limits.widths[0], "The smallest width: a narrower network learns too little."
    if fitting[-1] == trial.limits.widths[-1]:
        return fitting[-1], "The largest useful width fits."
    wider = min(width for width in trial.limits.widths if width > fitting[-1])
    if not trial.of_width(wider).fits_memory(found, batch_size):
        return fitting[-1], "The memory holds no wider network."
    return fitting[-1], f"A wider network would leave fewer than {steps} steps a fold."


def _patch_reason(
    trial: _Trial, found: Topology, median_shape: Sequence[float], first: Topology
) -> str:
    """Return why a patch is as large as it is; `first` was the largest to consider."""
    patch = found.patch_size
    if all(n >= whole for n, whole in zip(patch, median_shape, strict=True)):
        return "It shows the whole of a typical image."
    if all(n >= most for n, most in zip(patch, first.patch_size, strict=True)):
        return "As large as nnU-Net's rules make it." if len(patch) > 1 else "The longest useful."
    dims, voxels = len(patch), math.prod(patch)
    if voxels <= trial.limits.patch_floor[dims] and not trial.fits_memory(first, MIN_BATCH):
        return "Made small for the memory, and the time, that are given."
    if voxels <= trial.limits.patch_floor[dims]:
        return "Made small for the time given, but still showing a structure's surroundings."
    return "A larger one would leave too few steps in the time given, or not fit the memory."

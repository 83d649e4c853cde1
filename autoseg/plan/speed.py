"""How fast training steps are on a machine, and how that is known.

The four constants of a step (see `autoseg.plan.cost`) are fitted to steps of small networks where
`autoseg doctor --measure` has measured them; else they follow from the speed of a matrix product,
or from a graphics processor's name. Trained folds correct them.
"""

import re
from dataclasses import dataclass

from autoseg.machine import Device, Machine, Precision, StepSpeed, TrainedSpeed

CPU_OPERATION = {"bf16": 0.42, "fp32": 0.85}
"""Time of an operation over that of an operation of a float32 matrix product, by precision."""
CPU_VALUE = {"bf16": 780.0, "fp32": 1200.0}
"""Time of a feature value over the same."""
CPU_PARAMETER = 500.0
"""Time of a parameter over the same."""
CPU_LAYER_S = 8e-4
"""Seconds of a layer. These four are fitted to 38 networks of 1, 2 and 3 axes on one core with
AVX512-BF16 (matrix product 9e10/s): all within 28 %, half of them within 5 %."""
GPU_FLOPS = {
    "H200": 4.5e13,
    "H100": 4.0e13,
    "A100": 2.3e13,
    "L40": 2.2e13,
    "4090": 2.5e13,
    "3090": 1.5e13,
    "V100": 1.4e13,
    "2080": 1.0e13,
    "T4": 5.0e12,
}
"""Operations a second that 3D U-Nets should reach in half precision, by a part of the device's
name: estimates, not measured; the probe before training corrects them."""
OTHER_GPU_FLOPS = 1.0e13
"""The same where the name says nothing."""
STEP_OVERHEAD_S = {"cuda": 0.015, "mps": 0.03}
"""Time of a step on a graphics processor that does not shrink with the network: calls, optimiser,
loss. An estimate."""
TYPICAL_LAYERS = 30
"""Layers of the networks that this is meant for."""
KEPT_RUNS = 4
"""Trained folds that correct a speed; older ones are forgotten."""
MAX_CORRECTION = 3.0
"""A speed is corrected by no more than this factor, up or down: beyond it something else is wrong
than the estimate."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """From what a speed was found."""

    source: str
    """"measured" or "estimated", and whether trained folds have corrected it."""
    reason: str
    factor: float
    """Of the correction; 1 is none."""


def step_speed(machine: Machine, device: Device, dimensions: int) -> StepSpeed:
    """Return how fast steps of networks of some number of axes are expected to be."""
    return scaled_speed(base_speed(machine, device), correction(machine, device, dimensions)[0])


def base_speed(machine: Machine, device: Device) -> StepSpeed:
    """Return how fast steps are expected to be, without what trained folds have shown."""
    found = measured_speed(machine, device)
    if found is None:
        return estimated_speed(machine, device)
    return scaled_speed(found, found.num_cpus / machine.num_cpus if device == "cpu" else 1.0)


def measured_speed(machine: Machine, device: Device) -> StepSpeed | None:
    """Return what `autoseg doctor --measure` has found for a device, None if it never ran."""
    key = (machine.device_name(device), machine.training_precision(device))
    found = [item for item in machine.speeds if (item.device, item.precision) == key]
    return found[-1] if found else None


def estimated_speed(machine: Machine, device: Device) -> StepSpeed:
    """Return a speed that follows from the matrix product, or from a graphics processor's name."""
    precision = machine.training_precision(device)
    kind = {
        "device": machine.device_name(device),
        "precision": precision,
        "num_cpus": machine.num_cpus,
    }
    if device == "cpu":
        return StepSpeed(
            **kind,
            operation_s=CPU_OPERATION[precision] / machine.flops,
            value_s=CPU_VALUE[precision] / machine.flops,
            parameter_s=CPU_PARAMETER / machine.flops,
            layer_s=CPU_LAYER_S,
        )
    names = " ".join(gpu.name for gpu in machine.gpus)
    # An RTX A1000 is no A100, and a T400 no T4.
    known = [flops for part, flops in GPU_FLOPS.items() if re.search(rf"\b{part}(?!\d)", names)]
    return StepSpeed(
        **kind,
        operation_s=1 / min(known, default=OTHER_GPU_FLOPS),
        value_s=0.0,
        parameter_s=0.0,
        layer_s=STEP_OVERHEAD_S[device] / TYPICAL_LAYERS,
    )


def scaled_speed(speed: StepSpeed, factor: float) -> StepSpeed:
    """Return a speed at which each step takes `factor` times as long."""
    return speed.revised(
        operation_s=factor * speed.operation_s,
        value_s=factor * speed.value_s,
        parameter_s=factor * speed.parameter_s,
        layer_s=factor * speed.layer_s,
    )


def correction(
    machine: Machine, device: Device, dimensions: int
) -> tuple[float, tuple[TrainedSpeed, ...]]:
    """Return by what a step's expected time is multiplied, and the folds that say so.

    The lower median over the newest trained folds of this device, precision and number of axes,
    and over the expectation itself (a factor of 1) where that was measured. So a fold that was
    fast is believed, because no other program makes a step faster; that all steps are slower than
    measured takes two folds that agree.
    """
    key = (machine.device_name(device), dimensions, machine.training_precision(device))
    runs = [item for item in machine.trained if trained_key(item) == key][-KEPT_RUNS:]
    votes = [item.ratio for item in runs]
    if measured_speed(machine, device) is not None and runs:
        votes.append(1.0)
    if not votes:
        return 1.0, ()
    factor = sorted(votes)[(len(votes) - 1) // 2]
    return min(max(factor, 1 / MAX_CORRECTION), MAX_CORRECTION), tuple(runs)


def trained_key(item: TrainedSpeed) -> tuple[str, int, Precision]:
    """Return for what the speed of a trained fold holds."""
    return item.device, item.dimensions, item.precision


def evidence(machine: Machine, device: Device, dimensions: int) -> Evidence:
    """Return what the expected speed was found from."""
    factor, runs = correction(machine, device, dimensions)
    if measured_speed(machine, device) is not None:
        source, reason = "measured", "`autoseg doctor --measure` has measured it"
    else:
        what = "a matrix product" if device == "cpu" else "the device's name"
        source = "estimated"
        reason = f"From {what}; `autoseg doctor --measure` would measure it"
    if runs:
        source += ", corrected"
        reason += f"; corrected by a factor of {factor:.2f} after {runs[-1].run}"
    return Evidence(source=source, reason=f"{reason}.", factor=factor)

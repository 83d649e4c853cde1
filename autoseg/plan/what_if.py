"""What a planner would be asked on another machine or for other hours, from an earlier plan."""

from dataclasses import dataclass, replace

from autoseg.errors import PlanError, nearest
from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.machine import FLOPS_DIGITS, Device, Gpu, Machine
from autoseg.plan.plan import Plan
from autoseg.plan.request import PlanRequest

GPU_GIB = {
    "H200": 140,
    "H100": 80,
    "A100": 40,
    "L40": 45,
    "4090": 24,
    "3090": 24,
    "V100": 16,
    "2080": 11,
    "T4": 15,
}
"""Memory of graphics processors by name, GiB as nvidia-smi tells it: the smaller where several are
sold under one name."""
GB = 1e9


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """What is different there; None: as it was."""

    planner: str | None = None
    budget_s: float | None = None
    memory_bytes: int | None = None
    """Of the training device, for one fold."""
    ram_bytes: int | None = None
    """Of all processes together."""
    device: str | None = None
    """"auto", "cpu", "cuda", "cuda:1" or "mps"; with `gpu`, only "auto" or "cuda"."""
    gpu: Gpu | None = None
    """The only graphics processor there."""
    num_cpus: int | None = None
    num_folds: int | None = None


def find_gpu(name: str, memory_bytes: int | None = None) -> Gpu:
    """Return a graphics processor by a part of its name, "A100" or "RTX 4090".

    Parameters
    ----------
    name
        As its maker calls it.
    memory_bytes
        None: what such a processor has.

    Raises
    ------
    PlanError
        The name is unknown, and its memory is not given.
    """
    known = next((key for key in GPU_GIB if key in name.upper()), None)
    if known is not None:
        return Gpu(name=f"NVIDIA {known}", memory_bytes=memory_bytes or GPU_GIB[known] * 2**30)
    if memory_bytes is not None:
        return Gpu(name=name, memory_bytes=memory_bytes)
    names = list(GPU_GIB)
    raise PlanError(
        found=f"gpu={name}, whose memory is not known here",
        expected=f"one of {', '.join(names)}, or a name with its memory",
        fix=f"write gpu={name}:24GB with the memory that it has{nearest(name.upper(), names)}",
    )


def earlier_request(plan: Plan, fingerprint: Fingerprint, machine: Machine) -> PlanRequest:
    """Return what a plan answers, as far as the plan says it: not whether memory was asked for.

    Parameters
    ----------
    plan
        The answer.
    fingerprint, machine
        That it was made for.
    """
    return PlanRequest(
        fingerprint=fingerprint,
        machine=machine,
        device=plan.device,
        memory_bytes=None,
        ram_bytes=plan.ram_bytes,
        budget_s=plan.budget_s,
        num_folds=plan.num_folds,
        seed=plan.seed,
    )


def changed_request(request: PlanRequest, what_if: WhatIf) -> PlanRequest:
    """Return what would be asked there.

    More or fewer processor cores are faster or slower in proportion. The memory that was asked
    holds for the device that it was asked for. On a CPU, training takes the memory of all
    processes: a machine with more of the one has more of the other.

    Raises
    ------
    PlanError
        The changes contradict each other or the data.
    AutosegError
        There is no such device.
    """
    _refuse_contradictions(request, what_if)
    machine = _machine(request.machine, what_if)
    device = _device(machine, request.device, what_if)
    is_moved = device != request.device or what_if.gpu is not None
    memory = what_if.memory_bytes or (None if is_moved else request.memory_bytes)
    ram = what_if.ram_bytes or request.ram_bytes
    if device == "cpu" and what_if.ram_bytes is None and memory is not None:
        ram = max(ram, memory)
    if device == "cpu" and memory is not None and memory > ram:
        raise PlanError(
            found=f"memory={memory / GB:g}GB and ram={ram / GB:g}GB for training on a CPU",
            expected="no more memory for training than for all processes together",
            fix=f"give ram={memory / GB:g}GB or more, or leave ram out",
        )
    return replace(
        request,
        machine=machine,
        device=device,
        memory_bytes=memory,
        ram_bytes=ram,
        budget_s=what_if.budget_s or request.budget_s,
        num_folds=what_if.num_folds or request.num_folds,
    )


def _refuse_contradictions(request: PlanRequest, what_if: WhatIf) -> None:
    num_cases = len(request.fingerprint.cases)
    if what_if.num_folds is not None and what_if.num_folds > num_cases:
        raise PlanError(
            found=f"folds={what_if.num_folds} of {num_cases} cases",
            expected="at least one case a fold to validate on",
            fix=f"give folds={num_cases} or fewer",
        )
    if what_if.gpu is not None and what_if.device not in (None, "auto", "cuda"):
        raise PlanError(
            found=f"gpu={what_if.gpu.name} with device={what_if.device}",
            expected="one device",
            fix="leave out one of the two",
        )


def _machine(machine: Machine, what_if: WhatIf) -> Machine:
    if what_if.gpu is not None:
        machine = machine.revised(gpus=(what_if.gpu,))
    if what_if.num_cpus is None:
        return machine
    flops = machine.flops * what_if.num_cpus / machine.num_cpus
    rounded = float(f"{flops:.{FLOPS_DIGITS - 1}e}")
    return machine.revised(num_cpus=what_if.num_cpus, flops=rounded)


def _device(machine: Machine, before: Device, what_if: WhatIf) -> Device:
    if what_if.gpu is not None:
        return "cuda"
    if what_if.device is None:
        return before
    if what_if.device == "cuda" and not machine.gpus:
        raise PlanError(
            found="device=cuda, and the machine of the plan has no such device",
            expected="the name of one",
            fix=f"name it: gpu=NAME, such as gpu={next(iter(GPU_GIB))}",
        )
    return machine.resolve_device(what_if.device)[0]

"""What only the training machine can know, measured once before the first step."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import repeat

import numpy as np
import torch

from autoseg.machine import measure_machine
from autoseg.network.execution import Execution, Precision
from autoseg.train.accumulate import MicroBatches
from autoseg.train.checkpoint import refuse_foreign
from autoseg.train.compiling import Decision, as_planned, decide, keep_going
from autoseg.train.fitting import expected_memory, fitting_micro_batch
from autoseg.train.job import FoldJob
from autoseg.train.loop import train
from autoseg.train.origin import (
    are_cases_kept,
    cases_digest,
    is_request_kept,
    previous_digest,
    read_settings,
)
from autoseg.train.records import RunSettings
from autoseg.train.schedule import trunk_steps
from autoseg.train.task import TASKS, BatchSource, WaitingBatch, augmentation_place
from autoseg.train.validation import can_see_plateau
from autoseg.workspace import write_text

WARMUP_STEPS = 2
"""The first steps allocate memory and choose kernels, but are not left out where the limit of time
has passed with them: a step of many seconds is hardly longer for it."""
COMPARED_STEPS = 3
"""Steps that each execution is measured over; the fastest counts, so other work disturbs little."""
COMPARED_FRACTION = 0.01
"""Part of the budget after which no further execution is compared; the likely ones come first."""
TIMED_STEPS = 15
TIMED_FRACTION = 0.01
"""Largest part of the budget that timing the chosen execution may take."""
MAX_TIMED_S = 10.0
OPTIMISM = 25.0
"""Percentile of the measured seconds a step: other programs slow some of them. Checks on the way
take steps away that turn out not to fit, and add some where many more do."""
USED_FRACTION = 0.97
"""Part of the time that steps are planned for; the rest is for checkpoints."""


def run_settings(job: FoldJob, batches: BatchSource) -> RunSettings:
    """Return how a fold is trained: as decided earlier, else decided and written now.

    Raises
    ------
    WorkspaceError
        The fold's folder holds weights of another plan.
    """
    settings = read_settings(job)
    if (
        settings is not None
        and is_request_kept(job, settings)
        and are_cases_kept(job, settings)
        and settings.previous_digest == previous_digest(job)
        and settings.initial == job.initial
    ):
        return settings
    refuse_foreign(job.folder, job.plan.digest())
    settings = probe_settings(job, batches)
    job.folder.events.unlink(missing_ok=True)  # they revise settings that no longer hold
    write_text(job.folder.settings, settings.to_json())
    return settings


def probe_settings(job: FoldJob, batches: BatchSource) -> RunSettings:
    """Return how a fold is trained on this machine.

    With steps given no clock is read: the execution is chosen by rule or as planned, so that two
    runs agree in every bit. With a budget, executions are compared on the real network and batch,
    and the number of steps is what the remaining time allows.
    """
    started = time.monotonic()
    training = job.planned.training
    budget_s = job.budget_s
    num_steps = job.num_steps
    if num_steps is None and budget_s is None:
        num_steps, budget_s = training.default_steps, training.default_budget_s
    if num_steps is not None:
        why = "not tried: a run of given steps looks at no clock"
        usual = usual_execution(job.device)
        decision = as_planned(job, usual) or Decision(usual, 0.0, why)
        return _settings(job, decision, num_steps)
    if budget_s is None:
        raise ValueError(f"{job.name}: neither steps nor a budget")
    execution = fastest_execution(job, batches.batch(0), COMPARED_FRACTION * budget_s)
    planned = as_planned(job, execution)
    if planned is not None:
        keep_going()
        seconds = time_steps(job, batches, planned.execution, TIMED_FRACTION * budget_s)
        decision = planned._replace(seconds=seconds)
    else:
        seconds = time_steps(job, batches, execution, TIMED_FRACTION * budget_s)
        decision = decide(job, execution, seconds, budget_s - (time.monotonic() - started))
    left_s = budget_s - (time.monotonic() - started)
    steps = USED_FRACTION * left_s / decision.seconds
    shorter = max(1, math.floor(trunk_steps(steps)))
    if not can_see_plateau(job, shorter):
        shorter = max(1, math.floor(steps))
    return _settings(job, decision, shorter)


def usual_execution(device: str) -> Execution:
    """Return the execution that is fastest by rule: reduced precision where the hardware has it."""
    kind = torch.device(device).type
    precision: Precision = "fp32"
    if kind == "cuda":
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    elif kind == "cpu" and measure_machine().has_bf16:
        precision = "bf16"
    return Execution(device=device, precision=precision)


def candidates(device: str) -> tuple[Execution, ...]:
    """Return the executions worth comparing on a device, the usual one first."""
    usual = usual_execution(device)
    if usual.kind == "mps":
        return (usual,)
    other: Precision = "fp32" if usual.precision == "bf16" else "bf16"
    precisions: list[Precision] = [usual.precision]
    if usual.kind == "cpu":
        precisions.append(other)
    others = [
        Execution(device=device, precision=precision, channels_last=layout)
        for precision in precisions
        for layout in (False, True)
    ]
    return (usual, *(item for item in others if item != usual))


def fastest_execution(job: FoldJob, batch: WaitingBatch, limit_s: float) -> Execution:
    """Return the execution whose training step on `batch` is fastest here and now.

    After `limit_s` seconds no further one is tried; the usual one comes first.
    """
    best, best_s = usual_execution(job.device), math.inf
    started = time.monotonic()
    for execution in candidates(job.device):
        if time.monotonic() - started > limit_s:
            break
        if execution.precision != best.precision and not _has_room(job, execution):
            continue
        left_s = limit_s - (time.monotonic() - started)
        same = repeat(batch, WARMUP_STEPS + COMPARED_STEPS)
        seconds = min(_step_seconds(job, execution, same, left_s))
        if seconds < best_s:
            best, best_s = execution, seconds
    return best


def _has_room(job: FoldJob, execution: Execution) -> bool:
    """Return whether a precision that was not planned for fits into the memory that was."""
    needed = expected_memory(job, execution.precision, job.planned.batch_size)
    return needed <= job.plan.memory_bytes


def time_steps(job: FoldJob, batches: BatchSource, execution: Execution, limit_s: float) -> float:
    """Return the seconds of a training step, making its batch included."""
    count, most_s = WARMUP_STEPS + TIMED_STEPS, min(limit_s, MAX_TIMED_S)
    warm_s = math.inf if execution.compiled else most_s  # compiling is no step, however long
    with closing(batches.stream_from(0, count, num_workers(execution, job.num_threads))) as stream:
        times: list[float] = []
        for seconds in _step_seconds(job, execution, stream, warm_s):
            times.append(seconds)
            if sum(times) > most_s:
                break
    return float(np.percentile(times, OPTIMISM))


def num_workers(execution: Execution, num_threads: int) -> int:
    """Return how many threads make batches: one beside a CPU that computes, else all but one."""
    return 1 if execution.kind == "cpu" else max(1, num_threads - 1)


def _step_seconds(
    job: FoldJob, execution: Execution, batches: Iterable[WaitingBatch], limit_s: float
) -> Iterator[float]:
    """Yield the seconds of steps on throw-away weights, until `limit_s` have passed.

    The first `WARMUP_STEPS` are left out unless the limit passes with them; at least one is told.
    """
    training, task = job.planned.training, TASKS[job.objective]
    steps = train(
        task.build_learner(job.planned, execution, 0),
        (batch.on(execution) for batch in batches),
        task.build_loss(training),
        execution=execution,
        learning_rate=lambda _: 0.0,
        max_gradient_norm=training.max_gradient_norm,
        micro_batches=MicroBatches(fitting_micro_batch(job, execution)),
    )
    started = before = time.perf_counter()
    for result in steps:
        result.loss.item()  # waits for the device
        now = time.perf_counter()
        is_late = now - started > limit_s
        if result.step > WARMUP_STEPS or is_late:
            yield now - before
        if is_late:
            break
        before = now


def _settings(job: FoldJob, decision: Decision, num_steps: int) -> RunSettings:
    execution = decision.execution
    return RunSettings(
        plan_digest=job.plan.digest(),
        configuration=job.configuration,
        fold=job.fold,
        num_steps=num_steps,
        device=execution.device,
        precision=execution.precision,
        num_threads=job.num_threads,
        channels_last=execution.channels_last,
        seconds_per_step=decision.seconds,
        request=job.request,
        cases_digest=cases_digest(job),
        previous_digest=previous_digest(job),
        initial=job.initial,
        augment_on=augmentation_place(job),
        stops_at_plateau=can_see_plateau(job, num_steps),
        micro_batch=fitting_micro_batch(job, execution),
        compiled=execution.compiled,
        compiled_why=decision.why,
    )


def execution_of(settings: RunSettings) -> Execution:
    """Return the execution that was decided."""
    return Execution(
        device=settings.device,
        precision=settings.precision,
        channels_last=settings.channels_last,
        compiled=settings.compiled,
    )

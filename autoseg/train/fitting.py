"""Batches that do not fit into memory: smaller parts of them, decided before the run or in it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from autoseg.errors import TrainingError, counted
from autoseg.machine import usable_memory
from autoseg.network.execution import Execution, Precision
from autoseg.plan.memory import training_memory
from autoseg.train.accumulate import MicroBatches, is_memory_full
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.lines import read_lines
from autoseg.train.origin import read_settings
from autoseg.train.records import RunSettings
from autoseg.workspace import append_line

LOG = logging.getLogger("autoseg")

ROOM = 0.75
"""Part of the memory that was too little, or is there, which a new plan should be made for."""
SMALLEST_GB = 0.8
"""Torch itself takes half of this."""
GIGABYTE = 1e9
RESIDENT_FRACTION = 0.5
"""Part of a device's free memory, less what the training should need, that may hold cases."""


def read_micro_batches(
    job: FoldJob, settings: RunSettings, listeners: Listeners, relieve: Callable[[], bool]
) -> MicroBatches:
    """Return how many samples go through the network at once: as decided, and as changed since.

    A change is written to events.jsonl before it is used, and told. What a copy that is annealed
    finds out holds for its fold, too: the memory is the same.

    Parameters
    ----------
    relieve
        Frees memory of the device that training can do without, if there is any.
    """
    events = replace(job, branch=None).folder.events

    def note(step: int, size: int) -> None:
        append_line(events, {"event": "micro_batch", "step": step, "micro_batch": size})
        text = (
            f"{job.name}: memory was full in step {step + 1}; from there on "
            f"{counted(size, 'sample')} of the batch of {job.planned.batch_size} at a time, "
            "with the gradients of the whole batch"
        )
        LOG.warning("%s", text)
        listeners.on_progress({"event": "note", "text": text})

    changes = [
        (line["step"], line["micro_batch"])
        for line in read_lines(events)
        if line["event"] == "micro_batch"
    ]

    def tell_relief() -> bool:
        is_relieved = relieve()
        if is_relieved:
            LOG.warning("%s: memory was full; cases no longer stay on the device", job.name)
        return is_relieved

    return MicroBatches(settings.micro_batch, changes, note, tell_relief)


def fitting_micro_batch(job: FoldJob, execution: Execution) -> int | None:
    """Return how many samples should fit into the memory of the device; None: the whole batch.

    The memory is all that the device has: a plan that was made for it is taken as it is, and one
    for a larger device, or with a batch that a user has chosen, is cut.
    """
    available = device_memory(job.device)
    size = job.planned.batch_size
    while size > 1 and expected_memory(job, execution.precision, size) > available:
        size = (size + 1) // 2
    return None if size == job.planned.batch_size else size


def device_memory(device: str) -> int:
    """Return the bytes of memory of a device: of a GPU its own, else the machine's."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return usable_memory()


def free_memory(device: str) -> int:
    """Return the bytes of a device's own memory that nobody uses now; 0 where it has none."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return 0


def resident_bytes(job: FoldJob) -> int:
    """Return the bytes of prepared cases that may stay on the device while a fold trains.

    A part of what is free and the training should not need, so that an estimate which is wrong
    costs no step. None of a second stage's: what the first one found is not part of the store.
    """
    if job.planned.previous_stage is not None:
        return 0
    needed = expected_memory(job, "fp32", job.planned.batch_size)
    return max(0, int(RESIDENT_FRACTION * (free_memory(job.device) - needed)))


@contextmanager
def memory_told(job: FoldJob) -> Iterator[None]:
    """Turn the error about memory that is full into one that says what would fit.

    Raises
    ------
    TrainingError
        Memory is full, although single samples go through the network.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_memory_full(error):
            raise
        raise _too_large(job, str(error) or "no memory") from error


def _too_large(job: FoldJob, reason: str) -> TrainingError:
    settings = read_settings(job)
    precision = "fp32" if settings is None else settings.precision
    needed, available = expected_memory(job, precision, 1), device_memory(job.device)
    patch = " x ".join(map(str, job.planned.patch_size))
    gigabytes = max(SMALLEST_GB, ROOM * min(needed, available) / GIGABYTE)
    return TrainingError(
        found=f"{job.name}: the memory of the device is full ({reason.splitlines()[0]})",
        expected=f"about {needed / GIGABYTE:.1f} GB for one patch of {patch} at a time in "
        f"{precision}; {job.device} has {available / GIGABYTE:.1f} GB in all",
        fix="end other programs that use the device, or plan smaller patches, which should fit: "
        f"`autoseg plan DATASET --memory {gigabytes:.1f}GB --replan`",
    )


def expected_memory(job: FoldJob, precision: Precision, batch_size: int) -> int:
    """Return the bytes that training with so many samples at once should take."""
    planned = job.planned
    return training_memory(
        planned.network,
        planned.patch_size,
        batch_size=batch_size,
        precision=precision,
        recompute=planned.training.recompute,
    )

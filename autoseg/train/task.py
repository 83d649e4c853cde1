"""What a run can teach a network: to segment, or to denoise."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol

import torch
from torch import nn

from autoseg.dataset.annotated import known_classes
from autoseg.network.execution import Execution
from autoseg.plan.plan import ConfigurationPlan, TrainingPlan
from autoseg.train.denoising import (
    NoiseError,
    build_denoiser,
    denoising_batches,
    initial_weights,
)
from autoseg.train.device_batches import DeviceBatches
from autoseg.train.fitting import resident_bytes
from autoseg.train.job import FoldJob
from autoseg.train.kept_cases import KeptCases
from autoseg.train.learner import build_learner, build_loss
from autoseg.train.loop import Learner
from autoseg.train.origin import read_settings
from autoseg.train.residents import Residents
from autoseg.train.sampling import Batch, Batches


class WaitingBatch(Protocol):
    """A batch that is not yet where it is needed."""

    def on(self, execution: Execution) -> Batch:
        """Return the batch on a device, ready for the network."""
        ...


class BatchSource(Protocol):
    """The batches of a run, each a pure function of its step."""

    def batch(self, step: int) -> WaitingBatch:
        """Return the batch of a step."""
        ...

    def stream_from(
        self, step: int, num_steps: int, num_workers: int
    ) -> Generator[WaitingBatch, None, None]:
        """Yield the batches of steps `step` to `num_steps` - 1, made ahead by threads."""
        ...

    def relieve(self) -> bool:
        """Free memory of the device that training can do without; return whether there was any."""
        ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """All in which one kind of run differs from another."""

    build_batches: Callable[[FoldJob, int], BatchSource]
    """From a job, and the bytes that may keep cases in memory."""
    build_learner: Callable[[ConfigurationPlan, Execution, int], Learner]
    """With weights drawn from the seed given last."""
    build_loss: Callable[[TrainingPlan], nn.Module]
    entries: Callable[[FoldJob, Learner], dict[str, Any]]
    """What a checkpoint holds besides what a resumed run needs."""


def augmentation_place(job: FoldJob) -> Literal["workers", "device"]:
    """Return what changes the patches of a fold: as begun, else as planned, else by its device."""
    settings = read_settings(job)
    if settings is not None:
        return settings.augment_on
    if job.objective == "denoising":
        return "workers"  # its noise comes on top, drawn on the processor
    planned = job.planned.training.augmentation.place
    return planned or ("device" if torch.device(job.device).type == "cuda" else "workers")


def segmentation_batches(job: FoldJob, cache_bytes: int) -> Batches | DeviceBatches:
    """Return patches with their labels."""
    batches = Batches(
        KeptCases(job.store, cache_bytes, job.previous),
        job.train_cases,
        job.planned,
        labels=job.plan.labels,
        seed=job.plan.seed,
        fold=job.fold,
        known={
            case.id: known_classes(case, job.plan.labels)
            for case in job.dataset.cases
            if case.annotated is not None
        },
    )
    if augmentation_place(job) == "workers":
        return batches
    num_bytes = resident_bytes(job) if cache_bytes else 0
    residents = Residents(job.store, job.device, num_bytes)
    return DeviceBatches(batches, torch.device(job.device).type, residents)


TASKS = MappingProxyType(
    {
        "segmentation": Task(
            build_batches=segmentation_batches,
            build_learner=build_learner,
            build_loss=build_loss,
            entries=lambda *_: {},
        ),
        "denoising": Task(
            build_batches=denoising_batches,
            build_learner=build_denoiser,
            build_loss=lambda _: NoiseError(),
            entries=initial_weights,
        ),
    }
)
"""By the objective of a job."""

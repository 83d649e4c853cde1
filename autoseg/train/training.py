"""One fold from its first step, or its last checkpoint, to its final weights."""

import math
import time
from contextlib import closing
from typing import final

import numpy as np
import torch

from autoseg.seeds import stream_seed
from autoseg.train.checkpoint import (
    Standing,
    restore_checkpoint,
    save_checkpoint,
    save_weights,
)
from autoseg.train.initial_files import begin_from
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.learner import load_encoder
from autoseg.train.lines import keep_lines
from autoseg.train.loop import StepResult, train
from autoseg.train.metrics import Metrics
from autoseg.train.probe import OPTIMISM, USED_FRACTION, execution_of, num_workers
from autoseg.train.records import RunSettings
from autoseg.train.schedule import Revision, Schedule, poly_lr
from autoseg.train.task import TASKS, BatchSource
from autoseg.train.validation import QuickLook
from autoseg.workspace import append_line

REVISED_AT = (0.25, 0.6)
"""Parts of the time after which the number of steps may be lowered."""
NUM_LOOKS = 8
"""Parts of a run; after each but the last, some validation cases are looked at."""


@final
class FoldTraining:
    """A fold while it is trained.

    Parameters
    ----------
    job, listeners
        What to do, and who is told.
    settings
        As decided before the first step.
    batches
        Of the fold.
    started
        `time.monotonic()` when this process began to work on the fold: the probe counts.
    """

    def __init__(
        self,
        job: FoldJob,
        settings: RunSettings,
        batches: BatchSource,
        listeners: Listeners,
        *,
        started: float,
    ) -> None:
        self._job, self._listeners = job, listeners
        self._task = TASKS[job.objective]
        self._execution = execution_of(settings)
        self._batches = batches
        torch.manual_seed(stream_seed(job.plan.seed, "training", job.configuration, job.fold))
        seed = stream_seed(job.plan.seed, "weights", job.configuration, job.fold)
        self._learner = self._task.build_learner(job.planned, self._execution, seed)
        standing = restore_checkpoint(job.folder, self._learner, settings.plan_digest)
        if standing is None:
            _forget(job)
            if job.encoder_weights is not None:
                load_encoder(self._learner, job.planned.network, job.encoder_weights)
            if settings.initial is not None:
                begin_from(self._learner, settings.initial, job.plan, job.configuration)
        self._standing = standing or Standing(
            plan_digest=settings.plan_digest, step=0, elapsed_s=0.0
        )
        self._schedule = _read_schedule(job, settings.num_steps)
        self._metrics = Metrics(job, listeners, settings=settings, step=self._standing.step)
        self._look = QuickLook(job, self._standing.step)
        self._pace = _Pace(job, settings, self._standing, started)
        self._saved = time.monotonic()

    def run(self) -> float:
        """Train to the end, write the final weights, and return the active seconds of all runs.

        Raises
        ------
        Interrupted
            The caller asked to stop; a checkpoint is written.
        TrainingError
            The loss is no longer finite.
        """
        training = self._job.planned.training
        first = self._standing.step
        workers = num_workers(self._execution, self._job.num_threads)
        stream = self._batches.stream_from(first, self._schedule.num_steps, workers)
        with closing(stream):
            steps = train(
                self._learner,
                stream,
                self._task.build_loss(training),
                execution=self._execution,
                learning_rate=self._learning_rate,
                max_gradient_norm=training.max_gradient_norm,
                first_step=first,
            )
            for result in steps:
                self._after(result)
                if result.step >= self._schedule.num_steps:
                    break
        self._save()
        save_weights(self._job.folder.final, self._learner.ema.model.state_dict(), self._standing)
        return self._standing.elapsed_s

    def _learning_rate(self, step: int) -> float:
        training, length = self._job.planned.training, self._schedule.planned_steps
        return poly_lr(
            self._schedule.progress(step) * length,
            length,
            peak=training.peak_lr,
            power=training.poly_power,
            warmup=training.warmup_steps,
        )

    def _after(self, result: StepResult) -> None:
        """Log, look, save, stop, revise: everything that is not the step itself."""
        step, num_steps = result.step, self._schedule.num_steps
        self._metrics.add(result)
        self._standing = self._standing.revised(step=step, elapsed_s=self._pace.elapsed_s())
        dice = self._dice(step)
        if dice or self._metrics.is_due(step) or step == num_steps:
            elapsed_s = self._standing.elapsed_s
            self._metrics.write(result, num_steps=num_steps, elapsed_s=elapsed_s, dice=dice)
        else:
            self._metrics.tell(result, num_steps)
        if self._listeners.should_stop():
            self._save()
            self._listeners.stop_if_asked(self._job.name)
        elif time.monotonic() - self._saved > self._job.checkpoint_interval_s:
            self._save()
        affordable = self._pace.affordable_steps(step, self._schedule)
        if affordable is not None and affordable < num_steps:
            self._schedule = self._schedule.revised(step, affordable)
            append_line(
                self._job.folder.events,
                {"event": "revised", "step": step, "num_steps": affordable},
            )

    def _dice(self, step: int) -> list[float | None]:
        """Return the Dice of each class where a part of the run ends; else nothing."""
        parts = [math.floor(self._schedule.progress(s) * NUM_LOOKS) for s in (step - 1, step)]
        if parts[0] == parts[1] or step >= self._schedule.num_steps:
            return []
        return self._look.dice(self._learner.ema.model, self._execution, step)

    def _save(self) -> None:
        """Write a checkpoint, unless the weights are spoilt."""
        self._metrics.check(self._standing.step)
        self._standing = self._standing.revised(elapsed_s=self._pace.elapsed_s())
        entries = self._task.entries(self._job, self._learner)
        save_checkpoint(self._job.folder, self._learner, self._standing, **entries)
        self._saved = time.monotonic()


@final
class _Pace:
    """How much time has passed, and how many steps the rest allows."""

    def __init__(
        self, job: FoldJob, settings: RunSettings, standing: Standing, started: float
    ) -> None:
        self._started = started
        self._before_s = standing.elapsed_s
        self._probed_s = settings.seconds_per_step
        self._limit_s: float | None = None
        if job.num_steps is None and settings.seconds_per_step > 0:  # else the steps were given
            budget_s = job.budget_s or job.planned.training.default_budget_s
            self._limit_s = None if budget_s is None else standing.elapsed_s + budget_s
        self._checks = [
            part * self._limit_s
            for part in REVISED_AT
            if self._limit_s is not None and part * self._limit_s > standing.elapsed_s
        ]
        self._passed = [self.elapsed_s()]
        """When this run began and when each of its steps since the last check ended."""

    def elapsed_s(self) -> float:
        """Return the active seconds of all runs."""
        return self._before_s + time.monotonic() - self._started

    def affordable_steps(self, step: int, schedule: Schedule) -> int | None:
        """Return after how many steps the run must end; None where it is not the time to ask."""
        if self._limit_s is None or not self._checks:
            return None
        now = self.elapsed_s()
        self._passed.append(now)
        if now < self._checks[0]:
            return None
        self._checks.pop(0)
        seconds = self._seconds_per_step(is_last=not self._checks)
        self._passed = [now]
        if schedule.revisions and schedule.revisions[-1].step >= step:
            return None  # an earlier run has decided this already
        left_s = self._limit_s - now
        return step + max(1, math.floor(USED_FRACTION * left_s / seconds))

    def _seconds_per_step(self, *, is_last: bool) -> float:
        """Return what a step takes: as measured at the last check, hopefully before it.

        Steps that are taken away are lost, also when the machine was busy for a moment only.
        """
        if is_last:
            return (self._passed[-1] - self._passed[0]) / (len(self._passed) - 1)
        usual = float(np.percentile(np.diff(self._passed), OPTIMISM))
        return min(usual, self._probed_s or usual)


def _read_schedule(job: FoldJob, planned_steps: int) -> Schedule:
    """Return the length of the run with all revisions that earlier runs have made."""
    revisions = tuple(
        Revision(line["step"], line["num_steps"])
        for line in keep_lines(job.folder.events)
        if line["event"] == "revised"
    )
    return Schedule(planned_steps, revisions)


def _forget(job: FoldJob) -> None:
    """Remove what an earlier run has logged that left no checkpoint; its decisions stay."""
    for path in (job.folder.metrics, job.folder.scores):
        path.unlink(missing_ok=True)

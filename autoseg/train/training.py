"""One fold from its first step, or its last checkpoint, to its final weights."""

import math
import time
from contextlib import closing
from typing import final

import torch

from autoseg.seeds import stream_seed
from autoseg.train.checkpoint import (
    Standing,
    has_finite_weights,
    restore_checkpoint,
    save_checkpoint,
    save_weights,
)
from autoseg.train.fitting import read_micro_batches
from autoseg.train.initial_files import begin_from
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.learner import load_encoder
from autoseg.train.lines import keep_lines
from autoseg.train.loop import StepResult, train
from autoseg.train.metrics import Metrics
from autoseg.train.pace import Pace
from autoseg.train.probe import execution_of, num_workers
from autoseg.train.rates import planned_rate, reduced
from autoseg.train.records import RunSettings
from autoseg.train.schedule import Branch, Revision, Schedule
from autoseg.train.steady_look import SteadyLook
from autoseg.train.task import TASKS, BatchSource
from autoseg.train.team import joined
from autoseg.train.validation import Seen, timed_validation
from autoseg.train.watch import AstrayError, Watch, not_finite
from autoseg.workspace import append_line

MOST_STEPS = 2**31 - 1
"""Batches are made for so many steps where steps may be added."""
LEAST_SCALE = 1e-4
"""Of a loss in fp16. It is halved by each step whose gradients are not finite: no loss needs less,
and all steps are left out where it has come to this."""
BEFORE_LOOK_S = 5.0
"""A checkpoint that is younger serves when validation cases are about to be looked at."""


@final
class FoldTraining:
    """A fold, or a copy of it that is annealed, while it is trained.

    Parameters
    ----------
    job, listeners
        What to do, and who is told.
    settings
        As decided before the first step.
    batches
        Of the fold.
    pace
        Its clock.
    schedule
        The length of the run, with all revisions that were made.
    branch
        How a copy is annealed; None: the fold itself is trained.
    """

    def __init__(
        self,
        job: FoldJob,
        settings: RunSettings,
        batches: BatchSource,
        listeners: Listeners,
        *,
        pace: Pace,
        schedule: Schedule,
        branch: Branch | None = None,
    ) -> None:
        self._job, self._listeners = job, listeners
        self._pace, self._schedule, self._branch = pace, schedule, branch
        self._task = TASKS[job.objective]
        self._execution = execution_of(settings)
        self._batches = batches
        self._settings = settings
        self._begin()
        pace.begin(self._standing.elapsed_s)

    def _begin(self) -> None:
        """Stand where the newest checkpoint stands; without one, at the first step."""
        job, settings = self._job, self._settings
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
        self._metrics = Metrics(job, self._listeners, settings=settings, step=self._standing.step)
        self._look = SteadyLook(job, settings.num_steps)
        self._watch = Watch(job, self._listeners)
        self._saved = time.monotonic()

    @property
    def _num_steps(self) -> int:
        """Steps after which the run ends, as decided last."""
        return self._schedule.num_steps if self._branch is None else self._branch.end

    def run(self, until: float = 1.0) -> int:
        """Train to a part of the run, save, and return the steps done; at its end, final weights.

        Parameters
        ----------
        until
            Part of the run, above 0 to 1.

        Raises
        ------
        Interrupted
            The caller asked to stop; a checkpoint is written.
        AstrayError
            The loss is no longer finite, or all is lost that was found, although the run went back
            to a checkpoint as often as it may.
        """
        while (astray := self._astray(until)) is not None:
            self._go_back(astray)
        if until == 1.0:
            weights = self._learner.ema.model.state_dict()
            save_weights(self._job.folder.final, weights, self._standing)
        return self._standing.step

    def _astray(self, until: float) -> AstrayError | None:
        """Train to a part of the run and save; return what went astray, if anything did.

        Without its traceback, whose frames would keep the network and all that trains it.
        """
        try:
            if not self._has_reached(until):
                self._train(until)
            self._save()
        except AstrayError as error:
            return error.with_traceback(None)
        return None

    def _has_reached(self, until: float) -> bool:
        step = self._standing.step
        return step >= self._num_steps or (until < 1.0 and self._schedule.progress(step) >= until)

    def _go_back(self, error: AstrayError) -> None:
        """Go on from the last good checkpoint, more slowly; raise the error if that is no use."""
        step = self._standing.step
        self._watch.prepare_return(error)
        del self._learner  # its memory is the next one's
        self._begin()
        self._watch.note_return(error, step, self._standing.step)
        self._schedule = read_schedule(self._job, self._settings.num_steps)
        self._pace.check_again()

    def _train(self, until: float) -> None:
        """Take steps until a part of the run is done."""
        training = self._job.planned.training
        first = self._standing.step
        workers = num_workers(self._execution, self._job.num_threads)
        last = MOST_STEPS if self._pace.may_add_steps else self._num_steps
        with closing(self._batches.stream_from(first, last, workers)) as stream:
            steps = train(
                self._learner,
                (batch.on(self._execution) for batch in self._metrics.waiting.over(stream)),
                self._task.build_loss(training),
                execution=self._execution,
                learning_rate=self._learning_rate,
                max_gradient_norm=training.max_gradient_norm,
                first_step=first,
                micro_batches=joined()
                or read_micro_batches(
                    self._job, self._settings, self._listeners, self._batches.relieve
                ),
            )
            for result in steps:
                self._after(result)
                if self._has_reached(until):
                    break

    def _learning_rate(self, step: int) -> float:
        if self._branch is None:
            return self._planned_rate(step)
        return self._planned_rate(self._branch.step) * self._branch.factor(step)

    def _planned_rate(self, step: int) -> float:
        training, length = self._job.planned.training, self._schedule.planned_steps
        rate = planned_rate(training, self._schedule.progress(step) * length, length)
        return self._watch.lr_factor * self._standing.reductions.factor * rate

    def _after(self, result: StepResult) -> None:
        """Log, look, save, stop, revise: everything that is not the step itself."""
        step, num_steps = result.step, self._num_steps
        self._metrics.add(result)
        self._standing = self._standing.revised(step=step, elapsed_s=self._pace.elapsed_s())
        seen = self._see(step) if self._is_look_due(step) else Seen([])
        dice = seen.dice
        self._reduce(dice)
        if dice or self._metrics.is_due(step) or step == num_steps:
            elapsed_s = self._standing.elapsed_s
            self._metrics.write(result, num_steps=num_steps, elapsed_s=elapsed_s, dice=dice)
        else:
            self._metrics.tell(result, num_steps)
        if dice and self._is_best(seen):
            self._save()
            self._watch.keep_best()
        if self._listeners.should_stop():
            self._save()
            self._listeners.stop_if_asked(self._job.name)
        elif time.monotonic() - self._saved > self._checkpoint_interval_s(step):
            self._save()
        if self._branch is None and self._pace.is_check_due():
            self._revise(step)

    def _revise(self, step: int) -> None:
        """Change the number of steps where the time that is left asks for it."""
        validation_s = None
        if self._job.validation_s is not None and self._job.val_cases:
            validation_s = timed_validation(
                self._job,
                self._learner.ema.model,
                self._execution,
                step=step,
                seconds_per_step=self._pace.seconds_per_step,
            )
        affordable = self._pace.revised_steps(step, self._schedule, validation_s)
        if affordable is None:
            return
        event = {"event": "revised", "step": step, "num_steps": affordable}
        append_line(self._job.folder.events, event)
        self._schedule = self._schedule.revised(step, affordable)

    def _checkpoint_interval_s(self, step: int) -> float:
        """Return the seconds after which a checkpoint is due: fewer where a look comes next.

        A look may take minutes, and a process that is killed in it loses what came before.
        """
        usual_s = self._job.checkpoint_interval_s
        return min(usual_s, BEFORE_LOOK_S) if self._is_look_due(step + 1) else usual_s

    def _is_look_due(self, step: int) -> bool:
        """Return whether some validation cases are looked at after a step."""
        if self._branch is not None or step >= self._schedule.num_steps:
            return False
        count = self._look.num_looks
        parts = [math.floor(self._schedule.progress(s) * count) for s in (step - 1, step)]
        return parts[0] < parts[1] and self._look.is_due(parts[1])

    def _see(self, step: int) -> Seen:
        """Return what is found in validation cases."""
        self._metrics.check(step)  # spoilt weights would only look as if all were lost
        return self._look.see(self._learner.ema.model, self._execution, self._listeners)

    def _reduce(self, dice: list[float | None]) -> None:
        """Lower the learning rate where it follows the Dice and a look found no better one."""
        training = self._job.planned.training
        known = [value for value in dice if value is not None]
        if known and training.schedule == "reduce_on_plateau":
            reductions = reduced(self._standing.reductions, sum(known) / len(known), training)
            self._standing = self._standing.revised(reductions=reductions)

    def _is_best(self, seen: Seen) -> bool:
        """Judge a look at validation cases; return whether none was better."""
        progress = self._schedule.progress(self._standing.step)
        return self._watch.look(
            seen, self._learner.model, step=self._standing.step, progress=progress
        )

    def _save(self) -> None:
        """Write a checkpoint, unless the weights are spoilt."""
        step, learner = self._standing.step, self._learner
        self._metrics.check(step)
        if not has_finite_weights(learner.ema.model):
            raise not_finite(self._job, "a weight", step)
        if self._execution.precision == "fp16" and learner.scaler.get_scale() < LEAST_SCALE:
            raise not_finite(self._job, "the gradient of any step", step)
        self._standing = self._standing.revised(elapsed_s=self._pace.elapsed_s())
        entries = self._task.entries(self._job, self._learner)
        save_checkpoint(self._job.folder, self._learner, self._standing, **entries)
        self._saved = time.monotonic()


def read_schedule(job: FoldJob, planned_steps: int) -> Schedule:
    """Return the length of the run with all revisions that were made so far.

    A run that went back has forgotten those that it had made in the steps after.
    """
    revisions: list[Revision] = []
    for line in keep_lines(job.folder.events):
        if line["event"] == "revised":
            revisions.append(Revision(line["step"], line["num_steps"]))
        elif line["event"] == "rolled back":
            revisions = [item for item in revisions if item.step <= line["to_step"]]
    return Schedule(planned_steps, tuple(revisions))


def _forget(job: FoldJob) -> None:
    """Remove what an earlier run has logged that left no checkpoint; its decisions stay."""
    for path in (job.folder.metrics, job.folder.scores):
        path.unlink(missing_ok=True)

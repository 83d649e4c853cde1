"""One fold: train, validate, write the result. A plain function that any process can run."""

import time

import torch

from autoseg.infer.predict import load_network
from autoseg.record import autoseg_version
from autoseg.train.checkpoint import load_weights, remove_rests
from autoseg.train.compiling import keep_going
from autoseg.train.device import check_device
from autoseg.train.fitting import memory_told
from autoseg.train.job import FoldJob as FoldJob
from autoseg.train.job import Interrupted as Interrupted
from autoseg.train.job import Listeners, OnProgress, ShouldStop
from autoseg.train.lock import held
from autoseg.train.origin import (
    as_begun,
    check_cases,
    check_initial,
    check_previous,
    check_request,
    finished,
)
from autoseg.train.overfitting import training_dice
from autoseg.train.pace import Pace
from autoseg.train.plateau import annealed_ends, train_to_plateau
from autoseg.train.probe import execution_of, run_settings
from autoseg.train.records import FoldResult
from autoseg.train.steady_look import check_looks
from autoseg.train.task import TASKS, BatchSource
from autoseg.train.training import FoldTraining, read_schedule
from autoseg.train.validation import validate
from autoseg.train.watch import tell_gap
from autoseg.workspace import write_text

CACHE_FRACTION = 0.25
"""Part of the memory we may use that keeps prepared cases decompressed."""
LOCK_WAIT_S = 5.0
"""A process that was killed needs a moment to end."""


def train_fold(job: FoldJob, on_progress: OnProgress, should_stop: ShouldStop) -> FoldResult:
    """Train and validate a fold; go on where an earlier call stopped; do nothing if it is done.

    Raises
    ------
    Interrupted
        `should_stop` answered yes; everything is saved.
    TrainingError
        Another process trains the fold; it was begun with other cases, other labels of a previous
        stage or another length; the
        device is missing or its memory full; the schedule needs validation cases that are not
        there; the loss is no longer finite; a prepared case cannot be read.
    WorkspaceError
        The workspace cannot be written, or holds weights of another plan.
    """
    started = time.monotonic()
    with held(job.folder.lock, LOCK_WAIT_S), memory_told(job):
        check_request(job)
        check_cases(job)
        check_previous(job)
        check_initial(job)
        done = finished(job)
        if done is not None:
            return done
        check_device(job.device)
        check_looks(job)
        remove_rests(job.folder)
        return _train(as_begun(job), Listeners(on_progress, should_stop), started)


def _train(job: FoldJob, listeners: Listeners, started: float) -> FoldResult:
    torch.set_num_threads(job.num_threads)
    if torch.device(job.device).type == "cuda":
        torch.backends.cudnn.benchmark = True  # every patch has the same shape
    batches = _batches(job)
    settings = run_settings(job, batches)
    if settings.compiled:
        keep_going()
    if not job.folder.final.exists():
        pace = Pace(job, settings, started)
        if not train_to_plateau(job, settings, batches, listeners, pace):
            schedule = read_schedule(job, settings.num_steps)
            FoldTraining(job, settings, batches, listeners, pace=pace, schedule=schedule).run()
    weights, standing = load_weights(job.folder.final, settings.plan_digest)
    scores, validation_s, train_dice = (), 0.0, ()
    if job.val_cases:
        execution = execution_of(settings)
        model = execution.place(load_network(job.planned.network, weights))
        scores, validation_s = validate(job, model, execution, listeners)
        train_dice = training_dice(job, model, execution, standing.step)
        tell_gap(job, listeners, train_dice, scores, step=standing.step)
    result = FoldResult(
        autoseg_version=autoseg_version(),
        plan_digest=settings.plan_digest,
        configuration=job.configuration,
        fold=job.fold,
        seed=job.plan.seed,
        num_steps=standing.step,
        train_seconds=standing.elapsed_s,
        validation_seconds=validation_s,
        scores=scores,
        request=settings.request,
        cases_digest=settings.cases_digest,
        previous_digest=settings.previous_digest,
        initial=settings.initial,
        train_dice=train_dice,
        ends=annealed_ends(job) if settings.stops_at_plateau else (),
    )
    write_text(job.folder.result, result.to_json())
    return result


def _batches(job: FoldJob) -> BatchSource:
    share = job.num_threads / max(job.num_threads, job.plan.num_threads)
    cache_bytes = int(CACHE_FRACTION * share * job.plan.ram_bytes)
    return TASKS[job.objective].build_batches(job, cache_bytes)

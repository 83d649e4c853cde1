"""Training all folds that are asked for: stage by stage, in the time that each can have."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import final

from autoseg.dataset.splits import Splits
from autoseg.pipeline.choices import TrainOptions
from autoseg.pipeline.run_record import ActiveTime
from autoseg.pipeline.sharing import Shares, num_sharing
from autoseg.pipeline.stages import prepare_stage, stage_of
from autoseg.plan.budget import preferred_order
from autoseg.plan.expectation import UNSURE, expected_accuracy
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.origin import begun, finished
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace, append_line

LOG = logging.getLogger("autoseg")


def train_stages(
    jobs: Sequence[FoldJob],
    splits: Splits,
    options: TrainOptions,
    active: ActiveTime,
    listeners: Listeners,
) -> None:
    """Train the folds that have no result yet, the most suitable configuration first.

    Second stages of cascades come after all folds of the first. What the first finds in the cases
    is prepared in between.
    """
    stages = _Stages(jobs, splits, listeners)
    pending = _in_order(stages.pending())
    _tell_finished(jobs, pending, listeners)
    if not pending:
        return
    workers = _num_workers(pending, options)
    budget_s = None if pending[0].request is None else pending[0].request.budget_s
    shares = None if budget_s is None else Shares(jobs, budget_s, active, workers)
    in_turn = workers == 1 and options.address is None
    is_first = True
    while pending := stages.prepared(pending):
        is_alone = is_first and len(pending) == len(jobs)
        granted = _granted(shares, pending, listeners, is_alone=is_alone)
        if not granted:
            return
        if is_first:
            _tell_expected(granted, workers, listeners)
        is_first = False
        now, pending = _first_stage(granted)
        if in_turn:
            # One after the other, so that each knows what those before it have left.
            now, pending = now[:1], [*now[1:], *pending]
        _train(now, options, min(workers, len(now)), listeners)


@final
class _Stages:
    """Which folds are still to be trained, where some see what others have found."""

    def __init__(self, jobs: Sequence[FoldJob], splits: Splits, listeners: Listeners) -> None:
        self._jobs, self._splits, self._listeners = jobs, splits, listeners
        self._prepared: set[str] = set()

    def pending(self) -> list[FoldJob]:
        """Return the folds that have no result, or one of what an earlier stage found before."""
        waiting = {job.configuration for job in self._jobs if finished(job) is None}
        self._prepare([job for job in self._jobs if job.planned.previous_stage not in waiting])
        return [
            job
            for job in self._jobs
            if finished(job) is None or job.planned.previous_stage in waiting
        ]

    def prepared(self, pending: Sequence[FoldJob]) -> list[FoldJob]:
        """Prepare what the next folds need; return those that are still to be trained.

        A second stage is kept whose first one, trained again, finds what it found before.
        """
        now, later = _first_stage(pending)
        self._prepare(now)
        now = [job for job in now if finished(job) is None]
        return [*now, *later] if now or not later else self.prepared(later)

    def _prepare(self, jobs: Sequence[FoldJob]) -> None:
        """Prepare what the previous stages of some jobs found, once for each configuration."""
        for name in dict.fromkeys(job.configuration for job in jobs):
            own = [job for job in self._jobs if job.configuration == name]
            if own[0].planned.previous_stage is not None and name not in self._prepared:
                prepare_stage(own, self._splits, self._listeners)
                self._prepared.add(name)


def _first_stage(pending: Sequence[FoldJob]) -> tuple[list[FoldJob], list[FoldJob]]:
    """Return the jobs that can be trained now, and those that build on others."""
    if not pending:
        return [], []
    stages = {job.name: stage_of(job.plan, job.configuration) for job in pending}
    first = min(stages.values())
    return (
        [job for job in pending if stages[job.name] == first],
        [job for job in pending if stages[job.name] != first],
    )


def _granted(
    shares: Shares | None, pending: Sequence[FoldJob], listeners: Listeners, *, is_alone: bool
) -> list[FoldJob]:
    """Return the folds that there is time for, with their time; without a budget all."""
    if shares is None:
        return list(pending)
    kept = _affordable(shares, pending, listeners, is_alone=is_alone)
    return shares.granted(kept) if kept else []


def _num_workers(pending: Sequence[FoldJob], options: TrainOptions) -> int:
    """Return how many of the folds are trained at once."""
    workers = min(options.num_workers, len(pending))
    if options.address is not None:
        return workers
    from autoseg.train.device import most_at_once

    return most_at_once(pending[0].device, workers)


def _threaded(jobs: Sequence[FoldJob], workers: int) -> list[FoldJob]:
    """Return the folds with their part of the threads."""
    return [
        replace(job, num_threads=max(1, job.plan.num_threads // (workers * job.num_devices)))
        for job in jobs
    ]


def _affordable(
    shares: Shares, pending: Sequence[FoldJob], listeners: Listeners, *, is_alone: bool
) -> list[FoldJob]:
    """Return the folds that there is time for, and say which there is none for."""
    kept = shares.affordable(pending, is_alone=is_alone)
    short = {job.configuration for job in pending if job not in kept}
    kept = [job for job in kept if job.planned.previous_stage not in short]
    _tell_dropped([job for job in pending if job not in kept], shares, listeners)
    return kept


def _train(
    jobs: Sequence[FoldJob], options: TrainOptions, workers: int, listeners: Listeners
) -> None:
    from autoseg.train.cluster import train_folds

    train_folds(
        _threaded(jobs, workers),
        num_workers=workers,
        address=options.address,
        on_progress=listeners.on_progress,
        should_stop=listeners.should_stop,
    )


def _tell_finished(
    jobs: Sequence[FoldJob], pending: Sequence[FoldJob], listeners: Listeners
) -> None:
    """Say which folds are kept, and which of a configuration were trained differently."""
    asked = {job.configuration: job.request for job in jobs}
    again = {(job.configuration, job.fold) for job in pending}
    kept = {(job.configuration, job.fold) for job in jobs} - again
    for path in sorted(Workspace(jobs[0].root).training.glob("*/fold_*/result.json")):
        result = FoldResult.load(path)
        place = result.configuration, result.fold
        name = f"{result.configuration} fold {result.fold}"
        if place in again:
            continue
        if place in kept:
            text = f"{name} is finished ({result.num_steps} steps) and kept"
            listeners.on_progress({"event": "note", "text": text})
            continue
        request = asked.get(result.configuration)
        if None not in (request, result.request) and str(request) != str(result.request):
            text = f"{name} was trained for {result.request}, the other folds for {request}"
            listeners.on_progress({"event": "note", "text": f"{text}: they do not compare"})


def _in_order(jobs: Sequence[FoldJob]) -> list[FoldJob]:
    """Return jobs in the order in which they are trained: what was begun first."""
    if not jobs:
        return []
    names = {(job.configuration, job.fold): job for job in jobs}
    ordered = [names[fold] for fold in preferred_order(jobs[0].plan, tuple(names))]
    return sorted(ordered, key=lambda job: begun(job) is None)


def _tell_expected(jobs: Sequence[FoldJob], workers: int, listeners: Listeners) -> None:
    """Say what accuracy to expect of each configuration, and from which evidence."""
    num_shares = num_sharing(jobs[0].plan, workers)
    for name, job in {job.configuration: job for job in reversed(jobs)}.items():
        step_s = num_shares * job.planned.cost.step_seconds
        steps = job.num_steps or (job.budget_s or 0.0) / step_s
        expected = expected_accuracy(job.planned, steps)
        listeners.on_progress({"event": "note", "text": f"{name}: {expected}. {UNSURE}"})


def _tell_dropped(dropped: Sequence[FoldJob], shares: Shares, listeners: Listeners) -> None:
    """Say in every place which folds are not trained, and how they can be."""
    for job in dropped:
        remedy = "the same command, given again, trains it"
        if not shares.suffices_for(job):
            remedy = f"a larger --budget with --folds {job.fold} trains it"
        reason = f"the budget is too short for it; {remedy}"
        LOG.warning("%s is dropped: %s", job.name, reason)
        event: dict[str, object] = {"event": "dropped", "reason": reason}
        event |= {"configuration": job.configuration, "fold": job.fold}
        append_line(Workspace(job.root).events, event)
        listeners.on_progress(event)

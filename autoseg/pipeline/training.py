"""From a plan to a verified model and its report: `autoseg train`."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoseg.dataset.dataset import Dataset
from autoseg.errors import TrainingError
from autoseg.pipeline.choices import (
    FoldChoice,
    check_configuration,
    check_verification_case,
    choose_folds,
    keep_images,
)
from autoseg.pipeline.choices import TrainOptions as TrainOptions
from autoseg.pipeline.run_record import ActiveTime, load_run
from autoseg.plan.budget import (
    MIN_FOLD_S,
    PREPARING_S,
    affordable_folds,
    kept_folds,
    preferred_order,
    seconds_per_fold,
    smallest_budget_s,
)
from autoseg.plan.consistency import load_plan
from autoseg.plan.plan import Plan
from autoseg.preprocess.preprocess import preprocess
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.origin import begun, check_cases, check_initial, check_request, finished
from autoseg.train.records import FoldResult, Request
from autoseg.workspace import Workspace, append_line

LOG = logging.getLogger("autoseg")

OnEvent = Callable[[Mapping[str, object]], None]
ShouldStop = Callable[[], bool]


def train_model(
    options: TrainOptions,
    on_event: OnEvent = lambda _: None,
    should_stop: ShouldStop = lambda: False,
) -> None:
    """Preprocess what is missing, train, choose, export, verify and report; go on after a stop.

    Raises
    ------
    AutosegError
        What the user can fix.
    autoseg.train.job.Interrupted
        `should_stop` answered yes; everything is saved.
    """
    from autoseg.pipeline.finishing import finish

    workspace = options.workspace
    plan, dataset = load_plan(workspace.plan), Dataset.load(workspace.dataset)
    check_verification_case(dataset, options.verification_case)
    choices = choose_folds(plan, dataset, options)
    request = _request(plan, choices, options)
    jobs = [_job(plan, dataset, options, choice, request) for choice in choices]
    if options.initial is not None:
        jobs = with_initial(jobs, options.initial, on_event)
    for job in jobs:
        check_request(job)
        check_initial(job)
    load_run(workspace, plan, options.command)
    images = keep_images(workspace, asked=options.images)
    names = ", ".join(job.name for job in jobs)
    with ActiveTime(workspace, f"{names}: {request}") as active:
        listeners = Listeners(on_event, active.watched(should_stop))
        names = dict.fromkeys(job.configuration for job in jobs)
        prepare_cases(plan, dataset, workspace, tuple(names), listeners)
        for job in jobs:
            check_cases(job)
        budget_s = request.budget_s
        left_s = None if budget_s is None else budget_s - active.seconds
        _train_folds(jobs, options, left_s, listeners)
        finish(
            plan,
            dataset,
            workspace,
            verification_case=options.verification_case,
            images=images,
            on_event=on_event,
            should_stop=listeners.should_stop,
        )


def prepare_cases(
    plan: Plan,
    dataset: Dataset,
    workspace: Workspace,
    names: Sequence[str],
    listeners: Listeners,
) -> None:
    """Prepare the cases of every named configuration that are not yet prepared."""
    done: dict[str, int] = dict.fromkeys(names, 0)

    def listen(configuration: str, case_id: str) -> None:
        done[configuration] = done.get(configuration, 0) + 1
        listeners.on_progress(
            {
                "event": "prepared",
                "configuration": configuration,
                "case": case_id,
                "done": done[configuration],
                "total": len(dataset.training_cases),
            }
        )
        listeners.stop_if_asked("preparing")

    preprocess(
        dataset,
        plan,
        workspace,
        names,
        num_workers=plan.num_threads,
        on_case=listen,
    )


def prepare_workspace(
    workspace: Workspace,
    configurations: Sequence[str] | None,
    on_event: OnEvent,
    should_stop: ShouldStop = lambda: False,
) -> tuple[str, ...]:
    """Prepare the named configurations, or all that train on images alone; return their names."""
    plan, dataset = load_plan(workspace.plan), Dataset.load(workspace.dataset)
    names = tuple(dict.fromkeys(configurations or ())) or tuple(
        item.name for item in plan.configurations if item.previous_stage is None
    )
    for name in names:
        check_configuration(plan, name)
    prepare_cases(plan, dataset, workspace, names, Listeners(on_event, should_stop))
    return names


def _request(plan: Plan, choices: Sequence[FoldChoice], options: TrainOptions) -> Request:
    """Return how long to train: in steps or in seconds, as asked for or as planned."""
    steps, budget_s = options.steps, None
    is_explicit = steps is not None or options.budget_s is not None
    if steps is None:
        budget_s = options.budget_s or plan.budget_s
    if steps is None and budget_s is None:
        training = plan.configuration(choices[0].configuration).training
        budget_s, steps = training.default_budget_s, training.default_steps
    return Request(num_steps=steps, budget_s=budget_s, is_explicit=is_explicit)


def _job(
    plan: Plan, dataset: Dataset, options: TrainOptions, choice: FoldChoice, request: Request
) -> FoldJob:
    """Return what a worker is asked to do; how much time it has is decided later."""
    # On a cluster each worker sees the devices that it was given, as the first ones.
    is_chosen = plan.device_index is not None and options.address is None
    return FoldJob(
        plan=plan,
        dataset=dataset,
        root=options.workspace.root,
        configuration=choice.configuration,
        fold=choice.fold,
        train_cases=choice.split.train,
        val_cases=choice.split.val,
        device=f"{plan.device}:{plan.device_index}" if is_chosen else plan.device,
        num_threads=plan.num_threads,
        num_steps=request.num_steps,
        request=request,
    )


def with_initial(jobs: Sequence[FoldJob], path: Path, on_event: OnEvent) -> list[FoldJob]:
    """Return jobs that begin with the weights at `path`, and tell what becomes of each layer.

    Raises
    ------
    AutosegError
        There are no weights, or none that fits.
    """
    from autoseg.train.initial_files import choose_initial

    chosen = {}
    for job in jobs:
        if job.configuration in chosen:
            continue
        choice, found = choose_initial(job.plan, job.configuration, path)
        chosen[job.configuration] = choice
        layers = [(row.layer, row.state, row.reason) for row in found.rows]
        event = {"event": "initial", "configuration": job.configuration, "layers": layers}
        on_event({**event, **choice.model_dump()})
    return [replace(job, initial=chosen[job.configuration]) for job in jobs]


def _train_folds(
    jobs: Sequence[FoldJob], options: TrainOptions, left_s: float | None, listeners: Listeners
) -> None:
    """Train the folds that have no result yet, the most suitable configuration first."""
    pending = _in_order([job for job in jobs if finished(job) is None])
    _tell_finished(jobs, options.workspace, listeners)
    if not pending:
        return
    from autoseg.train.cluster import train_folds
    from autoseg.train.device import most_at_once

    workers = options.num_workers
    if options.address is None:
        workers = most_at_once(pending[0].device, workers)
    share_s = None
    if left_s is not None:
        kept = _affordable(pending, left_s, workers, is_alone=len(pending) == len(jobs))
        _tell_dropped([job for job in pending if job not in kept], options.workspace, listeners)
        pending = kept
        share_s = max(MIN_FOLD_S, seconds_per_fold(left_s, max(1, len(pending)), workers))
    if not pending:
        return
    workers = min(workers, len(pending))
    threads = max(1, pending[0].plan.num_threads // workers)
    train_folds(
        [replace(job, num_threads=threads, budget_s=share_s) for job in pending],
        num_workers=workers,
        address=options.address,
        on_progress=listeners.on_progress,
        should_stop=listeners.should_stop,
    )


def _tell_finished(jobs: Sequence[FoldJob], workspace: Workspace, listeners: Listeners) -> None:
    """Say which folds are kept, and which of a configuration were trained differently."""
    asked = {job.configuration: job.request for job in jobs}
    for path in sorted(workspace.training.glob("*/fold_*/result.json")):
        result = FoldResult.load(path)
        name = f"{result.configuration} fold {result.fold}"
        if any(
            (job.configuration, job.fold) == (result.configuration, result.fold) for job in jobs
        ):
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


def _affordable(
    pending: Sequence[FoldJob], left_s: float, workers: int, *, is_alone: bool
) -> list[FoldJob]:
    """Return the folds that the time allows; what was begun is always brought to its end.

    Parameters
    ----------
    is_alone
        Nothing is trained yet, so that one fold must be affordable.
    """
    old = [job for job in pending if begun(job) is not None]
    new = {(job.configuration, job.fold): job for job in pending if job not in old}
    count = affordable_folds(left_s, len(pending), workers)
    kept = kept_folds(tuple(new), max(0, count - len(old)))
    if is_alone and not old and not kept:
        missing_s = math.ceil(smallest_budget_s() + PREPARING_S - left_s)
        raise TrainingError(
            found=f"{max(left_s, 0):.0f} s left of the budget",
            expected=f"enough for one fold of at least {MIN_FOLD_S:.0f} s and what comes after it",
            fix=f"give a larger --budget: {missing_s} s more",
        )
    return [*old, *(new[fold] for fold in kept)]


def _tell_dropped(dropped: Sequence[FoldJob], workspace: Workspace, listeners: Listeners) -> None:
    """Say in every place which folds are not trained, and how they can be."""
    reason = "the budget is too short for it; the same command, given again, trains it"
    for job in dropped:
        LOG.warning("%s is dropped: %s", job.name, reason)
        event: dict[str, object] = {"event": "dropped", "reason": reason}
        event |= {"configuration": job.configuration, "fold": job.fold}
        append_line(workspace.events, event)
        listeners.on_progress(event)

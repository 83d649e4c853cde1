"""From a plan to a verified model and its report: `autoseg train`."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoseg.dataset.dataset import Dataset
from autoseg.pipeline.choices import (
    FoldChoice,
    check_configuration,
    check_verification_case,
    choose_folds,
    keep_images,
)
from autoseg.pipeline.choices import TrainOptions as TrainOptions
from autoseg.pipeline.known_machines import learn_from_folds
from autoseg.pipeline.run_record import ActiveTime, load_run
from autoseg.pipeline.sharing import Shares, num_sharing
from autoseg.plan.budget import preferred_order
from autoseg.plan.consistency import load_plan
from autoseg.plan.expectation import UNSURE, expected_accuracy
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
        # Not those of earlier calls: another machine may have trained them.
        folders = [job.folder for job in jobs if finished(job) is None]
        _train_folds(jobs, options, active, listeners)
        if options.machine_file is not None and options.address is None:
            for text in learn_from_folds(folders, plan, options.machine_file):
                on_event({"event": "note", "text": text})
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
        stops_at_plateau=_ends_by_itself(plan, request, options),
    )


def _ends_by_itself(plan: Plan, request: Request, options: TrainOptions) -> bool:
    """Return whether nobody has said how long to train: then the data decide, within a default."""
    is_asked = options.budget_s is not None or plan.budget_s is not None
    return request.budget_s is not None and not is_asked


def with_initial(jobs: Sequence[FoldJob], path: Path, on_event: OnEvent) -> list[FoldJob]:
    """Return jobs that begin with the weights at `path`, and log what becomes of each layer.

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
        line = {**event, **choice.model_dump()}
        table = Workspace(job.root).events
        append_line(table, line)
        on_event({**line, "table": str(table)})
    return [replace(job, initial=chosen[job.configuration]) for job in jobs]


def _train_folds(
    jobs: Sequence[FoldJob], options: TrainOptions, active: ActiveTime, listeners: Listeners
) -> None:
    """Train the folds that have no result yet, the most suitable configuration first."""
    pending = _in_order([job for job in jobs if finished(job) is None])
    _tell_finished(jobs, options.workspace, listeners)
    if not pending:
        return
    workers = _num_workers(pending, options)
    request = pending[0].request
    if request is None or request.budget_s is None:
        _tell_expected(pending, workers, listeners)
        _train(_threaded(pending, workers), options, workers, listeners)
        return
    shares = Shares(jobs, request.budget_s, active, workers)
    is_alone = len(pending) == len(jobs)
    pending = _affordable(shares, pending, listeners, is_alone=is_alone)
    if not pending:
        return
    workers = min(workers, len(pending))
    granted = shares.granted(_threaded(pending, workers))
    _tell_expected(granted, workers, listeners)
    if workers > 1 or options.address is not None:
        _train(granted, options, workers, listeners)
        return
    pending = granted
    while pending:
        # One after the other, so that each knows what those before it have left.
        job, *pending = shares.granted(pending)
        _train([job], options, 1, listeners)
        pending = _affordable(shares, pending, listeners, is_alone=False)


def _num_workers(pending: Sequence[FoldJob], options: TrainOptions) -> int:
    """Return how many of the folds are trained at once."""
    workers = min(options.num_workers, len(pending))
    if options.address is not None:
        return workers
    from autoseg.train.device import most_at_once

    return most_at_once(pending[0].device, workers)


def _threaded(jobs: Sequence[FoldJob], workers: int) -> list[FoldJob]:
    """Return the folds with their part of the threads."""
    return [replace(job, num_threads=max(1, job.plan.num_threads // workers)) for job in jobs]


def _affordable(
    shares: Shares, pending: Sequence[FoldJob], listeners: Listeners, *, is_alone: bool
) -> list[FoldJob]:
    """Return the folds that there is time for, and say which there is none for."""
    kept = shares.affordable(pending, is_alone=is_alone)
    dropped = [job for job in pending if job not in kept]
    _tell_dropped(dropped, shares, listeners)
    return kept


def _train(
    jobs: Sequence[FoldJob], options: TrainOptions, workers: int, listeners: Listeners
) -> None:
    from autoseg.train.cluster import train_folds

    train_folds(
        jobs,
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

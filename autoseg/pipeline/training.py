"""From a plan to a verified model and its report: `autoseg train`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.split_files import read_splits
from autoseg.errors import TrainingError
from autoseg.pipeline.choices import (
    FoldChoice,
    check_configuration,
    check_verification_case,
    choose_folds,
    keep_images,
)
from autoseg.pipeline.choices import TrainOptions as TrainOptions
from autoseg.pipeline.folds import train_stages
from autoseg.pipeline.known_machines import learn_from_folds
from autoseg.pipeline.run_record import ActiveTime, load_run
from autoseg.plan.consistency import load_plan
from autoseg.plan.plan import Plan
from autoseg.preprocess.preprocess import preprocess
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.origin import check_cases, check_initial, check_request, finished
from autoseg.train.records import Request
from autoseg.workspace import Workspace, append_line

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
    _check_teams(jobs, options)
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
        splits = read_splits(workspace.splits, dataset.cases)
        train_stages(jobs, splits, options, active, listeners)
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
    is_alone = options.address is None and options.devices_per_fold == 1
    is_chosen = plan.device_index is not None and is_alone
    return FoldJob(
        plan=plan,
        dataset=dataset,
        root=options.workspace.root,
        configuration=choice.configuration,
        fold=choice.fold,
        train_cases=choice.split.train,
        val_cases=choice.split.val,
        device=f"{plan.device}:{plan.device_index}" if is_chosen else plan.device,
        num_threads=max(1, plan.num_threads // options.devices_per_fold),
        num_devices=options.devices_per_fold,
        num_steps=request.num_steps,
        request=request,
        stops_at_plateau=_ends_by_itself(plan, request, options),
    )


def _check_teams(jobs: Sequence[FoldJob], options: TrainOptions) -> None:
    """Refuse what several devices for each fold cannot do."""
    count = options.devices_per_fold
    if count == 1:
        return
    if options.num_workers > 1:
        raise TrainingError(
            found=f"--devices-per-fold {count} with --workers {options.num_workers}",
            expected="one of them: folds share devices, or devices share a fold",
            fix="give --devices-per-fold for few large networks, --workers for several folds",
        )
    from autoseg.train.team import check_team

    for job in jobs:
        check_team(job.planned, job.device, count)


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

"""From a plan to a verified model and its report: `autoseg train`."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.splits import Split, read_splits
from autoseg.errors import TrainingError
from autoseg.pipeline.run_record import RunRecord, load_run
from autoseg.plan.budget import MIN_FOLD_S, affordable_folds, seconds_per_fold
from autoseg.plan.consistency import load_plan
from autoseg.plan.plan import Plan
from autoseg.preprocess.preprocess import preprocess
from autoseg.workspace import Workspace, append_line, write_text

LOG = logging.getLogger("autoseg")
ALL = "all"
"""Name of the fold that trains on every case."""

OnEvent = Callable[[Mapping[str, object]], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What a user may ask of a training."""

    workspace: Workspace
    budget_s: float | None = None
    steps: int | None = None
    configurations: tuple[str, ...] | None = None
    folds: tuple[str, ...] | None = None
    """Indices as text, or ("all",)."""
    num_workers: int = 1
    address: str | None = None
    images: bool = True
    verification_case: str = "synthetic"
    command: tuple[str, ...] = ()
    """As typed, for the report."""


@dataclass(frozen=True)
class FoldChoice:
    """One fold of one configuration."""

    configuration: str
    fold: str
    split: Split


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
    autoseg.train.fold.Interrupted
        `should_stop` answered yes; everything is saved.
    """
    from autoseg.pipeline.finishing import finish

    started = time.monotonic()
    workspace = options.workspace
    plan, dataset = load_plan(workspace.plan), Dataset.load(workspace.dataset)
    choices = choose_folds(plan, dataset, options)
    run = load_run(workspace, plan, options.command)
    budget_s, steps = _limit(plan, choices, options)
    request = f"{[(item.configuration, item.fold) for item in choices]} {budget_s} {steps}"
    before_s = run.active_s.get(request, 0.0)
    try:
        names = dict.fromkeys(choice.configuration for choice in choices)
        prepare_cases(plan, dataset, workspace, tuple(names), on_event)
        spent_s = before_s + time.monotonic() - started
        _train_folds(
            plan,
            dataset,
            options,
            _pending(workspace, plan, choices),
            limit=(None if budget_s is None else budget_s - spent_s, steps),
            listeners=(on_event, should_stop),
        )
        finish(
            plan,
            dataset,
            workspace,
            verification_case=options.verification_case,
            images=options.images,
            on_event=on_event,
        )
    finally:
        _keep_time(workspace, request, before_s + time.monotonic() - started)


def prepare_cases(
    plan: Plan,
    dataset: Dataset,
    workspace: Workspace,
    names: Sequence[str],
    on_event: OnEvent,
) -> None:
    """Prepare the cases of every named configuration that are not yet prepared."""
    done: dict[str, int] = dict.fromkeys(names, 0)

    def listen(configuration: str, case_id: str) -> None:
        done[configuration] = done.get(configuration, 0) + 1
        on_event(
            {
                "event": "prepared",
                "configuration": configuration,
                "case": case_id,
                "done": done[configuration],
                "total": len(dataset.cases),
            }
        )

    preprocess(
        dataset,
        plan,
        workspace,
        names,
        num_workers=plan.num_threads,
        on_case=listen,
    )


def prepare_workspace(
    workspace: Workspace, configurations: Sequence[str] | None, on_event: OnEvent
) -> tuple[str, ...]:
    """Prepare the named configurations, or all that train on images alone; return their names."""
    plan, dataset = load_plan(workspace.plan), Dataset.load(workspace.dataset)
    names = tuple(configurations or ()) or tuple(
        item.name for item in plan.configurations if item.previous_stage is None
    )
    for name in names:
        _check_configuration(plan, name)
    prepare_cases(plan, dataset, workspace, names, on_event)
    return names


def choose_folds(plan: Plan, dataset: Dataset, options: TrainOptions) -> list[FoldChoice]:
    """Return the folds that are asked for, or all folds of what the plan trains by default."""
    splits = read_splits(options.workspace.splits, dataset.cases)
    names = options.configurations or tuple(
        item.name for item in plan.configurations if item.train_by_default
    )
    folds = options.folds or tuple(str(index) for index in range(len(splits)))
    for name in names:
        _check_configuration(plan, name)
    return [
        FoldChoice(name, fold, _split_of(fold, splits, dataset)) for name in names for fold in folds
    ]


def _check_configuration(plan: Plan, name: str) -> None:
    """Refuse a configuration that is not in the plan, or that cannot be trained."""
    known = [item.name for item in plan.configurations]
    if name not in known:
        raise TrainingError(
            found=f"configuration {name!r}",
            expected=f"one of the planned configurations: {', '.join(known)}",
            fix="correct --configurations",
        )
    if plan.configuration(name).previous_stage is not None:
        raise TrainingError(
            found=f"configuration {name!r}, which continues from another one's predictions",
            expected="a configuration that trains on images alone; cascades cannot be trained yet",
            fix="train 3d_fullres or 3d_lowres",
        )


def _split_of(fold: str, splits: Sequence[Split], dataset: Dataset) -> Split:
    """Return the training and validation cases of a fold."""
    if fold == ALL:
        return Split(train=tuple(case.id for case in dataset.cases), val=())
    if not fold.isdigit() or int(fold) >= len(splits):
        raise TrainingError(
            found=f"fold {fold!r}",
            expected=f"folds are 0 to {len(splits) - 1}, or all",
            fix="correct --folds; the number of folds is set by `autoseg plan --folds`",
        )
    return splits[int(fold)]


def _pending(workspace: Workspace, plan: Plan, choices: Sequence[FoldChoice]) -> list[FoldChoice]:
    """Return the folds without a result of this plan."""
    digest = plan.digest()
    return [
        choice
        for choice in choices
        if _result_digest(workspace.fold(choice.configuration, choice.fold).result) != digest
    ]


def _result_digest(path: Path) -> str | None:
    """Return the digest of the plan that a fold's result belongs to; None without a result."""
    if not path.exists():
        return None
    return json.loads(path.read_text(encoding="utf-8")).get("plan_digest")


def _limit(
    plan: Plan, choices: Sequence[FoldChoice], options: TrainOptions
) -> tuple[float | None, int | None]:
    """Return (budget in seconds, steps): one is given, the other None."""
    if options.steps is not None:
        return None, options.steps
    if options.budget_s is not None or plan.budget_s is not None:
        return options.budget_s or plan.budget_s, None
    training = plan.configuration(choices[0].configuration).training
    return training.default_budget_s, training.default_steps


def _train_folds(
    plan: Plan,
    dataset: Dataset,
    options: TrainOptions,
    pending: Sequence[FoldChoice],
    *,
    limit: tuple[float | None, int | None],
    listeners: tuple[OnEvent, ShouldStop],
) -> None:
    """Train the folds that have no result yet."""
    from autoseg.train.cluster import train_folds
    from autoseg.train.fold import FoldJob

    available_s, steps = limit
    share_s = None
    if available_s is not None and pending:
        pending, share_s = _within(available_s, pending, options)
    jobs = [
        FoldJob(
            plan=plan,
            dataset=dataset,
            root=options.workspace.root,
            configuration=choice.configuration,
            fold=choice.fold,
            train_cases=choice.split.train,
            val_cases=choice.split.val,
            device=plan.device,
            num_threads=max(1, plan.num_threads // min(options.num_workers, len(pending))),
            num_steps=steps,
            budget_s=share_s,
        )
        for choice in pending
    ]
    if jobs:
        on_event, should_stop = listeners
        train_folds(
            jobs,
            num_workers=min(options.num_workers, len(jobs)),
            address=options.address,
            on_progress=on_event,
            should_stop=should_stop,
        )


def _within(
    available_s: float, pending: Sequence[FoldChoice], options: TrainOptions
) -> tuple[Sequence[FoldChoice], float]:
    """Return the folds that the time allows, and the seconds of each."""
    count = affordable_folds(available_s, len(pending), options.num_workers)
    if count == 0:
        raise TrainingError(
            found=f"{max(available_s, 0):.0f} s left of the budget",
            expected=f"enough for one fold of at least {MIN_FOLD_S:.0f} s and what comes after it",
            fix="give a larger --budget",
        )
    for choice in pending[count:]:
        LOG.warning(
            "%s fold %s is dropped: the budget is too short for it",
            choice.configuration,
            choice.fold,
        )
        append_line(
            options.workspace.events,
            {"event": "dropped", "configuration": choice.configuration, "fold": choice.fold},
        )
    return pending[:count], seconds_per_fold(available_s, count, options.num_workers)


def _keep_time(workspace: Workspace, request: str, active_s: float) -> None:
    """Write how long this request has been worked on, so that a resumed budget is honest."""
    run = RunRecord.load(workspace.run)
    run = run.revised(active_s={**run.active_s, request: active_s})
    write_text(workspace.run, run.to_json())

"""From unlabelled images to weights that a training begins with: `autoseg pretrain`."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from autoseg.dataset.dataset import Case, Dataset
from autoseg.errors import DatasetError, PlanError
from autoseg.pipeline.choices import (
    ALL,
    FoldChoice,
    TrainOptions,
    check_configuration,
    choose_folds,
)
from autoseg.pipeline.run_record import ActiveTime, load_run
from autoseg.pipeline.training import OnEvent, ShouldStop, prepare_cases
from autoseg.plan.budget import preferred_order
from autoseg.plan.consistency import load_plan
from autoseg.plan.plan import Plan
from autoseg.runtime.cases import find_cases, refuse_missing
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.lines import read_lines
from autoseg.train.origin import check_cases, check_request
from autoseg.train.records import Request
from autoseg.workspace import Workspace

DEFAULT_BUDGET_S = 600.0
MIN_BUDGET_S = 5.0
"""What is left for pretraining at least, when preparing the images has taken the budget."""
UNLABELLED = "unlabelled/"
"""How the ids of images begin that are no case of the data set."""


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """What a user may ask of a pretraining."""

    workspace: Workspace
    configuration: str | None = None
    """None: the one that suits the data best of those trained by default."""
    budget_s: float | None = None
    steps: int | None = None
    fold: str = ALL
    """Whose validation images are left out; none for "all"."""
    images: Path | None = None
    """Folder of further images."""
    command: tuple[str, ...] = ()
    """As typed, for the record."""


@dataclass(frozen=True, kw_only=True)
class PretrainOutcome:
    """What a pretraining has come to."""

    configuration: str
    fold: str
    checkpoint: Path
    """What `autoseg train --init` takes."""
    num_steps: int
    train_seconds: float
    loss: float
    """Mean squared error of the predicted noise, whose variance is 1; of the last tenth."""
    num_cases: int
    """Cases of the data set whose images were seen."""
    num_unlabelled: int
    """Images that are no case of the data set."""

    def to_dict(self) -> dict[str, object]:
        """Return what programs read."""
        return {**asdict(self), "checkpoint": str(self.checkpoint)}


def pretrain(
    options: PretrainOptions, on_event: OnEvent, should_stop: ShouldStop
) -> PretrainOutcome:
    """Learn from images alone; go on where an earlier call stopped.

    Raises
    ------
    AutosegError
        What the user can fix.
    autoseg.train.job.Interrupted
        `should_stop` answered yes; everything is saved.
    """
    workspace = options.workspace
    plan, dataset = load_plan(workspace.plan), Dataset.load(workspace.dataset)
    _refuse_second_stage(plan, options.configuration)
    choice = _choose(plan, dataset, options)
    _refuse_backbone(plan, choice.configuration)
    further = None if options.images is None else unlabelled(dataset, options.images)
    job = _job(plan, dataset, options, choice, further)
    check_request(job)
    load_run(workspace, plan, options.command)
    with ActiveTime(workspace, f"{job.name}: {job.request}") as active:
        listeners = Listeners(on_event, active.watched(should_stop))
        for part in (dataset, further):
            if part is not None:
                prepare_cases(plan, part, workspace, (job.configuration,), listeners)
        check_cases(job)
        return _train(job, active, listeners)


def unlabelled(dataset: Dataset, folder: Path) -> Dataset:
    """Return the images in a folder as a data set without labels, read like the cases.

    Raises
    ------
    DatasetError
        The folder holds no images, or some that do not make up cases of the same channels.
    """
    refuse_missing([folder])
    found, problems = find_cases([folder], dataset.channel_files, len(dataset.channels))
    if problems:
        raise DatasetError(
            found="; ".join(f"{item.case_id}: {item.message}" for item in problems),
            expected=f"images of the channels {', '.join(dataset.channels)}, named as the cases",
            fix="correct the folder given by --images",
        )
    root = folder.absolute()
    cases = tuple(
        Case(
            id=UNLABELLED + item.case_id,
            images=tuple(str(path.absolute().relative_to(root)) for path in item.paths),
            labels=(),
            group=UNLABELLED + item.case_id,
        )
        for item in found
    )
    return dataset.revised(root=root, layout="folders", cases=cases)


def _choose(plan: Plan, dataset: Dataset, options: PretrainOptions) -> FoldChoice:
    """Return the configuration and the fold to pretrain for."""
    names = None if options.configuration is None else (options.configuration,)
    wanted = TrainOptions(workspace=options.workspace, configurations=names, folds=(options.fold,))
    choices = {
        (item.configuration, item.fold): item for item in choose_folds(plan, dataset, wanted)
    }
    return choices[preferred_order(plan, tuple(choices))[0]]


def _refuse_second_stage(plan: Plan, name: str | None) -> None:
    """Refuse a network that sees more than images."""
    if name is None:
        return
    check_configuration(plan, name)
    previous = plan.configuration(name).previous_stage
    if previous is not None:
        raise PlanError(
            found=f"{name}, which sees what {previous} finds as further channels",
            expected="a configuration that sees images alone",
            fix=f"pretrain {previous}",
        )


def _refuse_backbone(plan: Plan, name: str) -> None:
    """Refuse a network whose encoder comes with weights: they would be lost."""
    backbone = plan.configuration(name).network.backbone
    if backbone is None:
        return
    raise PlanError(
        found=f"{name}, whose encoder is {backbone.model} with weights of its own",
        expected="a network that begins with random weights",
        fix="train it as it is, or plan without a pretrained encoder",
    )


def _job(
    plan: Plan,
    dataset: Dataset,
    options: PretrainOptions,
    choice: FoldChoice,
    further: Dataset | None,
) -> FoldJob:
    budget_s = None
    if options.steps is None:
        budget_s = options.budget_s or DEFAULT_BUDGET_S
    more: Sequence[Case] = () if further is None else further.cases
    return FoldJob(
        plan=plan,
        dataset=dataset,
        root=options.workspace.root,
        configuration=choice.configuration,
        fold=choice.fold,
        train_cases=(*choice.split.train, *(case.id for case in more)),
        val_cases=(),
        device=plan.device if plan.device_index is None else f"{plan.device}:{plan.device_index}",
        num_threads=plan.num_threads,
        num_steps=options.steps,
        request=Request(
            num_steps=options.steps,
            budget_s=budget_s,
            is_explicit=options.steps is not None or options.budget_s is not None,
        ),
        objective="denoising",
    )


def _train(job: FoldJob, active: ActiveTime, listeners: Listeners) -> PretrainOutcome:
    from autoseg.train.fold import train_fold

    assert job.request is not None
    if job.request.budget_s is not None:
        left_s = job.request.budget_s - active.seconds
        job = replace(job, budget_s=max(MIN_BUDGET_S, left_s))
    label = {"name": f"pretrain {job.configuration}"}
    result = train_fold(
        job, lambda event: listeners.on_progress({**event, **label}), listeners.should_stop
    )
    losses = [line["loss"] for line in read_lines(job.folder.metrics)]
    last = losses[-math.ceil(len(losses) / 10) :]
    further = sum(case_id.startswith(UNLABELLED) for case_id in job.train_cases)
    return PretrainOutcome(
        configuration=job.configuration,
        fold=job.fold,
        checkpoint=job.folder.last,
        num_steps=result.num_steps,
        train_seconds=result.train_seconds,
        loss=sum(last) / len(last),
        num_cases=len(job.train_cases) - further,
        num_unlabelled=further,
    )

"""What a training is asked to do: which folds of which configurations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.split_files import read_splits
from autoseg.dataset.splits import Split, Splits
from autoseg.errors import TrainingError, nearest
from autoseg.pipeline.sharing import trained_folds
from autoseg.pipeline.stages import held_out, never_held_out, unfinished
from autoseg.plan.plan import Plan
from autoseg.record import Record
from autoseg.workspace import Workspace, write_text

ALL = "all"
"""Name of the fold that trains on every case."""
NO_CASE = ("synthetic", "none")
"""Verification cases that are no case of the data set."""


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
    devices_per_fold: int = 1
    """Processes, each with a GPU where there are any, that train one fold together."""
    address: str | None = None
    images: bool | None = None
    """Whether the report shows pictures of cases; None: as it was last asked for."""
    verification_case: str = "synthetic"
    initial: Path | None = None
    """Model or checkpoint whose weights new folds begin with."""
    command: tuple[str, ...] = ()
    """As typed, for the report."""
    machine_file: Path | None = None
    """Keeps how fast this machine is known to be, for later plans; None: nothing is learnt."""


class ReportChoice(Record):
    """What the report shows, until somebody asks for something else: report.json."""

    schema_version: Literal[1] = 1
    images: bool
    """Pictures of cases."""


@dataclass(frozen=True)
class FoldChoice:
    """One fold of one configuration."""

    configuration: str
    fold: str
    split: Split


def choose_folds(plan: Plan, dataset: Dataset, options: TrainOptions) -> list[FoldChoice]:
    """Return the folds that are asked for, or all folds of what the plan trains by default.

    Second stages that nobody names are left out where the first is not trained on all folds, and
    will not be now.

    Raises
    ------
    TrainingError
        An unknown configuration or fold, or a second stage that is named without all of the first.
    """
    splits = read_splits(options.workspace.splits, dataset.cases)
    names = options.configurations or tuple(
        item.name for item in plan.configurations if item.train_by_default
    )
    folds = options.folds or tuple(str(index) for index in range(len(splits)))
    for name in names:
        check_configuration(plan, name)
    wanted = {fold: _split_of(fold, splits, dataset) for fold in map(_fold_name, folds)}
    choices = [
        FoldChoice(name, fold, split)
        for name in dict.fromkeys(names)
        for fold, split in wanted.items()
    ]
    problems = {
        name: problem
        for name in dict.fromkeys(names)
        if (problem := _stage_problem(plan, options.workspace, name, choices, splits)) is not None
    }
    if problems and options.configurations is not None:
        raise next(iter(problems.values()))
    return [choice for choice in choices if choice.configuration not in problems]


def _stage_problem(
    plan: Plan,
    workspace: Workspace,
    name: str,
    choices: Sequence[FoldChoice],
    splits: Splits,
) -> TrainingError | None:
    """Return why a configuration cannot follow its previous stage; None if it can, or has none."""
    previous = plan.configuration(name).previous_stage
    if previous is None:
        return None
    asked = {(choice.configuration, choice.fold) for choice in choices}
    cases = {
        case_id: None
        for choice in choices
        if choice.configuration == name
        for case_id in (*choice.split.train, *choice.split.val)
    }
    holders = held_out(splits)
    seen = [case_id for case_id in cases if case_id not in holders]
    if seen:
        return never_held_out(name, previous, seen)
    there = {*trained_folds(workspace, plan), *asked}
    missing = [
        fold for fold in sorted(set(holders.values()), key=int) if (previous, fold) not in there
    ]
    return unfinished(name, previous, missing) if missing else None


def keep_images(workspace: Workspace, *, asked: bool | None) -> bool:
    """Return whether the report shows pictures: as asked for, now or the last time.

    Who once left patients' images out of a report does not get them back by training on.
    """
    if asked is not None:
        write_text(workspace.report_choice, ReportChoice(images=asked).to_json())
        return asked
    if not workspace.report_choice.exists():
        return True
    return ReportChoice.load(workspace.report_choice).images


def check_verification_case(dataset: Dataset, choice: str) -> None:
    """Refuse a verification case that is neither a case of the data set nor a word for none."""
    names = [case.id for case in dataset.cases]
    if choice in NO_CASE or choice in names:
        return
    raise TrainingError(
        found=f"--verification-case {choice}",
        expected=f"synthetic, none, or the id of a case of {dataset.name}",
        fix=f"correct --verification-case{nearest(choice, [*NO_CASE, *names])}",
    )


def check_configuration(plan: Plan, name: str) -> None:
    """Refuse a configuration that is not in the plan."""
    known = [item.name for item in plan.configurations]
    if name not in known:
        raise TrainingError(
            found=f"configuration {name!r}",
            expected=f"one of the planned configurations: {', '.join(known)}",
            fix="correct the name of the configuration",
        )


def _fold_name(fold: str) -> str:
    """Return a fold's name as we write it: "00" is "0"."""
    return str(int(fold)) if fold.isdecimal() else fold


def _split_of(fold: str, splits: Sequence[Split], dataset: Dataset) -> Split:
    """Return the training and validation cases of a fold."""
    if fold == ALL:
        return Split(train=tuple(case.id for case in dataset.training_cases), val=())
    if not fold.isdecimal() or int(fold) >= len(splits):
        raise TrainingError(
            found=f"fold {fold!r}",
            expected=f"folds are 0 to {len(splits) - 1}, or all",
            fix="correct --folds; the number of folds is set by `autoseg plan --folds`",
        )
    return splits[int(fold)]

"""What a training is asked to do: which folds of which configurations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.split_files import read_splits
from autoseg.dataset.splits import Split
from autoseg.errors import TrainingError, nearest
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
    """Return the folds that are asked for, or all folds of what the plan trains by default."""
    splits = read_splits(options.workspace.splits, dataset.cases)
    names = options.configurations or tuple(
        item.name for item in plan.configurations if item.train_by_default
    )
    folds = options.folds or tuple(str(index) for index in range(len(splits)))
    for name in names:
        check_configuration(plan, name)
    wanted = {fold: _split_of(fold, splits, dataset) for fold in map(_fold_name, folds)}
    return [
        FoldChoice(name, fold, split)
        for name in dict.fromkeys(names)
        for fold, split in wanted.items()
    ]


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
    """Refuse a configuration that is not in the plan, or that cannot be trained."""
    known = [item.name for item in plan.configurations]
    if name not in known:
        raise TrainingError(
            found=f"configuration {name!r}",
            expected=f"one of the planned configurations: {', '.join(known)}",
            fix="correct the name of the configuration",
        )
    if plan.configuration(name).previous_stage is not None:
        raise TrainingError(
            found=f"configuration {name!r}, which continues from another one's predictions",
            expected="a configuration that trains on images alone; cascades cannot be trained yet",
            fix="train 3d_fullres or 3d_lowres",
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

"""What a training is asked to do: which folds of which configurations."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.splits import Split, read_splits
from autoseg.errors import TrainingError
from autoseg.plan.plan import Plan
from autoseg.workspace import Workspace

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


def check_verification_case(dataset: Dataset, choice: str) -> None:
    """Refuse a verification case that is neither a case of the data set nor a word for none."""
    names = [case.id for case in dataset.cases]
    if choice in NO_CASE or choice in names:
        return
    near = difflib.get_close_matches(choice, [*NO_CASE, *names], n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise TrainingError(
        found=f"--verification-case {choice}",
        expected=f"synthetic, none, or the id of a case of {dataset.name}",
        fix=f"{hint}Correct --verification-case",
    )


def check_configuration(plan: Plan, name: str) -> None:
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


def _fold_name(fold: str) -> str:
    """Return a fold's name as we write it: "00" is "0"."""
    return str(int(fold)) if fold.isdecimal() else fold


def _split_of(fold: str, splits: Sequence[Split], dataset: Dataset) -> Split:
    """Return the training and validation cases of a fold."""
    if fold == ALL:
        return Split(train=tuple(case.id for case in dataset.cases), val=())
    if not fold.isdecimal() or int(fold) >= len(splits):
        raise TrainingError(
            found=f"fold {fold!r}",
            expected=f"folds are 0 to {len(splits) - 1}, or all",
            fix="correct --folds; the number of folds is set by `autoseg plan --folds`",
        )
    return splits[int(fold)]

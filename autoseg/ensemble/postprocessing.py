"""Whether to keep only the largest component: decided on out-of-fold predictions.

The rule is nnU-Net's: first all foreground together, kept if the mean Dice rises and no class
drops; then class by class, kept if the class' Dice rises. What the rules gain on the cases that
decided is too hopeful, so the gain is also given cross-fitted: each case after the rules that the
others chose.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.annotated import without_unknown
from autoseg.dataset.case import read_classes
from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.label_values import to_classes
from autoseg.ensemble.choose import Ensemble
from autoseg.ensemble.largest import Counts, Rules, count_case, stack_counts
from autoseg.ensemble.predictions import find_predictions
from autoseg.errors import WorkspaceError
from autoseg.evaluate.statistics import defined_mean, number_or_none
from autoseg.plan.plan import Plan
from autoseg.record import Record, autoseg_version
from autoseg.runtime.images import read_labels
from autoseg.runtime.recipe import KeepLargest
from autoseg.seeds import stream
from autoseg.train.records import FoldResult
from autoseg.workspace import FoldFolder, Workspace

MIN_CASES = 2
"""Fewer cases decide nothing."""
MIN_GAIN = 1e-9
"""A smaller rise of the Dice is rounding."""


class Trial(Record):
    """One rule that was tried, given the rules kept before it."""

    rule: str
    """ "foreground", or the name of a class."""
    before: float | None
    """Mean Dice of all foreground classes, or of the class."""
    after: float | None
    kept: bool


class PostprocessingChoice(Record):
    """The rules that were kept, and what they gain: postprocessing.json."""

    schema_version: Literal[1] = 1
    autoseg_version: str
    plan_digest: str
    configuration: str
    steps: tuple[KeepLargest, ...]
    num_cases: int
    trials: tuple[Trial, ...]
    dice: float | None
    """Mean out-of-fold Dice of the foreground classes without the steps."""
    dice_in_sample: float | None
    """With the steps, on the cases that decided."""
    dice_cross_fitted: float | None
    """Each case with the steps that the other groups of cases chose."""
    cross_fitting: Literal["folds", "halves", "none"]
    """The groups: folds; with a single fold its cases (patients) in two halves."""
    class_dice: tuple[float | None, ...]
    class_dice_in_sample: tuple[float | None, ...]
    class_dice_cross_fitted: tuple[float | None, ...]
    reason: str

    @property
    def gain_cross_fitted(self) -> float | None:
        """Dice gained on cases that did not decide."""
        return _difference(self.dice_cross_fitted, self.dice)


def choose_postprocessing(
    plan: Plan, dataset: Dataset, workspace: Workspace, ensemble: Ensemble
) -> PostprocessingChoice:
    """Return the keep-largest rules that raise the out-of-fold Dice of the ensemble's folds.

    Raises
    ------
    WorkspaceError
        The prediction of a validation case is missing.
    """
    member = ensemble.members[0]
    evidence = _gather(plan, dataset, workspace, member.configuration, member.folds)
    if evidence is None:
        return _undecided(plan, member.configuration)
    counts, num_classes = evidence.counts, len(plan.labels.names) - 1
    rules, trials = decide(counts, plan.labels.names[1:])
    nothing = Rules(foreground=False, classes=(False,) * num_classes)
    groups, cross_fitting = _groups(evidence, plan.seed)
    tables = (counts.dice(nothing), counts.dice(rules), cross_fit(counts, groups))
    by_class = [[number_or_none(value) for value in defined_mean(table)] for table in tables]
    overall = [number_or_none(defined_mean(defined_mean(table))) for table in tables]
    return PostprocessingChoice(
        autoseg_version=autoseg_version(),
        plan_digest=plan.digest(),
        configuration=member.configuration,
        steps=to_steps(rules),
        num_cases=len(evidence.folds),
        trials=trials,
        dice=overall[0],
        dice_in_sample=overall[1],
        dice_cross_fitted=overall[2],
        cross_fitting=cross_fitting,
        class_dice=tuple(by_class[0]),
        class_dice_in_sample=tuple(by_class[1]),
        class_dice_cross_fitted=tuple(by_class[2]),
        reason=_reason(trials),
    )


def decide(
    counts: Counts, names: Sequence[str], cases: NDArray[np.bool_] | None = None
) -> tuple[Rules, tuple[Trial, ...]]:
    """Return the rules that nnU-Net's procedure keeps on some of the cases, and what it tried."""
    nothing = Rules(foreground=False, classes=(False,) * len(names))
    foreground = Rules(foreground=True, classes=nothing.classes)
    before, after = (defined_mean(counts.dice(rules, cases)) for rules in (nothing, foreground))
    means = number_or_none(defined_mean(before)), number_or_none(defined_mean(after))
    is_better = _rises(*means) and not (after < before - MIN_GAIN).any()
    trials = [Trial(rule="foreground", before=means[0], after=means[1], kept=is_better)]
    start = foreground if is_better else nothing
    every = Rules(foreground=start.foreground, classes=(True,) * len(names))
    before, after = (defined_mean(counts.dice(rules, cases)) for rules in (start, every))
    for name, *pair in zip(names, before, after, strict=True):
        old, new = (number_or_none(value) for value in pair)
        trials.append(Trial(rule=name, before=old, after=new, kept=_rises(old, new)))
    kept = tuple(trial.kept for trial in trials[1:])
    return Rules(foreground=start.foreground, classes=kept), tuple(trials)


def cross_fit(counts: Counts, groups: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return (N, K) Dice where each group of cases gets the rules that the other groups chose.

    NaN with a single group.
    """
    names = [str(index) for index in range(counts.reference.shape[1])]
    table = np.full(counts.reference.shape, np.nan)
    for group in np.unique(groups) if len(np.unique(groups)) > 1 else ():
        rules, _ = decide(counts, names, groups != group)
        table[groups == group] = counts.dice(rules, groups == group)
    return table


@dataclass(frozen=True)
class _Evidence:
    """Counts of the out-of-fold cases, and where each comes from."""

    counts: Counts
    folds: tuple[str, ...]
    patients: tuple[str, ...]


def _gather(
    plan: Plan, dataset: Dataset, workspace: Workspace, configuration: str, folds: Sequence[str]
) -> _Evidence | None:
    """Return the counts of all validation cases; None where there are too few to decide."""
    cases = {case.id: case for case in dataset.cases}
    found, origins, patients = [], [], []
    for fold in folds:
        folder = workspace.fold(configuration, fold)
        predictions = find_predictions(folder)
        for score in FoldResult.load(folder.result).scores:
            case = cases[score.case_id]
            prediction = predictions.get(case.id)
            if prediction is None:
                raise _missing(case.id, folder)
            found.append(_count(plan, dataset, case, prediction))
            origins.append(fold)
            patients.append(case.group)
    if len(found) < MIN_CASES:
        return None
    return _Evidence(stack_counts(found), tuple(origins), tuple(patients))


def _count(plan: Plan, dataset: Dataset, case: Case, prediction: Path) -> Counts:
    """Return the counts of one case, whose found classes are in a file."""
    found = to_classes(read_labels(prediction).array[0], plan.labels)
    return count_case(
        without_unknown(found, case, plan.labels, fill=0),
        read_classes(dataset, case),
        len(plan.labels.names),
    )


def _missing(case_id: str, folder: FoldFolder) -> WorkspaceError:
    return WorkspaceError(
        found=f"no prediction of case {case_id} in {folder.validation}",
        expected="one label map of each validation case",
        fix=f"delete {folder.result} and run `autoseg train` again",
    )


def _groups(
    evidence: _Evidence, seed: int
) -> tuple[NDArray[np.integer], Literal["folds", "halves", "none"]]:
    """Return the group of each case for cross-fitting; patients are never divided."""
    if len(set(evidence.folds)) > 1:
        return np.unique(evidence.folds, return_inverse=True)[1], "folds"
    patients = sorted(set(evidence.patients))
    if len(patients) < 2:
        return np.zeros(len(evidence.patients), int), "none"
    order = stream(seed, "postprocessing", "halves").permutation(len(patients))
    half = {patients[index]: place % 2 for place, index in enumerate(order)}
    return np.array([half[patient] for patient in evidence.patients]), "halves"


def to_steps(rules: Rules) -> tuple[KeepLargest, ...]:
    """Return the rules as the steps that prediction applies."""
    everything = tuple(range(1, len(rules.classes) + 1))
    steps = [KeepLargest(classes=everything)] if rules.foreground else []
    steps += [
        KeepLargest(classes=(index,)) for index, kept in enumerate(rules.classes, start=1) if kept
    ]
    return tuple(steps)


def _undecided(plan: Plan, configuration: str) -> PostprocessingChoice:
    """Return the choice of no step, because too few cases could decide."""
    unknown = (None,) * (len(plan.labels.names) - 1)
    return PostprocessingChoice(
        autoseg_version=autoseg_version(),
        plan_digest=plan.digest(),
        configuration=configuration,
        steps=(),
        num_cases=0,
        trials=(),
        dice=None,
        dice_in_sample=None,
        dice_cross_fitted=None,
        cross_fitting="none",
        class_dice=unknown,
        class_dice_in_sample=unknown,
        class_dice_cross_fitted=unknown,
        reason=f"Fewer than {MIN_CASES} out-of-fold cases: nothing was decided.",
    )


def _reason(trials: Sequence[Trial]) -> str:
    kept = [
        "all foreground together" if index == 0 else trial.rule
        for index, trial in enumerate(trials)
        if trial.kept
    ]
    if not kept:
        return "No rule raises the out-of-fold Dice: predictions stay as they are."
    return f"Keeping only the largest component raises the out-of-fold Dice of {', '.join(kept)}."


def _rises(before: float | None, after: float | None) -> bool:
    return before is not None and after is not None and after > before + MIN_GAIN


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before

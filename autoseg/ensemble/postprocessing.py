"""Whether to keep only the largest component: decided on out-of-fold predictions.

The rule is nnU-Net's: first all foreground together, kept if the mean Dice rises and no class
drops; then class by class, kept if the class' Dice rises. What the rules gain on the cases that
decided is too hopeful, so the gain is also given cross-fitted: each case after the rules that the
others chose.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.ensemble.choose import Ensemble
from autoseg.ensemble.evidence import gather_evidence
from autoseg.ensemble.largest import Counts, Rules, count_ways
from autoseg.ensemble.offsets import Offsets
from autoseg.ensemble.small import choose_sizes
from autoseg.ensemble.stored import Source
from autoseg.ensemble.tried import MIN_CASES, Grouping, Tried, group_cases, held_out, mean_dice
from autoseg.evaluate.statistics import defined_mean, number_or_none
from autoseg.plan.plan import Plan
from autoseg.record import Record, autoseg_version
from autoseg.runtime.recipe import KeepLargest, SmallestObject

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
    cross_fitting: Grouping
    """The groups: folds; with a single fold its cases (patients) in two halves."""
    class_dice: tuple[float | None, ...]
    class_dice_in_sample: tuple[float | None, ...]
    class_dice_cross_fitted: tuple[float | None, ...]
    reason: str
    offsets: tuple[float, ...] = ()
    """Added to each class' log-probability before classes are decided; empty for none."""
    smallest: tuple[SmallestObject, ...] = ()
    """Smaller objects are removed, after `steps`."""
    tried: tuple[Tried, ...] = ()
    """Thresholds and smallest objects; empty where they were not searched."""

    @property
    def gain_cross_fitted(self) -> float | None:
        """Dice gained on cases that did not decide."""
        return _difference(self.dice_cross_fitted, self.dice)


def choose_postprocessing(
    source: Source, ensemble: Ensemble, offsets: Offsets = (), tried: tuple[Tried, ...] = ()
) -> PostprocessingChoice:
    """Return what raises the out-of-fold Dice of the ensemble's folds when objects are removed.

    Parameters
    ----------
    offsets, tried
        What was chosen before (see `choose_offsets`): it is kept, and objects are those it gives.

    Raises
    ------
    WorkspaceError
        The prediction of a validation case is missing.
    """
    plan, members = source.plan, ensemble.members
    name = " + ".join(member.configuration for member in members)
    evidence = gather_evidence(source, members, offsets)
    if evidence is None:
        return _undecided(plan, name).revised(offsets=offsets, tried=tried)
    counts, names = count_ways(evidence.objects), plan.labels.names[1:]
    rules, trials = decide(counts, names)
    groups, cross_fitting = group_cases(evidence.folds, evidence.patients, plan.seed)
    smallest, sizes = choose_sizes(
        evidence.objects,
        rules,
        groups=groups,
        patients=evidence.patients,
        names=names,
        unit=_size_unit(plan),
    )
    return PostprocessingChoice(
        autoseg_version=autoseg_version(),
        plan_digest=plan.digest(),
        configuration=name,
        steps=to_steps(rules),
        num_cases=len(evidence.folds),
        trials=trials,
        **_dice_by_rules(counts, rules, groups),
        cross_fitting=cross_fitting,
        reason=_reason(trials),
        offsets=offsets,
        smallest=smallest,
        tried=(*tried, sizes),
    )


def _dice_by_rules(counts: Counts, rules: Rules, groups: NDArray[np.integer]) -> dict[str, Any]:
    """Return the Dice of all classes and of each: without the rules, with them, cross-fitted."""
    nothing = Rules(foreground=False, classes=(False,) * len(rules.classes))
    tables = {
        "dice": counts.dice(nothing),
        "dice_in_sample": counts.dice(rules),
        "dice_cross_fitted": cross_fit(counts, groups),
    }
    found: dict[str, Any] = {name: mean_dice(table) for name, table in tables.items()}
    for name, table in tables.items():
        found[f"class_{name}"] = tuple(number_or_none(value) for value in defined_mean(table))
    return found


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
    for choose, judged in held_out(groups):
        rules, _ = decide(counts, names, choose)
        table[judged] = counts.dice(rules, judged)
    return table


def _size_unit(plan: Plan) -> str:
    """Return the unit of sizes: of areas or volumes."""
    dimensions = len(plan.configurations[0].recipe.transpose)
    return plan.unit if dimensions == 1 else f"{plan.unit}{dimensions}"


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

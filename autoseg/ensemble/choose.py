"""Which trained folds make the model: chosen on out-of-fold predictions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from autoseg.ensemble.tried import Tried
from autoseg.errors import TrainingError
from autoseg.evaluate.scores import CaseScore
from autoseg.evaluate.statistics import foreground_mean
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.record import Record, autoseg_version
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace

ALL = "all"
"""Name of the fold that trained on every case and validated on none."""


class Member(Record):
    """A configuration of the ensemble."""

    configuration: str
    folds: tuple[str, ...]
    """Averaged with equal weights."""
    weight: float
    """Share of its probabilities; the weights of all members sum to 1."""
    overlap: float | None = None
    """Of its tiles; None: as planned."""
    test_time_mirroring: bool | None = None
    """Whether predictions of mirrored tiles are averaged; None: as planned."""

    def predicting(self, plan: Plan) -> ConfigurationPlan:
        """Return the plan of its configuration with the tiles and the mirroring that it uses."""
        planned = plan.configuration(self.configuration)
        recipe = planned.recipe
        if self.overlap is not None:
            recipe = replace(recipe, overlap=self.overlap)
        if self.test_time_mirroring is not None:
            recipe = replace(recipe, test_time_mirroring=self.test_time_mirroring)
        return planned.revised(recipe=recipe)


class Candidate(Record):
    """What is known about one trained configuration."""

    configuration: str
    folds: tuple[str, ...]
    num_cases: int
    """Cases predicted by a fold that had not seen them."""
    dice: float | None
    """Mean out-of-fold Dice of the foreground classes; None without such cases."""


class Ensemble(Record):
    """The folds that make the model, and why: ensemble.json."""

    schema_version: Literal[1] = 1
    autoseg_version: str
    plan_digest: str
    members: tuple[Member, ...]
    candidates: tuple[Candidate, ...]
    """Every trained configuration, in the plan's order."""
    reason: str
    tried: tuple[Tried, ...] = ()
    """Weights of several configurations, where there are some, then mirroring and tiles; empty
    where nothing was searched."""


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """A trained configuration with the scores of cases that it had not seen."""

    candidate: Candidate
    scores: dict[str, CaseScore]
    """By case."""
    unused: tuple[str, ...]
    """Folds that are trained but not in the model."""


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """A configuration and the one with most folds, on the cases that both predicted."""

    trained: _Trained
    num_cases: int
    dice: float | None
    """Of the configuration; None where nothing can be compared."""
    widest_dice: float | None

    @property
    def gain(self) -> float:
        """Dice gained over the one with most folds."""
        if self.dice is None or self.widest_dice is None:
            return -math.inf
        return self.dice - self.widest_dice


def choose_ensemble(plan: Plan, workspace: Workspace, results: Sequence[FoldResult]) -> Ensemble:
    """Return the configuration with the best mean out-of-fold Dice, its folds averaged.

    Configurations are compared on the cases that both predicted: those of one fold may be easier
    than those of another. Without such cases the one with more folds is taken.

    Raises
    ------
    TrainingError
        Nothing is trained.
    """
    trained = _find_trained(plan, results)
    if not trained:
        raise TrainingError(
            found=f"no trained fold of this plan in {workspace.root}",
            expected="the result of at least one fold",
            fix="run `autoseg train` first",
        )
    widest = max(trained, key=_width)
    comparisons = [_compare(item, widest) for item in trained]
    best = widest
    if widest.candidate.dice is not None:
        best = max(comparisons, key=lambda item: item.gain).trained
    chosen = best.candidate
    return Ensemble(
        autoseg_version=autoseg_version(),
        plan_digest=plan.digest(),
        members=(Member(configuration=chosen.configuration, folds=chosen.folds, weight=1.0),),
        candidates=tuple(item.candidate for item in trained),
        reason=" ".join(_reasons(plan, best, widest, comparisons)),
    )


def _find_trained(plan: Plan, results: Sequence[FoldResult]) -> list[_Trained]:
    """Return the trained configurations in the plan's order."""
    found = []
    for configuration in plan.configurations:
        own = [item for item in results if item.configuration == configuration.name]
        # A fold "all" has no honest score; it counts where there is nothing else.
        used = [item for item in own if item.fold != ALL] or own
        if used:
            scores = [score for item in used for score in item.scores]
            candidate = Candidate(
                configuration=configuration.name,
                folds=tuple(sorted((item.fold for item in used), key=_fold_order)),
                num_cases=len(scores),
                dice=foreground_mean(scores) if scores else None,
            )
            by_case = {score.case_id: score for score in scores}
            unused = tuple(item.fold for item in own if item not in used)
            found.append(_Trained(candidate=candidate, scores=by_case, unused=unused))
    return found


def _fold_order(fold: str) -> tuple[bool, int]:
    return (fold == ALL, 0 if fold == ALL else int(fold))


def _width(trained: _Trained) -> tuple[bool, int, float]:
    """Order by how much is known: a score at all, the number of folds, then the Dice itself."""
    dice = trained.candidate.dice
    return (dice is not None, len(trained.candidate.folds), dice or 0.0)


def _compare(trained: _Trained, widest: _Trained) -> _Comparison:
    common = [case for case in widest.scores if case in trained.scores]
    dices = [
        foreground_mean([item.scores[case] for case in common]) if common else None
        for item in (trained, widest)
    ]
    return _Comparison(trained=trained, num_cases=len(common), dice=dices[0], widest_dice=dices[1])


def _reasons(
    plan: Plan, best: _Trained, widest: _Trained, comparisons: Sequence[_Comparison]
) -> list[str]:
    """Return sentences that say why the best configuration was chosen."""
    name, folds = best.candidate.configuration, best.candidate.folds
    if folds == (ALL,):
        return [f"{name} is trained on all cases: no case is left to score it."]
    basis = f"fold{'s' * (len(folds) > 1)} {', '.join(folds)} of {plan.num_folds}"
    dice = best.candidate.dice
    basis += f", {best.candidate.num_cases} cases; "
    basis += "no case counts" if dice is None else f"mean out-of-fold Dice {dice:.4f}"
    if len(comparisons) == 1:
        reasons = [f"{name} is the only trained configuration ({basis})."]
    else:
        reasons = [f"{name} is chosen ({basis})."]
        others = [item for item in comparisons if item.trained is not widest]
        reasons += [_describe(item, widest) for item in others]
    reasons += [
        f"Fold {fold} of {item.trained.candidate.configuration} is not used: it has seen every "
        "case, so nothing tells how good it is."
        for item in comparisons
        for fold in item.trained.unused
    ]
    return reasons


def _describe(item: _Comparison, widest: _Trained) -> str:
    """Return one sentence: how a configuration compares with the one with most folds."""
    candidate, other = item.trained.candidate, widest.candidate
    if candidate.dice is None:
        return f"{candidate.configuration} has no score."
    if item.dice is None or item.widest_dice is None:
        is_wider = len(other.folds) > len(candidate.folds)
        merit = "has more folds" if is_wider else "has as many folds and the higher Dice"
        return (
            f"{candidate.configuration} (Dice {candidate.dice:.4f}) has no case in common with "
            f"{other.configuration}, which {merit}."
        )
    cases = f"{item.num_cases} case{'s' * (item.num_cases > 1)} in common"
    return (
        f"On the {cases} {candidate.configuration} has {item.dice:.4f}, {other.configuration} "
        f"{item.widest_dice:.4f}."
    )

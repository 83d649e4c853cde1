"""Which trained folds make the model: chosen on out-of-fold predictions."""

from collections.abc import Sequence
from typing import Literal

from autoseg.errors import TrainingError
from autoseg.evaluate.statistics import foreground_mean
from autoseg.plan.plan import Plan
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


def choose_ensemble(plan: Plan, workspace: Workspace, results: Sequence[FoldResult]) -> Ensemble:
    """Return the configuration with the best mean out-of-fold Dice, its folds averaged.

    Raises
    ------
    TrainingError
        Nothing is trained.
    """
    candidates = _candidates(plan, results)
    if not candidates:
        raise TrainingError(
            found=f"no trained fold of this plan in {workspace.root}",
            expected="the result of at least one fold",
            fix="run `autoseg train` first",
        )
    best = max(candidates, key=lambda item: -1.0 if item.dice is None else item.dice)
    return Ensemble(
        autoseg_version=autoseg_version(),
        plan_digest=plan.digest(),
        members=(Member(configuration=best.configuration, folds=best.folds, weight=1.0),),
        candidates=tuple(candidates),
        reason=_reason(plan, best, candidates),
    )


def _candidates(plan: Plan, results: Sequence[FoldResult]) -> list[Candidate]:
    """Return the trained configurations in the plan's order."""
    found = []
    for configuration in plan.configurations:
        own = [item for item in results if item.configuration == configuration.name]
        # A fold "all" has no honest score; it counts where there is nothing else.
        own = [item for item in own if item.fold != ALL] or own
        if own:
            scores = [score for item in own for score in item.scores]
            found.append(
                Candidate(
                    configuration=configuration.name,
                    folds=tuple(sorted((item.fold for item in own), key=_fold_order)),
                    num_cases=len(scores),
                    dice=foreground_mean(scores) if scores else None,
                )
            )
    return found


def _fold_order(fold: str) -> tuple[bool, int]:
    return (fold == ALL, 0 if fold == ALL else int(fold))


def _reason(plan: Plan, best: Candidate, candidates: Sequence[Candidate]) -> str:
    others = [item for item in candidates if item is not best]
    if best.folds == (ALL,):
        return f"{best.configuration} is trained on all cases: no case is left to score it."
    folds = "fold" if len(best.folds) == 1 else "folds"
    basis = f"{folds} {', '.join(best.folds)} of {plan.num_folds}, {best.num_cases} cases"
    dice = "no case counts" if best.dice is None else f"mean out-of-fold Dice {best.dice:.4f}"
    if not others:
        return f"{best.configuration} is the only trained configuration ({basis}; {dice})."
    beaten = ", ".join(
        f"{item.configuration} " + ("without a score" if item.dice is None else f"{item.dice:.4f}")
        for item in others
    )
    reason = f"{best.configuration} has the best result ({basis}; {dice}; {beaten})."
    if any(item.folds != best.folds for item in others):
        reason += " The configurations are not trained on the same folds, so cases differ."
    return reason

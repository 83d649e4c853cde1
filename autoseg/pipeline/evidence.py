"""A finished run as an input to planning: `autoseg plan --after WORKSPACE`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from autoseg.errors import PlanError, WorkspaceError
from autoseg.evaluate.scores import CaseScore
from autoseg.plan.after import ConfigurationEvidence, Ended, RunEvidence
from autoseg.plan.consistency import load_plan
from autoseg.plan.plan import ConfigurationPlan
from autoseg.train.lines import read_lines
from autoseg.train.records import FoldResult
from autoseg.workspace import FoldFolder, Workspace

HALF = 0.51
"""Part of the steps until which a look belongs to the first half: looks are at eighths, about."""


def read_evidence(root: Path, labels: Sequence[str]) -> RunEvidence:
    """Return what the finished folds of a workspace recorded.

    Parameters
    ----------
    root
        Of the workspace.
    labels
        Names of the classes that are to be planned for; a run on others says nothing about them.

    Raises
    ------
    PlanError
        No fold of it is finished, or it was trained to tell other classes apart.
    AutosegError
        It is no workspace, or one of another version.
    """
    workspace = Workspace(root)
    plan = load_plan(workspace.plan)
    if tuple(plan.labels.names) != tuple(labels):
        raise PlanError(
            found=f"--after {root}: classes {', '.join(plan.labels.names)}",
            expected=f"a run with the classes of this data set: {', '.join(labels)}",
            fix="name a workspace of the same task, or leave out --after",
        )
    found = [_configuration(workspace, item) for item in plan.configurations]
    known = tuple(item for item in found if item is not None)
    if not known:
        raise PlanError(
            found=f"--after {root}: no fold of it is finished",
            expected="a workspace whose training has finished a fold at least",
            fix=f"run `autoseg train -w {root}` first, or leave out --after",
        )
    finished = {(item.name, fold) for item in known for fold in item.folds}
    dropped = _dropped(workspace) - finished
    trained = [item.name for item in plan.configurations if item.train_by_default]
    wanted = {(name, str(fold)) for name in trained for fold in range(plan.num_folds)}
    if wanted - finished - dropped:
        known = tuple(_of_choice(item) for item in known)
    return RunEvidence(num_dropped=len(dropped), configurations=known)


def _of_choice(item: ConfigurationEvidence) -> ConfigurationEvidence:
    """Return the evidence of a run of which some folds alone were asked for."""
    return item if item.ended_by == "steps" else item.revised(ended_by="choice")


def _dropped(workspace: Workspace) -> set[tuple[str, str]]:
    """Return the folds that a run said it had no time for, trained later or not."""
    return {
        (str(line["configuration"]), str(line["fold"]))
        for line in read_lines(workspace.events)
        if line.get("event") == "dropped"
    }


def _ended_by(results: Sequence[FoldResult]) -> Ended:
    """Return why a run was not longer."""
    asked = [item.request for item in results if item.request is not None]
    if any(request.num_steps is not None and request.is_explicit for request in asked):
        return "steps"
    is_flat = all(item.ends and item.ends[-1].is_plateau for item in results)
    return "plateau" if is_flat else "budget"


def _configuration(workspace: Workspace, item: ConfigurationPlan) -> ConfigurationEvidence | None:
    """Return what the folds of a configuration recorded, None where none is finished."""
    folders = sorted((workspace.training / item.name).glob("fold_*/result.json"))
    results = [FoldResult.load(path) for path in folders]
    if not results:
        return None
    budgets = [b for item in results if item.request and (b := item.request.budget_s)]
    gains = [_late_gain(FoldFolder(path.parent)) for path in folders]
    return ConfigurationEvidence(
        name=item.name,
        width=item.network.stages[0].features,
        weight_decay=item.training.weight_decay,
        folds=tuple(result.fold for result in results),
        train_dice=_mean(value for result in results for value in result.train_dice),
        validation_dice=_mean(_dice(result.scores) for result in results),
        late_gain=_mean(gains),
        ended_by=_ended_by(results),
        budget_s=max(budgets, default=None),
    )


def _dice(scores: Sequence[CaseScore]) -> float | None:
    """Return the mean over cases, then over classes."""
    by_class = zip(*([entry.dice for entry in score.classes] for score in scores), strict=True)
    return _mean(_mean(values) for values in by_class)


def _late_gain(folder: FoldFolder) -> float | None:
    """Return by how much the quick looks at validation cases rose in the second half of a run."""
    lines = read_lines(folder.metrics)  # a kill may have cut the last one short
    if not lines and folder.metrics.exists():
        raise WorkspaceError(
            found=f"{folder.metrics} cannot be read: it holds no line of JSON",
            expected="the lines that training wrote",
            fix="restore the file, or leave out --after",
        )
    looks = [(line["step"] / line["num_steps"], line["dice"]) for line in lines if "dice" in line]
    early = [dice for part, dice in looks if part <= HALF]
    return looks[-1][1] - early[-1] if early and looks[-1][0] > HALF else None


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None

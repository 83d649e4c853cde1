"""What happens to earlier training when a workspace is planned again."""

from pathlib import Path
from uuid import uuid4

from autoseg.errors import AutosegError, WorkspaceError
from autoseg.plan.plan import Plan
from autoseg.workspace import Workspace


def settle(
    workspace: Workspace, plan: Plan, splits: str, *, replan: bool
) -> tuple[Plan, Path | None]:
    """Return the plan that holds from now on, and where superseded training was moved.

    An earlier plan that decides the same holds on: only its expected costs, which depend on how
    fast the machine was just then, may differ. With `replan` its training is moved all the same.

    Parameters
    ----------
    splits
        The folds, as written to the workspace.

    Raises
    ------
    WorkspaceError
        Folds were trained with another plan or other splits, and `replan` is not given.
    """
    if not workspace.plan.exists():
        return plan, None
    earlier = _load(workspace.plan)
    same = earlier is not None and _decisions(earlier) == _decisions(plan)
    if earlier is not None and same and _has(workspace, splits) and not replan:
        return earlier, None
    if not workspace.training.exists():
        return plan, None
    if not replan:
        name = f"by planner {earlier.planner}" if earlier else "of another version"
        raise WorkspaceError(
            found=f"{workspace.training} holds folds trained with a different plan ({name})",
            expected="a workspace without training, or the same plan again",
            fix="add --replan to move that training to superseded/, or choose another -w",
        )
    return plan, _move_aside(workspace, earlier)


def _load(path: Path) -> Plan | None:
    """Return the plan in a file; None when this version cannot read it."""
    try:
        return Plan.load(path)
    except AutosegError:
        return None


def _has(workspace: Workspace, splits: str) -> bool:
    """Return whether the workspace holds these folds."""
    return workspace.splits.exists() and workspace.splits.read_text(encoding="utf-8") == splits


def _decisions(plan: Plan) -> dict:
    """Return what a plan decides, without expected costs and the reasons' numbers."""
    content = plan.model_dump(mode="json", exclude={"decisions"})
    for configuration in content["configurations"]:
        del configuration["cost"]
    return content


def _move_aside(workspace: Workspace, earlier: Plan | None) -> Path:
    """Move everything that the earlier plan led to into a folder of its own."""
    digest = earlier.digest()[:12] if earlier else "unreadable"
    place = workspace.superseded / f"{digest}-{uuid4().hex[:4]}"
    place.mkdir(parents=True)
    for path in (
        workspace.training,
        workspace.plan,
        workspace.splits,
        workspace.run,
        workspace.events,
        workspace.ensemble,
        workspace.postprocessing,
        workspace.model,
        workspace.model_zip,
        workspace.exported_from,
        workspace.report,
    ):
        if path.exists():
            path.rename(place / path.name)
    return place

"""What happens to earlier training when a workspace is planned again."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from autoseg.errors import AutosegError, WorkspaceError
from autoseg.plan.plan import Plan
from autoseg.workspace import Workspace

MAX_DIFFERENCES = 10
"""Lines of a message that say how plans differ."""
MAX_LENGTH = 60
"""Characters of a value in such a line."""


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
    trained = [path for path in (workspace.training, workspace.pretraining) if path.exists()]
    if not trained:
        return plan, None
    if not replan:
        lines = ["it is of another version"] if earlier is None else differences(earlier, plan)
        if not _has(workspace, splits):
            lines.append("splits: other folds")
        more = [f"... and {len(lines) - MAX_DIFFERENCES} more"] * (len(lines) > MAX_DIFFERENCES)
        shown = "\n".join([*lines[:MAX_DIFFERENCES], *more])
        raise WorkspaceError(
            found=f"{trained[0]} holds weights of a different plan:\n{shown}",
            expected="a workspace without training, or the same plan again",
            fix="add --replan to move that training to superseded/, or choose another -w",
        )
    return plan, _move_aside(workspace, earlier)


def differences(earlier: Plan, plan: Plan) -> list[str]:
    """Return what two plans decide differently, one line a decision: key, old and new value."""
    old, new = (by_key(item) for item in (earlier, plan))
    return [
        f"{key}: {_short(old.get(key))} -> {_short(new.get(key))}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def by_key(plan: Plan) -> dict[str, str]:
    """Return everything that a plan decides as JSON, by the keys that `--set` takes."""
    content = _decisions(plan)
    content |= {item["name"]: item for item in content.pop("configurations")}
    return dict(_flat(content, ""))


def _flat(content: object, key: str) -> Iterator[tuple[str, str]]:
    """Yield keys and values of nested content; lists of plain values are values."""
    if isinstance(content, list) and content and isinstance(content[0], dict):
        content = dict(enumerate(content))
    if not isinstance(content, dict):
        yield key, json.dumps(content, ensure_ascii=False)
        return
    for name, value in content.items():
        yield from _flat(value, f"{key}.{name}".lstrip("."))


def _short(text: str | None) -> str:
    """Return a value for a message; "nothing" where a plan has none."""
    if text is None:
        return "nothing"
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 3]}..."


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
    """Move everything that the earlier plan led to into a folder of its own.

    The plan and its folds are copied: whatever happens before new ones are written over them, a
    workspace has a plan.
    """
    digest = earlier.digest()[:12] if earlier else "unreadable"
    place = workspace.superseded / f"{digest}-{uuid4().hex[:4]}"
    place.mkdir(parents=True)
    for path in (workspace.plan, workspace.splits):
        if path.exists():
            shutil.copyfile(path, place / path.name)
    for path in (
        workspace.training,
        workspace.pretraining,
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

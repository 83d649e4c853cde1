"""Planners and searchers by name, each a function in an entry-point group.

Planners are functions `PlanRequest -> Plan` in the group `autoseg.planners`; a searcher opens
studies (see `autoseg.plan.searcher`) and stands in the group `autoseg.searchers`.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from autoseg.errors import PlanError, nearest
from autoseg.plan.plan import Plan
from autoseg.plan.request import PlanRequest

if TYPE_CHECKING:
    from autoseg.plan.searcher import OpenStudy

GROUP = "autoseg.planners"
SEARCHERS = "autoseg.searchers"
SEARCHER = "tpe"
"""The searcher that the commands use."""

Planner = Callable[[PlanRequest], Plan]


def planner_names() -> tuple[str, ...]:
    """Return the names of all installed planners, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def load_planner(name: str) -> Planner:
    """Return the planner of that name; nothing else is imported.

    Raises
    ------
    PlanError
        No package defines it, several do, or the one that does cannot be imported.
    """
    points = _distinct(name)
    if len(points) == 1:
        return _loaded(points[0])
    names = planner_names()
    if points:
        owners = ", ".join(_owner(point) for point in points)
        raise PlanError(
            found=f"planner {name!r} is defined by several packages: {owners}",
            expected="one package for each name",
            fix="remove all but one of these packages",
        )
    raise PlanError(
        found=f"planner {name!r}, which no installed package defines",
        expected=f"one of {', '.join(names) or 'the installed planners (there are none)'}",
        fix="correct its name, or install the package that defines it" + nearest(name, names),
    )


def load_searcher() -> "OpenStudy":
    """Return the function that opens studies; optuna is imported here and not before.

    Raises
    ------
    PlanError
        No package defines it, or the one that does cannot be imported.
    """
    for point in entry_points(group=SEARCHERS, name=SEARCHER):
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            raise PlanError(
                found=f"the searcher of {_owner(point)} cannot be loaded: {error}",
                expected=f"a function at {point.value}",
                fix="install optuna 5 or later: pip install -U optuna",
            ) from error
    raise PlanError(
        found=f"no installed package defines the searcher {SEARCHER!r}",
        expected=f"an entry point of the group {SEARCHERS}",
        fix="install autoseg again",
    )


def _distinct(name: str) -> list[EntryPoint]:
    """Return the definitions of a name; an installation seen twice on the path counts once."""
    found: dict[tuple[str, str], EntryPoint] = {}
    for point in entry_points(group=GROUP, name=name):
        found.setdefault((_owner(point), point.value), point)
    return list(found.values())


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _loaded(point: EntryPoint) -> Planner:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise PlanError(
            found=f"planner {point.name!r} of {_owner(point)} cannot be loaded: {error}",
            expected=f"a function at {point.value}",
            fix=f"install {_owner(point)} again, or choose another --planner",
        ) from error

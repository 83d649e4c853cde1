"""`--set` before anything is measured: what no plan of these data takes is told at once."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.formats.registry import find_format
from autoseg.dataset.open import open_dataset
from autoseg.errors import AutosegError, PlanError
from autoseg.pipeline.checking import choose_spec
from autoseg.plan.overrides import check_settings
from autoseg.plan.plan import Plan
from autoseg.workspace import Workspace

USUAL = {1: ("1d",), 2: ("2d",), 3: ("3d_fullres", "2d")}
"""Configurations that plans of images of so many axes have, the best known first."""
POSSIBLE = {1: USUAL[1], 2: USUAL[2], 3: (*USUAL[3], "3d_lowres", "3d_cascade_fullres")}
"""Those that they may have."""


def refuse_settings(
    settings: Sequence[str], dataset: Path, workspace: Path | None, spec: Path | None
) -> None:
    """Refuse settings that no plan takes; keys of configurations that this one has are proposed.

    Parameters
    ----------
    settings
        KEY=VALUE each.
    dataset, workspace, spec
        As given to `autoseg plan`: looked at only to word the message.

    Raises
    ------
    PlanError
        All settings that are wrong at once.
    """
    try:
        check_settings(settings)
    except PlanError:
        check_settings(settings, likely=_likely(dataset, workspace, spec))
        raise


def refuse_other_axes(settings: Sequence[str], dataset: Dataset) -> None:
    """Refuse settings of configurations that images of these axes never have.

    Raises
    ------
    PlanError
        All settings that are wrong at once.
    """
    axes = _axes(dataset) if settings else None
    if axes is not None:
        check_settings(settings, POSSIBLE[axes], USUAL[axes])


def _likely(dataset: Path, workspace: Path | None, spec: Path | None) -> tuple[str, ...]:
    """Return the configurations of the plan that there is, or should be; none if nobody knows."""
    with suppress(AutosegError):
        chosen = choose_spec(dataset, workspace, spec, None)
        place = Workspace(chosen.workspace).plan
        if place.is_file():
            items = Plan.load(place).configurations
            return tuple(
                item.name for item in sorted(items, key=lambda item: not item.train_by_default)
            )
        return USUAL.get(_axes(open_dataset(dataset, chosen.spec, None)) or 0, ())
    return ()


def _axes(dataset: Dataset) -> int | None:
    """Return the axes of the first image, from its header; None where it does not tell."""
    with suppress(AutosegError):
        extent = find_format(dataset.layout).read_extent(dataset, dataset.cases[0])
        return len(extent.shape) if len(extent.shape) in POSSIBLE else None
    return None

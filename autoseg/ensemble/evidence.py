"""What out-of-fold cases tell about objects: where each comes from, and what may be removed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from autoseg.dataset.annotated import known_classes
from autoseg.dataset.case import read_classes
from autoseg.dataset.dataset import Case
from autoseg.dataset.label_values import to_classes
from autoseg.ensemble.choose import Member
from autoseg.ensemble.objects import CaseObjects, count_objects
from autoseg.ensemble.offsets import Offsets
from autoseg.ensemble.predictions import find_predictions
from autoseg.ensemble.stored import Source, find_places, load_places
from autoseg.ensemble.tried import MIN_CASES
from autoseg.errors import WorkspaceError
from autoseg.runtime.images import read_labels
from autoseg.train.records import FoldResult
from autoseg.workspace import FoldFolder


@dataclass(frozen=True)
class Evidence:
    """The objects of the out-of-fold cases, and where each case comes from."""

    objects: tuple[CaseObjects, ...]
    folds: tuple[str, ...]
    patients: tuple[str, ...]


@dataclass(frozen=True)
class _Predicted:
    """An out-of-fold case: class indices (*S) that were found, and those that are right.

    Those found may be of classes that the case does not annotate: objects touch them, too.
    """

    case: Case
    fold: str
    found: NDArray
    reference: NDArray
    voxel_size: float
    """Product of the image's spacings."""


def gather_evidence(source: Source, members: Sequence[Member], offsets: Offsets) -> Evidence | None:
    """Return the objects of all validation cases; None where there are too few to decide.

    Raises
    ------
    WorkspaceError
        The prediction of a validation case is missing.
    """
    objects, folds, patients = [], [], []
    for item in _predicted(source, members, offsets):
        known = known_classes(item.case, source.plan.labels)
        objects.append(count_objects(item.found, item.reference, known, item.voxel_size))
        folds.append(item.fold)
        patients.append(item.case.group)
    if len(objects) < MIN_CASES:
        return None
    return Evidence(tuple(objects), tuple(folds), tuple(patients))


def _predicted(source: Source, members: Sequence[Member], offsets: Offsets) -> Iterator[_Predicted]:
    """Yield the out-of-fold cases as the ensemble labels them.

    As validation has written them; where classes are decided otherwise, from what is stored.
    """
    if len(members) == 1 and not offsets:
        yield from _written(source, members[0])
        return
    places = find_places(source, members)
    for loaded in load_places(source, places, "the choice of post-processing"):
        found, place, size = loaded.labels(members, offsets), loaded.place, loaded.voxel_size
        yield _Predicted(place.case, place.fold, found, loaded.reference, size)


def _written(source: Source, member: Member) -> Iterator[_Predicted]:
    """Yield the cases as validation has written them."""
    labels = source.plan.labels
    for fold in member.folds:
        folder = source.workspace.fold(member.configuration, fold)
        predictions = find_predictions(folder)
        for score in FoldResult.load(folder.result).scores:
            source.listeners.stop_if_asked("the choice of post-processing")
            case = source.cases[score.case_id]
            path = predictions.get(case.id)
            if path is None:
                raise _missing(case.id, folder)
            image = read_labels(path)
            found = to_classes(image.array[0], labels)
            size = math.prod(image.geometry.spacing)
            yield _Predicted(case, fold, found, read_classes(source.dataset, case), size)


def _missing(case_id: str, folder: FoldFolder) -> WorkspaceError:
    return WorkspaceError(
        found=f"no prediction of case {case_id} in {folder.validation}",
        expected="one label map of each validation case",
        fix=f"delete {folder.result} and run `autoseg train` again",
    )

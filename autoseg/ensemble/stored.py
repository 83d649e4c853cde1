"""The out-of-fold cases whose probabilities training has stored, and what members make of them.

Letters in shapes: K classes, S image axes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.annotated import without_unknown
from autoseg.dataset.case import read_classes
from autoseg.dataset.dataset import Case, Dataset
from autoseg.ensemble.choose import Candidate, Member
from autoseg.plan.plan import Plan
from autoseg.runtime.restore import decide_labels, restore_labels, restore_probabilities
from autoseg.train.job import Listeners
from autoseg.train.out_of_fold import StoredCase, is_stored, read_stored
from autoseg.train.records import FoldResult
from autoseg.workspace import FoldFolder, Workspace


@dataclass(frozen=True)
class Source:
    """What the choices after training are made from."""

    plan: Plan
    dataset: Dataset
    workspace: Workspace
    listeners: Listeners

    @cached_property
    def cases(self) -> dict[str, Case]:
        """The data set's cases by id."""
        return {case.id: case for case in self.dataset.cases}

    @property
    def num_classes(self) -> int:
        """Classes, the background included."""
        return len(self.plan.labels.names)


@dataclass(frozen=True)
class Place:
    """A case that every member has predicted without having seen it."""

    case: Case
    fold: str
    folders: dict[str, FoldFolder]
    """Of the fold that predicted it, by configuration."""


@dataclass(frozen=True)
class Loaded:
    """A stored case with what is right about it."""

    place: Place
    stored: dict[str, StoredCase]
    """By configuration."""
    reference: NDArray
    """(*S) class indices; negative where nothing is known."""
    chances: dict[str, NDArray[np.float16]]
    """(K, *S) by configuration, restored when first needed."""

    @property
    def voxel_size(self) -> float:
        """Product of the image's spacings."""
        return next(iter(self.stored.values())).voxel_size

    def probabilities(self, members: Sequence[Member]) -> NDArray[np.floating]:
        """Return the members' weighted mean probabilities (K, *S), as the artifact makes them."""
        if len(members) == 1:
            return self._chances(members[0].configuration)
        first = self._chances(members[0].configuration)
        total = np.zeros(first.shape, dtype=np.float32)
        part = np.empty(first.shape[1:], dtype=np.float32)
        for member in members:
            chances = self._chances(member.configuration)
            for target, values in zip(total, chances, strict=True):
                # In float32 as in the artifact; in float16 it would be rounded, and slow.
                target += np.multiply(values, np.float32(member.weight), out=part)
        return total

    def labels(self, members: Sequence[Member], offsets: Sequence[float] = ()) -> NDArray:
        """Return the class indices (*S) that the artifact gives."""
        return next(self.labels_with(members, [offsets]))

    def labels_with(
        self, members: Sequence[Member], options: Iterable[Sequence[float]]
    ) -> Iterator[NDArray]:
        """Yield the class indices (*S) that the artifact gives with each of some offsets."""
        if len(members) == 1:
            case = self.stored[members[0].configuration]
            logits = case.logits
            for offsets in options:
                yield restore_labels(logits, case.placement, offsets=offsets)
            return
        chances = self.probabilities(members)
        for offsets in options:
            yield decide_labels(chances, "largest", offsets)

    def _chances(self, configuration: str) -> NDArray[np.float16]:
        if configuration not in self.chances:
            case = self.stored[configuration]
            self.chances[configuration] = restore_probabilities(case.logits, case.placement)
        return self.chances[configuration]


def find_places(source: Source, members: Sequence[Member | Candidate]) -> tuple[Place, ...]:
    """Return the cases that folds of all members have predicted unseen, and stored, in order."""
    found: list[dict[str, tuple[str, FoldFolder]]] = []
    for member in members:
        own = {}
        for fold in member.folds:
            folder = source.workspace.fold(member.configuration, fold)
            for score in FoldResult.load(folder.result).scores:
                if is_stored(folder, score.case_id):
                    own[score.case_id] = fold, folder
        found.append(own)
    names = [name for name in found[0] if all(name in own for own in found)]
    return tuple(
        Place(
            source.cases[name],
            found[0][name][0],
            {
                member.configuration: own[name][1]
                for member, own in zip(members, found, strict=True)
            },
        )
        for name in names
    )


def load_places(source: Source, places: Sequence[Place], what: str) -> Iterator[Loaded]:
    """Yield the stored cases one after the other; those that cannot be read are left out.

    Raises
    ------
    autoseg.train.job.Interrupted
        The user has asked to stop.
    """
    for place in places:
        source.listeners.stop_if_asked(what)
        loaded = _load(source, place)
        if loaded is not None:
            yield loaded


def _load(source: Source, place: Place) -> Loaded | None:
    digest = source.plan.digest()
    stored = {}
    for name, folder in place.folders.items():
        case = read_stored(folder, place.case.id, digest)
        if case is None:
            return None
        stored[name] = case
    return Loaded(place, stored, read_classes(source.dataset, place.case), {})


def as_judged(source: Source, loaded: Loaded, labels: NDArray) -> NDArray:
    """Return predicted class indices (*S) as a case can judge them: unknown classes are 0."""
    return without_unknown(labels, loaded.place.case, source.plan.labels, fill=0)

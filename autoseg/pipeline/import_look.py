"""What the pixels of a data set tell before anything is planned, and what a plan would refuse."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod

import numpy as np

from autoseg.check.headers import check_headers
from autoseg.dataset.dataset import Case, Dataset, DatasetSpec, Finding
from autoseg.dataset.open import open_dataset
from autoseg.dataset.problems import error_finding
from autoseg.errors import AutosegError, DatasetError
from autoseg.fingerprint.fingerprint_dataset import join_measured
from autoseg.fingerprint.measure import Measured
from autoseg.fingerprint.measure_big import measure
from autoseg.pipeline.examining import MIN_CASES, Examined, without_broken
from autoseg.pipeline.splitting import SplitOptions, choose_splits, find_given

MAX_LOOKED_AT = 50
"""Cases whose pixels are read; of larger data sets, this many at equal distances, and up to as many
whose headers are unlike the others'."""
NUM_READERS = 2
"""Threads that read cases: each holds a whole one."""
NUM_PICTURED = 3

OnCase = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the pixels of one case told."""

    case: Case
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    unit: str = ""
    dtype: str = ""
    orientation: str | None = None
    class_voxels: tuple[int, ...] = ()
    """Voxels of each class, background first; empty where the case cannot be read."""
    ignored_voxels: int = 0
    findings: tuple[Finding, ...] = ()
    measured: Measured | None = None


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A data set under a spec, with what its pixels told."""

    spec: DatasetSpec
    dataset: Dataset
    looks: tuple[Look, ...]
    errors: tuple[Finding, ...] = ()
    """What a plan would refuse."""
    left_out: tuple[str, ...] = ()
    """Cases that the spec leaves out because a plan would refuse them."""


def look_at(dataset: Dataset, on_case: OnCase) -> tuple[Look, ...]:
    """Return what the pixels of up to `MAX_LOOKED_AT` cases tell, and of as many odd ones."""
    places = _places(dataset)
    done: list[str] = []

    def look(place: int) -> Look:
        result = _look(dataset, dataset.cases[place])
        done.append(result.case.id)
        on_case(result.case.id, len(done), len(places))
        return result

    with ThreadPoolExecutor(NUM_READERS) as pool:
        return tuple(pool.map(look, places))


def find_errors(dataset: Dataset, looks: Sequence[Look]) -> tuple[Finding, ...]:
    """Return why a plan would be refused: errors in and between the cases looked at, and leaks."""
    measured = [look.measured for look in looks if look.measured is not None]
    fingerprint, findings = join_measured(dataset, measured)
    errors = [finding for finding in findings if finding.severity == "error"]
    try:
        dataset, given = find_given(dataset, SplitOptions())
        if fingerprint is not None:
            choose_splits(dataset, fingerprint, SplitOptions(), given)
    except DatasetError as error:
        errors.append(error_finding(error, ()))
    return tuple(errors)


def leave_out_broken(looked: Looked, on_case: OnCase) -> Looked:
    """Return a data set without cases that a plan would refuse; as it was where they are many.

    Half of the cases or more being wrong tells that something else is.
    """
    spec = without_broken(
        Examined(spec=looked.spec, dataset=looked.dataset, findings=looked.errors)
    )
    if spec is None:
        return looked
    names = tuple(sorted({error.case for error in looked.errors if error.case}))
    if 2 * len(names) >= len(looked.looks):
        return looked
    try:
        dataset = open_dataset(looked.dataset.root, spec, None)
    except AutosegError:
        return looked
    if len(dataset.cases) < MIN_CASES:
        return looked
    looks = tuple(look for look in looked.looks if look.case.id not in names)
    if _way_to_read(dataset) != _way_to_read(looked.dataset):
        looks = look_at(dataset, on_case)
    errors = find_errors(dataset, looks)
    return Looked(spec=spec, dataset=dataset, looks=looks, errors=errors, left_out=names)


def choose_cases(looks: Sequence[Look]) -> tuple[Case, ...]:
    """Return `NUM_PICTURED` cases that show as many classes as possible, far from each other."""
    chosen: list[int] = []
    shown: set[int] = set()
    present = [{i for i, n in enumerate(look.class_voxels) if i and n} for look in looks]
    while len(chosen) < min(NUM_PICTURED, len(looks)):
        rest = [place for place in range(len(looks)) if place not in chosen]
        best = max(
            rest,
            key=lambda place: (
                len(present[place] - shown),
                bool(present[place]),
                min((abs(place - other) for other in chosen), default=0),
            ),
        )
        chosen.append(best)
        shown |= present[best]
    return tuple(looks[place].case for place in sorted(chosen))


def _places(dataset: Dataset) -> list[int]:
    """Return which cases are looked at: some at equal distances, and those with odd headers."""
    total = len(dataset.cases)
    count = min(total, MAX_LOOKED_AT)
    places = {int(place) for place in np.linspace(0, total - 1, count)}
    if count < total:
        findings = check_headers(dataset, lambda _: None)
        odd = {item.case for item in findings if item.severity == "error"}
        suspects = [i for i, case in enumerate(dataset.cases) if case.id in odd]
        places.update(suspects[:MAX_LOOKED_AT])
    return sorted(places)


def _look(dataset: Dataset, case: Case) -> Look:
    """Return what the pixels of a case tell."""
    measured = measure(dataset, case)
    stats = measured.stats
    if stats is None:
        return Look(case=case, findings=measured.findings, measured=measured)
    return Look(
        case=case,
        shape=stats.shape,
        spacing=stats.spacing,
        unit=measured.unit,
        dtype=stats.dtype or "",
        orientation=stats.orientation,
        class_voxels=stats.class_voxels,
        ignored_voxels=prod(stats.shape) - sum(stats.class_voxels),
        findings=measured.findings,
        measured=measured,
    )


def _way_to_read(dataset: Dataset) -> tuple:
    """Return what of a data set decides which classes the pixels become."""
    return dataset.channels, dataset.labels, dataset.reading

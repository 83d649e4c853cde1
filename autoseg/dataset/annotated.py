"""Cases of which only some classes are annotated: whatever else they show counts as background.

Such a case teaches and tells nothing about the other classes: there it says neither that they are
present nor that they are not.
"""

from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case, Dataset, DatasetSpec
from autoseg.errors import DatasetError, nearest
from autoseg.runtime.recipe import Labels
from autoseg.runtime.resample import IGNORE


def with_annotated(dataset: Dataset, spec: DatasetSpec) -> Dataset:
    """Return the data set whose cases know which classes they annotate, as the spec says it.

    The first entry that fits a case holds.

    Raises
    ------
    DatasetError
        An entry fits no case, or names a class that there is not; all problems are listed.
    """
    if spec.annotated is None:
        return dataset
    problems = []
    for pattern, names in spec.annotated.items():
        if not any(fnmatchcase(case.id, pattern) for case in dataset.cases):
            problems.append(f"annotated: {pattern!r} is no case")
        classes = dataset.labels.names[1:]
        unknown = [name for name in names if name not in classes]
        problems += [f"annotated: {name!r} is no class{nearest(name, classes)}" for name in unknown]
    if problems:
        raise DatasetError(
            found="\n".join(problems),
            expected="ids of cases, or patterns with *, each with the names of the classes that "
            f"are annotated: {', '.join(dataset.labels.names[1:])}",
            fix="correct annotated in the spec",
        )
    cases = [case.revised(annotated=_names_of(case.id, spec)) for case in dataset.cases]
    return dataset.revised(cases=tuple(cases))


def _names_of(case_id: str, spec: DatasetSpec) -> tuple[str, ...] | None:
    entries = (spec.annotated or {}).items()
    return next((names for pattern, names in entries if fnmatchcase(case_id, pattern)), None)


def known_classes(case: Case, labels: Labels) -> tuple[bool, ...]:
    """Return of each class, the background first, whether a case tells where it is."""
    if case.annotated is None:
        return (True,) * len(labels.names)
    return (True, *(name in case.annotated for name in labels.names[1:]))


def judged_regions(case: Case, labels: Labels) -> tuple[tuple[int, ...], ...]:
    """Return the classes of each region, none where a case does not annotate all of them.

    Of a union nothing is known where one of its classes is not: no classes have no scores.
    """
    known = known_classes(case, labels)
    return tuple(
        region.classes if all(known[index] for index in region.classes) else ()
        for region in labels.regions
    )


def without_unknown(classes: NDArray, case: Case, labels: Labels, *, fill: int) -> NDArray:
    """Return class indices (*S) with `fill` in place of classes that a case does not annotate.

    In its own labels they are `IGNORE`, for somebody drew them where they did not count; in a
    prediction that is judged by this case they are background (0), for nothing tells otherwise.
    """
    known = known_classes(case, labels)
    if all(known):
        return classes
    unknown = np.flatnonzero(np.logical_not(known))
    return np.where(np.isin(classes, unknown), np.asarray(fill, classes.dtype), classes)


def own_labels(classes: NDArray, case: Case, labels: Labels) -> NDArray:
    """Return a case's own class indices (*S), `IGNORE` where its classes do not count."""
    return without_unknown(classes, case, labels, fill=IGNORE)

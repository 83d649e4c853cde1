"""The split that a data set comes with: what was published to be trained on and tested."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Literal, get_args

from autoseg.dataset.dataset import Case, DatasetSpec
from autoseg.dataset.splits import Splits, split_of
from autoseg.errors import DatasetError

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
REST: Part = "train"
"""Where cases stand that are in no part."""


def declared_parts(case_ids: Sequence[str], spec: DatasetSpec) -> dict[str, Part]:
    """Return where a spec's official split has each case; what it leaves out is trained on.

    Cases that the spec excludes may be named all the same.

    Raises
    ------
    DatasetError
        Names of parts or cases are unknown, a case is in two parts, or none is left to train on;
        or in no part although those to train on are listed. All problems are listed.
    """
    declared = spec.split or {}
    known = {*case_ids, *(spec.exclude or ())}
    parts: dict[str, dict[Part, None]] = {case_id: {} for case_id in case_ids}
    problems = [f"split: no part is called {part!r}" for part in sorted(set(declared) - set(PARTS))]
    for part in PARTS:
        for pattern in declared.get(part, ()):
            matched = _matched(pattern, known)
            if not matched and not spec.excludes(pattern):
                problems.append(f"split.{part}: {pattern!r} is no case")
            for case_id in parts.keys() & matched:
                parts[case_id][part] = None
    problems += [
        f"split: case {case_id!r} is in {' and '.join(found) or 'no part'}"
        for case_id, found in parts.items()
        if len(found) > 1 or (not found and "train" in declared)
    ]
    if not problems and all("test" in found for found in parts.values()):
        problems.append("split: every case is in test")
    if problems:
        raise DatasetError(
            found="\n".join(problems),
            expected='ids of cases, or patterns with *, under "train", "val" and "test", each case '
            "in one part",
            fix="correct split in the spec; cases to be used for nothing belong to exclude",
        )
    return {case_id: next(iter(found)) if found else REST for case_id, found in parts.items()}


def _matched(pattern: str, case_ids: Collection[str]) -> list[str]:
    """Return the case of this id, or all that the pattern fits."""
    if pattern in case_ids:
        return [pattern]
    return [case_id for case_id in case_ids if fnmatchcase(case_id, pattern)]


def official_splits(cases: Sequence[Case]) -> Splits | None:
    """Return the folds that a data set comes with; None where it comes with none.

    Cases to validate on make one fold; the numbers of folds that a list of cases gives make as
    many. A test set alone makes none, and is in no fold.
    """
    usable = [case for case in cases if case.split != "test"]
    if any(case.split == "val" for case in usable):
        return (split_of(usable, {case.id for case in usable if case.split == "val"}),)
    numbers = sorted({case.fold for case in usable if case.fold is not None})
    folds = ({case.id for case in usable if case.fold == number} for number in numbers)
    return tuple(split_of(usable, validated) for validated in folds) or None

"""Cross-validation: which cases a fold trains on, and which it is validated on."""

import json
from collections.abc import Sequence
from pathlib import Path

from autoseg.dataset.dataset import Case, Finding
from autoseg.errors import DatasetError
from autoseg.record import Record
from autoseg.seeds import stream

DEFAULT_FOLDS = 5


class Split(Record):
    """One fold, by case ids."""

    train: tuple[str, ...]
    val: tuple[str, ...]


Splits = tuple[Split, ...]


def make_splits(
    cases: Sequence[Case], num_folds: int | None, seed: int
) -> tuple[Splits, list[Finding]]:
    """Return folds of about equal size in which no group stands on both sides.

    Without `num_folds` there are `DEFAULT_FOLDS`, or fewer with a finding if the groups do not
    suffice.

    Raises
    ------
    DatasetError
        There are fewer groups than folds asked for, or fewer than two.
    """
    groups: dict[str, list[str]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case.id)
    wanted = DEFAULT_FOLDS if num_folds is None else num_folds
    count = wanted if num_folds is not None else min(wanted, len(groups))
    if not 2 <= count <= len(groups):
        raise _too_few(wanted, len(groups), len(cases), is_explicit=num_folds is not None)
    folds = _assign(groups, count, seed)
    everything = sorted(case.id for case in cases)
    splits = tuple(
        Split(train=tuple(i for i in everything if i not in set(fold)), val=tuple(sorted(fold)))
        for fold in folds
    )
    return splits, [_fewer_folds(groups, cases, count)] if count < wanted else []


def _assign(groups: dict[str, list[str]], count: int, seed: int) -> list[list[str]]:
    """Return the case ids of each fold: drawn groups, large ones first, to the emptiest."""
    names = sorted(groups)
    drawn = [names[i] for i in stream(seed, "splits").permutation(len(names))]
    folds: list[list[str]] = [[] for _ in range(count)]
    for name in sorted(drawn, key=lambda name: -len(groups[name])):
        min(folds, key=len).extend(groups[name])
    return folds


def _too_few(wanted: int, num_groups: int, num_cases: int, *, is_explicit: bool) -> DatasetError:
    of = f"{num_cases} cases" + (f" in {num_groups} groups" if num_groups < num_cases else "")
    if is_explicit and wanted >= 2:
        fix = f"ask for at most {num_groups} folds (--folds {num_groups}), or add cases"
        if num_groups < 2:
            fix = "add cases"
        expected = f"at least one group for each of {wanted} folds"
        return DatasetError(found=of, expected=expected, fix=fix)
    if is_explicit:
        return DatasetError(
            found=f"{wanted} folds", expected="at least 2", fix="ask for 2 folds or more (--folds)"
        )
    return DatasetError(
        found=of,
        expected="at least two, one to train on and one to validate on",
        fix="add cases, or correct --group-by if it puts all cases into one group",
    )


def _fewer_folds(groups: dict[str, list[str]], cases: Sequence[Case], count: int) -> Finding:
    of = "cases" if len(groups) == len(cases) else "groups"
    return Finding(
        severity="warning",
        found=f"only {len(groups)} {of}: the number of folds is {count}",
        expected=f"at least {DEFAULT_FOLDS} {of} for the default of {DEFAULT_FOLDS} folds",
        remedy="add cases; with so few, scores differ much from fold to fold",
    )


def splits_json(splits: Splits) -> str:
    """Return splits in the form of nnU-Net's splits_final.json."""
    content = [{"train": list(split.train), "val": list(split.val)} for split in splits]
    return json.dumps(content, indent=2) + "\n"


def read_splits(path: Path, cases: Sequence[Case]) -> Splits:
    """Return the splits in a file of the form of nnU-Net's splits_final.json.

    Raises
    ------
    DatasetError
        The file is missing or of another form, names unknown cases, or has a case or group on both
        sides of a fold; all problems are listed.
    """
    fix = "correct the file, or leave --splits out to have folds made"
    expected = 'a list with one {"train": [case, ...], "val": [case, ...]} a fold'
    try:
        content = json.loads(path.read_bytes())
        splits = tuple(Split(train=tuple(e["train"]), val=tuple(e["val"])) for e in content)
    except OSError as error:
        found = f"{path} cannot be read: {error.strerror}"
        raise DatasetError(found=found, expected=expected, fix=fix) from error
    except (ValueError, KeyError, TypeError):
        found = f"{path} is not of that form"
        raise DatasetError(found=found, expected=expected, fix=fix) from None
    problems = [p for i, split in enumerate(splits) for p in _split_problems(i, split, cases)]
    if problems or not splits:
        raise DatasetError(
            found="\n".join(f"{path.name}: {p}" for p in problems or ["no folds"]),
            expected="folds of cases of this data set, each case and group on one side only",
            fix=fix,
        )
    return splits


def _split_problems(index: int, split: Split, cases: Sequence[Case]) -> list[str]:
    groups = {case.id: case.group for case in cases}
    listed = (*split.train, *split.val)
    unknown = sorted(set(listed) - set(groups))
    problems = [f"fold {index}: unknown case {case!r}" for case in unknown]
    if not split.train or not split.val:
        counts = f"{len(split.train)} cases to train, {len(split.val)} to validate"
        problems.append(f"fold {index}: {counts}")
    if len(set(listed)) < len(listed):
        twice = sorted({case for case in listed if listed.count(case) > 1})
        problems.append(f"fold {index}: cases listed twice: {', '.join(twice)}")
    train, val = ({groups.get(case, case) for case in side} for side in (split.train, split.val))
    shared = sorted((train & val) - set(split.train) | (train & val) - set(groups))
    problems += [f"fold {index}: group {group!r} on both sides" for group in shared]
    return problems

"""Folds in files: nnU-Net's splits_final.json, one train/val(/test) split, MONAI's data list."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from autoseg.dataset.dataset import Case, DatasetSpec
from autoseg.dataset.groups import EVERY_CASE_ALONE
from autoseg.dataset.splits import Split, Splits, split_problems
from autoseg.errors import DatasetError
from autoseg.runtime.cases import CHANNEL_SUFFIX
from autoseg.runtime.images import FORMATS

EXPECTED = (
    'a list with one {"train": [case, ...], "val": [case, ...]} a fold; one such object, where '
    '"test" may list cases to be kept out; or MONAI\'s data list: "training" with a "fold" in each '
    'entry, or "training" and "validation"'
)
FIX = "correct the file, or leave --splits out to have folds made"


@dataclass(frozen=True)
class SplitFile:
    """What a file of splits holds."""

    splits: Splits
    test: tuple[str, ...] = ()
    """Cases that it keeps out of all folds."""


def splits_json(splits: Splits) -> str:
    """Return splits in the form of nnU-Net's splits_final.json."""
    content = [{"train": list(split.train), "val": list(split.val)} for split in splits]
    return json.dumps(content, indent=2) + "\n"


def read_splits(path: Path, cases: Sequence[Case]) -> Splits:
    """Return the folds in a file, see `read_split_file`."""
    return read_split_file(path, cases).splits


def read_split_file(
    path: Path, cases: Sequence[Case], spec: DatasetSpec | None = None
) -> SplitFile:
    """Return the folds in a file, and the cases that it keeps out of them.

    Parameters
    ----------
    spec
        Tells which cases are left out of the data set: they are left out of the folds, too.

    Raises
    ------
    DatasetError
        The file is missing or of no known form, names unknown cases, or has a case or group on both
        sides of a fold or a case of the test set in one; all problems are listed.
    """
    try:
        content = json.loads(path.read_bytes())
        found = _parse(content, _Names(cases, spec or DatasetSpec()))
    except OSError as error:
        text = f"{path} cannot be read: {error.strerror}"
        raise DatasetError(found=text, expected=EXPECTED, fix=FIX) from error
    except (ValueError, KeyError, TypeError):
        text = f"{path} is not of that form"
        raise DatasetError(found=text, expected=EXPECTED, fix=FIX) from None
    cases = with_test(cases, found.test)
    problems = [
        f"fold {index}: {problem}"
        for index, split in enumerate(found.splits)
        for problem in split_problems(split, cases)
    ]
    if problems or not found.splits:
        raise leak_error(path.name, problems or ["no folds"], FIX)
    return found


def leak_error(source: str, problems: Sequence[str], fix: str) -> DatasetError:
    """Return the error of folds that were given and leak, or are wrong in another way."""
    if any("group " in problem for problem in problems):
        fix += f"; if cases of one group are not of one patient: {EVERY_CASE_ALONE}"
    return DatasetError(
        found="\n".join(f"{source}: {problem}" for problem in problems),
        expected="folds of cases of this data set, each case, group and image on one side only",
        fix=fix,
    )


def with_test(cases: Sequence[Case], test: Sequence[str]) -> tuple[Case, ...]:
    """Return the cases with some of them in the test set."""
    ids = set(test)
    return tuple(case.revised(split="test") if case.id in ids else case for case in cases)


class _Names:
    """Finds cases by their ids, or by the names of their images."""

    def __init__(self, cases: Sequence[Case], spec: DatasetSpec) -> None:
        self._spec = spec
        self._ids = {case.id for case in cases}
        found: dict[str, set[str]] = defaultdict(set)
        for case in cases:
            for key in {key for image in case.images for key in _keys(image)}:
                found[key].add(case.id)
        self._by_image = {key: ids.pop() for key, ids in found.items() if len(ids) == 1}

    def __call__(self, entry: object) -> str:
        """Return the id that an entry of a list means; what it says where none is meant."""
        if isinstance(entry, Mapping):
            entry = entry["image"]
        name = entry[0] if isinstance(entry, list) else entry
        if not isinstance(name, str):
            raise TypeError(name)
        if name in self._ids:
            return name
        known = (self._by_image[key] for key in _keys(name) if key in self._by_image)
        return next(known, name)

    def ids(self, entries: object) -> tuple[str, ...]:
        """Return the ids that a list means, without excluded cases."""
        if not isinstance(entries, list):
            raise TypeError(entries)
        found = (self(entry) for entry in entries)
        return tuple(name for name in found if not any(map(self._spec.excludes, _keys(name))))


def _keys(name: str) -> Iterator[str]:
    """Yield what a file may be called in a list, the more telling first."""
    path = PurePosixPath(name.replace("\\", "/"))
    yield path.as_posix()
    yield path.name
    ending = next((ending for ending in FORMATS if path.name.lower().endswith(ending)), "")
    stem = path.name[: len(path.name) - len(ending)]
    yield stem
    match = CHANNEL_SUFFIX.fullmatch(stem)
    if match is not None:
        yield match["case"]


def _parse(content: Any, names: _Names) -> SplitFile:  # noqa: ANN401 (any JSON)
    """Return the folds in a file's content.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is of no known form.
    """
    if isinstance(content, list):
        return SplitFile(tuple(_split(names, fold["train"], fold["val"]) for fold in content))
    if "training" not in content:
        split = _split(names, content["train"], content["val"])
        return SplitFile((split,), names.ids(content.get("test", [])))
    training = content["training"]
    test = content.get("testing", content.get("test", []))
    if content.get("validation"):
        folds = (_split(names, training, content["validation"]),)
    else:
        numbers = sorted({entry["fold"] for entry in training if "fold" in entry})
        folds = tuple(
            _split(
                names,
                [entry for entry in training if entry.get("fold") != number],
                [entry for entry in training if entry.get("fold") == number],
            )
            for number in numbers
        )
    return SplitFile(folds, names.ids(test))


def _split(names: _Names, train: object, val: object) -> Split:
    return Split(train=names.ids(train), val=names.ids(val))

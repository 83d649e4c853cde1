"""Scores of a folder of predictions against a folder of references: `autoseg evaluate`."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError, DatasetError
from autoseg.evaluate.evaluation import Evaluation
from autoseg.evaluate.score import score_case
from autoseg.evaluate.scores import CaseScore
from autoseg.evaluate.statistics import summarise
from autoseg.record import autoseg_version
from autoseg.runtime.images import Image, Unit, case_stem, list_images, read_labels, same_spacing

MAX_VALUES = 32
"""More values than this are no classes: most likely the folder holds images."""


def evaluate_folders(
    predictions: Path,
    references: Path,
    *,
    ignore: int | None = None,
    background: int | None = None,
    tolerance: float | None = None,
    regions: Mapping[str, tuple[int, ...]] | None = None,
    num_threads: int = 2,
) -> Evaluation:
    """Return the scores of each prediction against the reference of the same name.

    Parameters
    ----------
    predictions, references
        Folders of label maps, matched by file name without ending.
    ignore
        Value in the references that marks voxels without annotation.
    background
        Value of the background; without it the lowest one found.
    tolerance
        Of the NSD; without it the larger of the two finest spacings, the median over cases.
    regions
        Values that are scored together too, by name.
    num_threads
        Cases worked on at the same time.

    Raises
    ------
    DatasetError
        Every prediction without a reference, every unreadable file, and every pair that differs
        in shape or spacing.
    """
    pairs, not_predicted = _pair(predictions, references)
    with ThreadPoolExecutor(num_threads) as pool:
        looks = list(pool.map(_look, pairs))
        _raise_all([problem for look in looks for problem in look.problems])
        values = _common_values(looks, ignore)
        if background is not None:
            values = (background, *(value for value in values if value != background))
        if tolerance is None:
            spacings = np.median([look.spacing for look in looks], axis=0)
            tolerance = float(np.sort(spacings)[:2].max())
        regions = dict(regions or {})
        unions = _unions(values, regions)
        score = _scorer(values, ignore, tolerance, unions)
        scores = tuple(pool.map(score, pairs))
    return Evaluation(
        autoseg_version=autoseg_version(),
        predictions=str(predictions),
        references=str(references),
        unit=looks[0].unit,
        nsd_tolerance=tolerance,
        values=values,
        regions=regions,
        ignore=ignore,
        scores=scores,
        summary=summarise(scores),
        not_predicted=not_predicted,
    )


@dataclass(frozen=True)
class _Pair:
    """The two files of one case."""

    case_id: str
    prediction: Path
    reference: Path


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What a first look at a pair found."""

    problems: tuple[str, ...] = ()
    values: frozenset[int] = frozenset()
    spacing: tuple[float, ...] = ()
    unit: Unit = "mm"


def _pair(predictions: Path, references: Path) -> tuple[list[_Pair], tuple[str, ...]]:
    """Return the pairs, and the names of references that have no prediction."""
    predicted, expected = _by_stem(predictions), _by_stem(references)
    _raise_all(
        [
            f"{path}: no reference named {stem} in {references}"
            for stem, path in predicted.items()
            if stem not in expected
        ]
    )
    pairs = [_Pair(stem, path, expected[stem]) for stem, path in predicted.items()]
    return pairs, tuple(stem for stem in expected if stem not in predicted)


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return the images in a folder by name without ending, sorted."""
    if not folder.is_dir():
        raise DatasetError(
            found=f"no folder {folder}",
            expected="a folder of label maps",
            fix="correct the path; the order is PREDICTIONS REFERENCES",
        )
    found: dict[str, Path] = {}
    problems = []
    for path in list_images(folder):
        stem = case_stem(path)
        if stem in found:
            problems.append(f"{folder}: {found[stem].name} and {path.name} have the same name")
        found[stem] = path
    _raise_all(problems)
    if not found:
        raise DatasetError(
            found=f"no label map in {folder}",
            expected="files such as case.nii.gz, case.png or case.csv",
            fix="correct the path, or convert the files to a format that autoseg reads",
        )
    return found


def _raise_all(problems: list[str]) -> None:
    """Raise one error that lists all problems, if there are any."""
    if problems:
        raise DatasetError(
            found="\n".join(problems),
            expected=(
                f"label maps (whole numbers, at most {MAX_VALUES} different ones), for each "
                "prediction a reference of its name, shape and spacing"
            ),
            fix="correct, add or remove the files listed, or name the folders of label maps",
        )


def _look(pair: _Pair) -> _Look:
    """Read both files of a pair and return what they hold, and what is wrong with them."""
    try:
        prediction, reference = read_labels(pair.prediction), read_labels(pair.reference)
    except AutosegError as error:
        return _Look(problems=(error.found,))
    problems = [
        f"{pair.prediction}: {name} {ours}, but {theirs} in {pair.reference}"
        for name, ours, theirs, is_same in _comparisons(prediction, reference)
        if not is_same
    ]
    found = [np.unique(image.array) for image in (prediction, reference)]
    problems += [
        f"{path}: {len(values)} different values: an image?"
        for path, values in zip((pair.prediction, pair.reference), found, strict=True)
        if len(values) > MAX_VALUES
    ]
    return _Look(
        problems=tuple(problems),
        values=frozenset(int(value) for values in found for value in values),
        spacing=reference.geometry.spacing,
        unit=reference.geometry.unit,
    )


def _comparisons(first: Image, second: Image) -> list[tuple[str, tuple, tuple, bool]]:
    """Return what must be the same in both: name, both values, whether it is."""
    spacings = first.geometry.spacing, second.geometry.spacing
    is_same = len(spacings[0]) != len(spacings[1]) or same_spacing(*spacings)
    return [
        ("shape", first.shape, second.shape, first.shape == second.shape),
        ("spacing", *spacings, is_same),
    ]


def _common_values(looks: Sequence[_Look], ignore: int | None) -> tuple[int, ...]:
    """Return the values of all files, rising; the first is the background."""
    if len({len(look.spacing) for look in looks}) > 1:
        _raise_all(["label maps with different numbers of axes are mixed"])
    values = tuple(sorted(frozenset().union(*(look.values for look in looks)) - {ignore}))
    if len(values) > MAX_VALUES:
        _raise_all([f"{len(values)} different values in all files: {_few(values)}: images?"])
    if len(values) < 2:
        _raise_all([f"no label map holds a class: the only value is {values}"])
    return values


def _unions(values: Sequence[int], regions: Mapping[str, tuple[int, ...]]) -> list[list[int]]:
    """Return the classes of each region."""
    for name, members in regions.items():
        unknown = [value for value in members if value not in values[1:]]
        if unknown or not members:
            raise DatasetError(
                found=f"region {name} of the values {', '.join(map(str, members)) or 'none'}",
                expected=f"values of classes in the files: {', '.join(map(str, values[1:]))}",
                fix="correct --region",
            )
    return [[values.index(value) for value in members] for members in regions.values()]


def _scorer(
    values: tuple[int, ...],
    ignore: int | None,
    tolerance: float,
    regions: Sequence[Sequence[int]],
) -> Callable[[_Pair], CaseScore]:
    """Return the function that scores a pair."""
    order = np.argsort(values)  # the background may be any value

    def to_classes(image: Image) -> NDArray[np.int16]:
        labels = image.array[0]
        positions = np.searchsorted(values, labels, sorter=order)  # the ignored value may be beyond
        classes = order[positions.clip(max=len(values) - 1)].astype(np.int16)
        if ignore is not None:
            classes[labels == ignore] = -1
        return classes

    def score(pair: _Pair) -> CaseScore:
        prediction, reference = read_labels(pair.prediction), read_labels(pair.reference)
        return score_case(
            pair.case_id,
            np.maximum(to_classes(prediction), 0),
            to_classes(reference),
            reference.geometry.spacing,
            num_classes=len(values),
            tolerance=tolerance,
            regions=regions,
        )

    return score


def _few(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:5])) + ", ..."

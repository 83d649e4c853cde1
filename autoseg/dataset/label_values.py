"""Label values in files and class indices of the network: each other's inverse.

Letters in shapes: S spatial axes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import DatasetSpec
from autoseg.errors import DatasetError
from autoseg.runtime.images import smallest_type
from autoseg.runtime.recipe import Labels, Region
from autoseg.runtime.resample import IGNORE as IGNORE

MAX_UNDECLARED = 32
"""More different values than this in undeclared masks are no classes: noise, or instances."""
MAX_SHOWN = 10
MAX_TABLE = 1 << 16
"""Widest range of values that is translated by a table."""


Declared = Mapping[str, int | Sequence[int]]
"""Values of classes by name; several values are a region, or a class where none overlap."""


def declared_labels(declared: Declared, ignore: int | None) -> Labels:
    """Return the declared classes: "background", or else the first, then by rising value.

    Regions, which share values, become classes that do not: one for each value, with the regions
    beside them as unions.

    Raises
    ------
    DatasetError
        Fewer than two classes, a value that is given twice, or a background of several values.
    """
    sets = {name: _as_values(given) for name, given in declared.items()}
    background = next((name for name in sets if name.casefold() == "background"), None)
    background = next(iter(sets), "") if background is None else background
    others = {name: given for name, given in sets.items() if name != background}
    twice = _given_twice(sets.get(background, ()), others, ignore)
    if not others or twice:
        shown = ", ".join(f"{name}: {value}" for name, value in declared.items())
        raise DatasetError(
            found=f"labels {{{shown}}}, ignore {ignore}"
            + (f", with {sorted(twice)} twice" if twice else ""),
            expected="a background and at least one other class, each with its own value",
            fix="correct the labels in dataset.json or in the file given with --spec",
        )
    if len(sets[background]) != 1:
        raise _several_backgrounds(background, sets[background], declared)
    has_regions = any(len(given) > 1 for given in others.values())
    values = {background: sets[background][0], **_atoms(others)}
    order = (background, *sorted(values.keys() - {background}, key=lambda name: values[name]))
    numbers = tuple(values[name] for name in order)
    regions = tuple(
        Region(name=name, classes=tuple(sorted(numbers.index(value) for value in given)))
        for name, given in others.items()
        if has_regions
    )
    return Labels(names=order, values=numbers, ignore=ignore, regions=regions)


def spec_labels(spec: DatasetSpec) -> Labels | None:
    """Return the classes that a spec declares, or None; colours count up from 0 as declared.

    Raises
    ------
    DatasetError
        Fewer than two classes, a value that is given twice, or colours beside numbers.
    """
    if spec.labels is None:
        return None
    colours = [value for value in spec.labels.values() if isinstance(value, str)]
    if not colours:
        return declared_labels(
            {k: v for k, v in spec.labels.items() if not isinstance(v, str)}, spec.ignore
        )
    if len(colours) < len(spec.labels):
        raise DatasetError(
            found="labels with colours and with numbers",
            expected="one kind for all classes",
            fix="correct the labels in the spec",
        )
    return declared_labels({name: index for index, name in enumerate(spec.labels)}, spec.ignore)


def _as_values(given: int | Sequence[int]) -> tuple[int, ...]:
    return (given,) if isinstance(given, int) else tuple(given)


def _given_twice(
    background: Sequence[int], others: Mapping[str, tuple[int, ...]], ignore: int | None
) -> set[int]:
    """Return the values with two meanings; regions may share theirs."""
    listed = [value for given in others.values() for value in given]
    twice = set(background) & set(listed)
    if all(len(given) == 1 for given in others.values()):
        twice |= {value for value in listed if listed.count(value) > 1}
    return twice | ({ignore} & {*background, *listed} if ignore is not None else set())


def _several_backgrounds(name: str, values: Sequence[int], declared: Declared) -> DatasetError:
    """Return why a background has one value, and how the others are read as it."""
    first, *rest = values or (0,)
    fixed = {"labels": {**declared, name: first}}
    if rest:
        fixed["label_map"] = {str(value): first for value in rest}
    return DatasetError(
        found=f"the background {name!r} with the values {list(values)}",
        expected="one value for the background, which others may be read as",
        fix=f"write in the spec: {json.dumps(fixed)}",
    )


def _atoms(sets: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return a class for each value of regions, named after the smallest region that has it."""
    atoms: dict[str, int] = {}
    for value in sorted({value for given in sets.values() for value in given}):
        holders = [name for name, given in sets.items() if value in given]
        name = min(holders, key=lambda name: len(sets[name]))
        if len(sets[name]) > 1:
            name = f"rest of {name}"
        atoms[name if name not in atoms else f"{name} ({value})"] = value
    return atoms


def found_labels(values: Iterable[int], ignore: int | None) -> Labels:
    """Return the classes of masks without a declaration: the values in rising order, lowest first.

    Raises
    ------
    DatasetError
        There are more than `MAX_UNDECLARED` values, or fewer than two.
    """
    order = tuple(sorted({int(value) for value in values} - {ignore}))
    if len(order) > MAX_UNDECLARED:
        raise DatasetError(
            found=f"{len(order)} different values in the masks: {listing(order)}",
            expected=f"at most {MAX_UNDECLARED} values, one a class",
            fix="if the masks were stored as JPEG or resized with interpolation, export them again "
            "without (PNG, nearest neighbour); if they number instances of one class, declare "
            '{"threshold": 1} in a spec; else declare the labels in a file given with --spec',
        )
    if len(order) < 2:
        raise DatasetError(
            found=f"only the value {listing(order) or 'to be ignored'} in all masks: no foreground",
            expected="a background and at least one other class",
            fix="check that the masks are annotated and were exported completely",
        )
    names = ("background", *(f"class_{value}" for value in order[1:]))
    return Labels(names=names, values=order, ignore=ignore)


def renamed(labels: Labels, names: Mapping[int, str]) -> Labels:
    """Return classes with the names that a table gives to their values; the background keeps its.

    As they were where two would have one name.
    """
    (background, _), *others = zip(labels.names, labels.values, strict=True)
    told = (background, *(names.get(value, name) for name, value in others))
    is_clear = len({name.casefold() for name in told}) == len(told)
    return replace(labels, names=told) if is_clear else labels


def as_background(
    values: Iterable[int], background: int, label_map: Iterable[tuple[int, int]]
) -> dict[str, int]:
    """Return what a spec declares to read values as background, beside what is mapped already."""
    lost = {*values}
    known = {found: background if meant in lost else meant for found, meant in label_map}
    found = {value: known.get(value, background) for value in sorted(lost)}
    return {str(value): meant for value, meant in (known | found).items()}


def to_classes(values: NDArray, labels: Labels) -> NDArray:
    """Return (*S) class indices of (*S) values in a file; `IGNORE` where nothing is annotated.

    int8 where 127 classes suffice, else int16.

    Raises
    ------
    DatasetError
        The file holds values that no class has.
    """
    low, high = int(values.min()), int(values.max())
    unknown = len(labels.values)  # an index that no class has, replaced by an error below
    kind = np.int8 if unknown <= np.iinfo(np.int8).max else np.int16
    pairs = [*zip(labels.values, range(unknown), strict=True)]
    if labels.ignore is not None:
        pairs.append((labels.ignore, IGNORE))
    if high - low < MAX_TABLE:
        table = np.full(high - low + 1, unknown, kind)
        for value, index in pairs:
            if low <= value <= high:
                table[value - low] = index
        positions = values if low == 0 else values.astype(np.int64) - low
        classes = table[positions]
    else:
        classes = np.full(values.shape, unknown, kind)
        for value, index in pairs:
            classes[values == value] = index
    missing = classes == unknown
    if missing.any():
        _refuse(np.unique(values[missing]), labels)
    return classes


def to_values(classes: NDArray, labels: Labels) -> NDArray:
    """Return (*S) values for a user's file from (*S) class indices, in the smallest type."""
    ignore = labels.values[0] if labels.ignore is None else labels.ignore
    table = np.array([*labels.values, ignore])  # index -1 is IGNORE
    return table.astype(smallest_type(table))[classes]


def listing(values: Iterable[int]) -> str:
    """Return values as text, the first `MAX_SHOWN` of them."""
    order = [int(value) for value in values]
    more = f" and {len(order) - MAX_SHOWN} more" if len(order) > MAX_SHOWN else ""
    return ", ".join(str(value) for value in order[:MAX_SHOWN]) + more


def _refuse(unknown: NDArray, labels: Labels) -> None:
    declared = ", ".join(f"{v} ({n})" for v, n in zip(labels.values, labels.names, strict=True))
    ignored = "" if labels.ignore is None else f", {labels.ignore} (ignored)"
    fix = "correct the labels in the file, or declare the missing classes"
    if 0 in unknown and labels.names[0].casefold() != "background":
        fix = f'add "background": 0 to the declared labels; or {fix}'
    raise DatasetError(
        found=f"label values {listing(unknown)}, which no class has",
        expected=f"only the values {declared}{ignored}",
        fix=fix,
    )

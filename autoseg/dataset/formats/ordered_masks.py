"""Binary masks that a spec lists by class, painted in its order: their values and classes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.nesting import INSIDE
from autoseg.dataset.formats.peek import foregrounds, sample
from autoseg.dataset.label_values import declared_labels
from autoseg.errors import DatasetError
from autoseg.runtime.recipe import Labels

NUM_PEEKED = 4
"""Cases whose masks tell whether they are nested."""


def painted(
    names: Sequence[str],
    cases: Sequence[Mapping[str, Path]],
    spec: DatasetSpec,
    threshold: float | None,
) -> tuple[Labels, dict[str, int]]:
    """Return the classes of binary masks, and the value in which each is painted.

    Unless the spec declares values, they count up from 1; a mask that lies inside an earlier one
    makes that one a region.

    Raises
    ------
    DatasetError
        The labels of the spec do not give each mask a value of its own.
    """
    if spec.labels is not None:
        return _declared(names, spec)
    values = {name: index + 1 for index, name in enumerate(names)}
    inner = _nested(names, cases, threshold)
    sets = {
        name: (value, *(values[other] for other in names if other in inner[name]))
        for name, value in values.items()
    }
    return declared_labels({"background": 0, **sets}, spec.ignore), values


def _declared(names: Sequence[str], spec: DatasetSpec) -> tuple[Labels, dict[str, int]]:
    """Return the classes that a spec declares: what is left of a region is painted in its value."""
    given = {
        name: (value,) if isinstance(value, int) else tuple(value)
        for name, value in (spec.labels or {}).items()
        if not isinstance(value, str)
    }
    missing = [name for name in names if name not in given]
    paint = {}
    for index, name in enumerate(names if not missing else ()):
        above = {value for other in names[index + 1 :] for value in given[other]}
        left = [value for value in given[name] if value not in above]
        if len(left) == 1:
            paint[name] = left[0]
    if len(paint) < len(names):
        wrong = missing or [name for name in names if name not in paint]
        raise DatasetError(
            found=f"masks {', '.join(wrong)} without a value of their own in labels",
            expected="a value for every mask; for a region also those of the masks inside it, "
            'which come later: {"background": 0, "whole": [1, 2], "core": 2}',
            fix="correct labels in the spec, or leave them out",
        )
    if set(given) == set(names):
        given = {"background": (0,), **given}
    labels = declared_labels(
        {name: value[0] if len(value) == 1 else value for name, value in given.items()},
        spec.ignore,
    )
    return labels, paint


def _nested(
    names: Sequence[str], cases: Sequence[Mapping[str, Path]], threshold: float | None
) -> dict[str, set[str]]:
    """Return for each class those painted later whose masks lie inside its own, in a few cases."""
    sizes: Counter[tuple[str, str]] = Counter()
    common: Counter[tuple[str, str]] = Counter()
    whole = [by_class for by_class in cases if len(by_class) == len(names)]
    for by_class in sample(whole, NUM_PEEKED):
        shown = foregrounds([by_class[name] for name in names], threshold)
        for (outer, around), (inner, mask) in combinations(zip(names, shown, strict=False), 2):
            sizes[outer, inner] += int(mask.sum())
            common[outer, inner] += int((mask & around).sum())
    return {
        outer: {
            inner
            for inner in names
            if sizes[outer, inner] and common[outer, inner] >= INSIDE * sizes[outer, inner]
        }
        for outer in names
    }

"""Binary masks with one class each: which lie inside which, and the classes and regions they are.

Letters in shapes: S spatial axes (ZYX or YX).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from numpy.typing import NDArray

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.files import foreground
from autoseg.dataset.formats.format import Problem
from autoseg.dataset.label_values import declared_labels
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.images import read_mask
from autoseg.runtime.recipe import Labels

NUM_LOOKED_AT = 3
"""Masks of each class that are compared with the others of their cases."""
MAX_LOOKED_AT = 20
"""Cases that are read for that: some masks are empty."""
INSIDE = 0.95
"""A mask lies inside another one with this part of its voxels: borders are drawn by hand."""
OUTSIDE = 0.05
"""Two masks are apart with at most this part of the smaller one in common."""


@dataclass(frozen=True)
class Painting:
    """How binary masks become one map of values."""

    values: dict[str, int]
    """Value of each mask, in the order of painting: later ones on top."""
    labels: Labels
    problems: tuple[Problem, ...] = ()


def painting(
    names: Sequence[str],
    cases: Sequence[Mapping[str, Path]],
    spec: DatasetSpec,
    threshold: float | None,
    *,
    is_ordered: bool = False,
) -> Painting:
    """Return how the masks `names` are painted: as `spec` declares, else as they lie in `cases`.

    A mask that lies inside another one is painted later, and the outer one becomes a region.
    `is_ordered`: the user gave the masks in the order of painting; large ones come first if not.

    Raises
    ------
    DatasetError
        The labels of the spec do not give each mask a value of its own.
    """
    if spec.labels is not None:
        return _declared(names, spec, is_ordered=is_ordered)
    sizes, common = _compare(names, cases, threshold)
    order = [*names] if is_ordered else sorted(names, key=lambda name: -sizes[name])
    values = {name: index + 1 for index, name in enumerate(order)}
    inside: dict[str, list[int]] = {name: [values[name]] for name in order}
    problems = []
    for outer, inner in combinations(order, 2):
        shared = common[outer, inner] / max(sizes[inner], 1)
        if shared >= INSIDE:
            inside[outer].append(values[inner])
        elif shared > OUTSIDE and not is_ordered:
            problems.append(
                Problem(
                    f"masks {outer} and {inner} share {shared:.0%} of the smaller one",
                    expected="masks of which one lies inside the other, or apart",
                    remedy='name both under "labels" in a file given with --spec, the one on top '
                    "last",
                )
            )
    labels = declared_labels({"background": 0, **inside}, spec.ignore)
    return Painting(values, labels, tuple(problems))


def _declared(names: Sequence[str], spec: DatasetSpec, *, is_ordered: bool) -> Painting:
    """Return the painting of the classes of a spec: regions with most values first.

    What is left of a region by the masks above it is painted in its value.
    """
    given = {
        name: (value,) if isinstance(value, int) else tuple(value)
        for name, value in (spec.labels or {}).items()
        if not isinstance(value, str)
    }
    order = [name for name in names if name in given]
    if not is_ordered:
        listed = [*given]
        order.sort(key=lambda name: (-len(given[name]), listed.index(name)))
    values = {}
    for index, name in enumerate(order):
        above = {value for other in order[index + 1 :] for value in given[other]}
        left = [value for value in given[name] if value not in above]
        if len(left) == 1:
            values[name] = left[0]
    wrong = [name for name in names if name not in values]
    if wrong:
        raise DatasetError(
            found=f"masks {', '.join(wrong)} without a value of their own in labels "
            f"{', '.join(given)}",
            expected="a value for every mask; for a region also those of the masks inside it, "
            'which come later: {"background": 0, "whole": [1, 2], "core": 2}',
            fix="correct labels in the spec, or leave them out",
        )
    if set(given) == set(names):
        given = {"background": (0,), **given}
    return Painting(values, declared_labels(given, spec.ignore))


def _compare(
    names: Sequence[str], cases: Sequence[Mapping[str, Path]], threshold: float | None
) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Return the voxels of each mask, and those of each pair, summed over a few cases.

    Of every class some masks that are not empty, where there are such; a missing mask is empty.
    """
    sizes: Counter[str] = Counter()
    common: Counter[tuple[str, str]] = Counter()
    num_seen = Counter(dict.fromkeys(names, 0))
    num_read = 0
    for paths in cases:
        if num_read == MAX_LOOKED_AT or all(num_seen[name] >= NUM_LOOKED_AT for name in paths):
            continue
        num_read += 1
        masks = _read(paths, threshold)
        found = {name: int(mask.sum()) for name, mask in masks.items()}
        sizes.update(found)
        num_seen.update(name for name, size in found.items() if size)
        for first, second in combinations(masks, 2):
            shared = int((masks[first] & masks[second]).sum())
            common[first, second] += shared
            common[second, first] += shared
    return sizes, common


def _read(paths: Mapping[str, Path], threshold: float | None) -> dict[str, NDArray]:
    """Return (*S) where each mask is; nothing of a case with broken files: checks report them."""
    try:
        masks = {
            name: foreground(path, read_mask(path).array, threshold) for name, path in paths.items()
        }
    except AutosegError:
        return {}
    shapes = {mask.shape for mask in masks.values()}
    return masks if len(shapes) == 1 else {}

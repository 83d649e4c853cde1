"""Binary masks with one class each: which lie inside which, and the classes and regions they are.

Letters in shapes: S spatial axes (ZYX or YX).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from numpy.typing import NDArray

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.files import foreground
from autoseg.dataset.label_values import declared_labels, spec_labels
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.images import read_mask
from autoseg.runtime.recipe import Labels

NUM_LOOKED_AT = 3
"""Cases whose masks are compared."""
MAX_LOOKED_AT = 20
"""The same, as long as a mask was empty in all of them."""
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
    problems: tuple[str, ...] = ()


def painting(
    names: Sequence[str],
    cases: Iterable[Mapping[str, Path]],
    spec: DatasetSpec,
    threshold: float | None,
) -> Painting:
    """Return how the masks `names` are painted: as `spec` declares, else as they lie in `cases`.

    A mask that lies inside another one is painted later, and the outer one becomes a region.

    Raises
    ------
    DatasetError
        The spec declares other classes than there are masks.
    """
    if spec.labels is not None:
        return _declared(names, spec)
    sizes, common = _compare(names, cases, threshold)
    order = sorted(names, key=lambda name: (-sizes[name], names.index(name)))
    values = {name: index + 1 for index, name in enumerate(order)}
    inside: dict[str, list[int]] = {name: [values[name]] for name in order}
    problems = []
    for outer, inner in combinations(order, 2):
        shared = common[outer, inner] / max(sizes[inner], 1)
        if shared >= INSIDE:
            inside[outer].append(values[inner])
        elif shared > OUTSIDE:
            problems.append(
                f"masks {outer} and {inner} share {shared:.0%} of the smaller one: name both "
                'under "labels" in a file given with --spec, the one on top last'
            )
    declared = {"background": 0} | {
        name: found[0] if len(found) == 1 else found for name, found in inside.items()
    }
    return Painting(values, declared_labels(declared, spec.ignore), tuple(problems))


def _declared(names: Sequence[str], spec: DatasetSpec) -> Painting:
    """Return the painting in the order of the spec, regions with most values first."""
    labels = spec_labels(spec)
    assert labels is not None, "asked for declared labels only"
    sets = {
        name: {given} if isinstance(given, int) else set(given)
        for name, given in (spec.labels or {}).items()
        if not isinstance(given, str) and name != labels.names[0]
    }
    if set(sets) != set(names):
        raise DatasetError(
            found=f"labels {', '.join(sets) or 'without foreground'}, masks {', '.join(names)}",
            expected="a class of the name of each mask",
            fix="correct the labels in the spec: "
            f"{', '.join(['background', *names])}, each with its value",
        )
    values = {}
    for name in sorted(sets, key=lambda name: -len(sets[name])):
        smaller = [found for found in sets.values() if found < sets[name]]
        values[name] = min(sets[name].difference(*smaller) or sets[name])
    return Painting(values, labels)


def _compare(
    names: Sequence[str], cases: Iterable[Mapping[str, Path]], threshold: float | None
) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Return the voxels of each mask, and those of each pair, summed over the first cases."""
    sizes: Counter[str] = Counter()
    common: Counter[tuple[str, str]] = Counter()
    for index, paths in enumerate(cases):
        is_seen = all(sizes[name] for name in names)
        if index >= (NUM_LOOKED_AT if is_seen else MAX_LOOKED_AT):
            break
        masks = _read(paths, threshold)
        sizes.update({name: int(mask.sum()) for name, mask in masks.items()})
        for first, second in combinations(masks, 2):
            shared = int((masks[first] & masks[second]).sum())
            common[first, second] += shared
            common[second, first] += shared
    return sizes, common


def _read(paths: Mapping[str, Path], threshold: float | None) -> dict[str, NDArray]:
    """Return (*S) where each mask is; nothing of a case with broken files: checks report them."""
    try:
        masks = {name: foreground(read_mask(path).array, threshold) for name, path in paths.items()}
    except AutosegError:
        return {}
    shapes = {mask.shape for mask in masks.values()}
    return masks if len(shapes) == 1 else {}

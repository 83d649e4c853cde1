"""The data set in a few numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint

CUBIC_MM_PER_ML = 1000.0


@dataclass(frozen=True)
class Spread:
    """A property of the cases, by axis."""

    name: str
    median: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]


@dataclass(frozen=True)
class ClassFacts:
    """A class in the data set; None where the fingerprint has no counts."""

    name: str
    value: int
    num_cases: int | None
    share: float | None
    """Of all annotated voxels."""
    median_size: float | None
    """Of the cases that have the class, in `unit`."""
    unit: str
    median_components: float | None


def spreads(fingerprint: Fingerprint) -> tuple[Spread, ...]:
    """Return shape and spacing over the cases."""
    unit, of = fingerprint.unit, "samples" if fingerprint.dimensions == 1 else "voxels"
    return (
        _spread(f"Shape ({of})", [case.shape for case in fingerprint.cases]),
        _spread("Shape without empty margins", [c.shape_after_crop for c in fingerprint.cases]),
        _spread(f"Spacing ({unit})", [case.spacing for case in fingerprint.cases]),
    )


def class_facts(fingerprint: Fingerprint) -> tuple[ClassFacts, ...]:
    """Return how often and how large each class is."""
    labels = fingerprint.labels
    counted = [case for case in fingerprint.cases if case.class_voxels]
    total = sum(sum(case.class_voxels) for case in counted)
    found = []
    for index, (name, value) in enumerate(zip(labels.names, labels.values, strict=True)):
        present = [case for case in counted if case.class_voxels[index]]
        sizes = [_size(case, index, fingerprint.unit) for case in present]
        components = [
            case.class_components[index]
            for case in present
            if index and len(case.class_components) > index
        ]
        voxels = sum(case.class_voxels[index] for case in present)
        found.append(
            ClassFacts(
                name=name,
                value=value,
                num_cases=len(present) if counted else None,
                share=voxels / total if total else None,
                median_size=float(np.median(sizes)) if sizes else None,
                unit=_size_unit(fingerprint),
                median_components=float(np.median(components)) if components else None,
            )
        )
    return tuple(found)


def _size(case: CaseStats, index: int, unit: str) -> float:
    """Return the size of a class in one case, in `_size_unit`."""
    size = case.class_voxels[index] * math.prod(case.spacing)
    return size / CUBIC_MM_PER_ML if unit == "mm" and len(case.spacing) == 3 else size


def _size_unit(fingerprint: Fingerprint) -> str:
    if fingerprint.unit == "pixel":
        return "pixels"
    return {1: fingerprint.unit, 2: "mm²", 3: "ml"}[fingerprint.dimensions]


def _spread(name: str, rows: Sequence[Sequence[float]]) -> Spread:
    table = np.array(rows, float)
    return Spread(
        name,
        tuple(np.median(table, axis=0)),
        tuple(table.min(axis=0)),
        tuple(table.max(axis=0)),
    )

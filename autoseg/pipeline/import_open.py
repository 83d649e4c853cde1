"""Opening a folder for an import: what stands in the way is declared away where that can be."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Dataset, DatasetSpec, Finding
from autoseg.dataset.fixes import with_fixes
from autoseg.dataset.formats.registry import formats
from autoseg.dataset.open import open_dataset
from autoseg.dataset.problems import DatasetProblems
from autoseg.errors import AutosegError, DatasetError
from autoseg.pipeline.examining import without_cases
from autoseg.pipeline.proposals import unknown_layout

MAX_STEPS = 4
"""A layout is chosen, cases are left out, masks are read otherwise: each once, and once more."""


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Something that the spec now declares because files could not be read without."""

    declared: dict[str, Any]
    """Fields of the spec."""
    places: tuple[str, ...]
    """Ids of cases, or names of files, that need it."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A data set, and what had to be declared for it."""

    dataset: Dataset
    spec: DatasetSpec
    repairs: tuple[Repair, ...] = ()
    left_out: tuple[str, ...] = ()
    """Cases without a partner, or with names that are not clear."""
    problems: tuple[Finding, ...] = ()
    """What is declared away by leaving cases out or by choosing a layout."""


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """A declaration that is tried, and how it came about."""

    spec: DatasetSpec
    repairs: tuple[Repair, ...] = ()
    problems: tuple[Finding, ...] = ()


def open_repaired(root: Path, start: DatasetSpec) -> Opened:
    """Return a data set with the declaration that it needs, as far as looking tells that.

    Smoothed masks need a threshold, masks in colours or channels the names of these; cases that
    lack a file are left out; where a layout is not clear, what its remedy proposes is declared.

    Raises
    ------
    DatasetError
        Something is wrong that no declaration removes: the first that was.
    """
    attempt, first = _Attempt(spec=start), None
    for _ in range(MAX_STEPS):
        try:
            dataset = _open(root, attempt.spec)
        except DatasetError as error:
            first = first or error
            following = _after(attempt, error)
            if following is None:
                raise first from None
            attempt = following
        else:
            known = set(start.exclude or {})
            return Opened(
                dataset=dataset,
                spec=attempt.spec,
                repairs=attempt.repairs,
                left_out=tuple(name for name in attempt.spec.exclude or {} if name not in known),
                problems=attempt.problems,
            )
    assert first is not None
    raise first


def repairs_of(findings: Sequence[Finding]) -> tuple[Repair, ...]:
    """Return what the fixes of findings declare, each with the cases or files that need it."""
    places: dict[str, dict[str, None]] = defaultdict(dict)
    for finding in findings:
        if finding.fix:
            names = (finding.case,) if finding.case else finding.files
            places[json.dumps(finding.fix)].update(dict.fromkeys(names))
    return tuple(Repair(declared=json.loads(fix), places=(*at,)) for fix, at in places.items())


def _open(root: Path, spec: DatasetSpec) -> Dataset:
    """Return the data set; a folder of no known layout gets patterns proposed."""
    is_declared = any((spec.layout, spec.images, spec.masks, spec.table))
    if root.is_dir() and not is_declared and not any(entry.is_found(root) for entry in formats()):
        raise unknown_layout(root)
    return open_dataset(root, spec, None)


def _after(attempt: _Attempt, error: DatasetError) -> _Attempt | None:
    """Return what to try after an error; None if nothing is left."""
    if not isinstance(error, DatasetProblems):
        return _as_proposed(attempt, error)
    spec = with_fixes(attempt.spec, error.findings)
    if spec != attempt.spec:
        repairs = (*attempt.repairs, *repairs_of(error.findings))
        return replace(attempt, spec=spec, repairs=repairs)
    of_cases = [finding for finding in error.findings if finding.case is not None]
    reduced = without_cases(attempt.spec, of_cases)  # what else there is comes again without them
    if reduced is None:
        return None
    doubts = (finding.revised(severity="warning") for finding in of_cases)
    return replace(attempt, spec=reduced, problems=(*attempt.problems, *doubts))


def _as_proposed(attempt: _Attempt, error: DatasetError) -> _Attempt | None:
    """Return the declaration that stands in a remedy, joined to what is declared already."""
    fragment = _fragment(error.fix)
    if not fragment or any(getattr(attempt.spec, name, None) is not None for name in fragment):
        return None
    try:
        proposed = DatasetSpec.from_json(json.dumps(fragment), "proposal")
    except AutosegError:
        return None
    spec = attempt.spec.revised(**{name: getattr(proposed, name) for name in fragment})
    if set(fragment) == {"labels"}:  # the colours of the masks, in which nothing is to be chosen
        return replace(attempt, spec=spec)
    doubt = Finding(
        severity="warning",
        found=error.found,
        expected=error.expected,
        remedy="compare the picture; where something else is meant, change in the spec what is "
        f"only proposed: {json.dumps(fragment)}",
    )
    return replace(attempt, spec=spec, problems=(*attempt.problems, doubt))


def _fragment(text: str) -> dict[str, Any]:
    """Return the last object in JSON in a text; {} if there is none."""
    decoder, place, found = json.JSONDecoder(), text.find("{"), {}
    while place >= 0:
        try:
            content, end = decoder.raw_decode(text, place)
        except ValueError:
            end = place + 1
        else:
            found = content
        place = text.find("{", end)
    return found

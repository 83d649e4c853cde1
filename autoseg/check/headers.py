"""What the headers of the files tell, without reading pixels: thousands of cases in seconds."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from autoseg.check.outliers import spread_findings
from autoseg.check.subject import finding
from autoseg.dataset.dataset import Case, Dataset, Finding, Reading
from autoseg.dataset.files import read_file_extent, read_image_files, read_label_files
from autoseg.dataset.formats.format import Format
from autoseg.dataset.formats.registry import find_format
from autoseg.dataset.problems import error_finding
from autoseg.errors import AutosegError
from autoseg.runtime.images import Extent, read_extent, same_spacing

NUM_READERS = 4
"""Threads: opening files waits for the disk."""


class _Header(NamedTuple):
    """What is kept of one case."""

    case: Case
    extent: Extent | None
    """None: no header can be read."""
    findings: tuple[Finding, ...]


def check_headers(dataset: Dataset, on_case: Callable[[str], None]) -> tuple[Finding, ...]:
    """Return what is wrong with the headers of images and labels: sizes, spacings, channels.

    Whether files are whole, and what the voxels hold, is not known without reading them.
    """
    known = find_format(dataset.layout)
    if known.read_extent is read_file_extent and known.read_image is not read_image_files:
        return (
            finding(
                "note",
                f"the layout {dataset.layout}, whose files tell no sizes without being read",
                "files with headers, or a format that reads extents",
                "leave --headers out: pixels tell more anyway",
            ),
        )

    def look(case: Case) -> _Header:
        header = _look(dataset, known, case)
        on_case(case.id)
        return header

    with ThreadPoolExecutor(NUM_READERS) as pool:
        headers = list(pool.map(look, dataset.cases))
    findings = [item for header in headers for item in header.findings]
    return (*findings, *_among(dataset, headers))


def _look(dataset: Dataset, known: Format, case: Case) -> _Header:
    """Return a case's extent, and what its headers contradict."""
    findings: list[Finding] = []
    images = _image_extents(dataset, known, case, findings)
    labels = _label_extents(dataset, known, case, findings)
    if not images:
        return _Header(case, None, tuple(findings))
    first = images[0]
    others = (
        *zip(case.images[1:], images[1:], strict=False),
        *zip(case.labels, _as_read(dataset.reading, first, labels), strict=False),
    )
    for name, other in others:
        problem = _difference(first, other)
        if problem is not None:
            found, expected = problem
            findings.append(
                Finding(
                    severity="error",
                    files=(case.images[0], name),
                    case=case.id,
                    found=found,
                    expected=expected,
                    remedy="correct the pairing of the files or their headers; "
                    "`autoseg check --fix` without --headers tells whether it can be put right",
                )
            )
    channels = sum(extent.num_channels for extent in images)
    extent = Extent(channels, first.shape, first.spacing, first.unit)
    return _Header(case, extent, tuple(findings))


def _as_read(reading: Reading, image: Extent, labels: Sequence[Extent]) -> list[Extent]:
    """Return the extents that labels have once they are read; none where they are resampled."""
    if "resample_labels" in reading.fixes:
        return []
    found = []
    for extent in labels:
        shape, spacing = extent.shape, extent.spacing
        if reading.masks == "channels" and extent.num_channels == 1:
            shape, spacing = shape[1:], spacing[1:]  # the pages of one file, one a class
        if "copy_geometry" in reading.fixes and shape == image.shape:
            spacing = image.spacing
        found.append(Extent(extent.num_channels, shape, spacing, extent.unit))
    return found


def _image_extents(
    dataset: Dataset, known: Format, case: Case, findings: list[Finding]
) -> list[Extent]:
    """Return the extent of each image file, or of all together where the format reads them."""
    if known.read_extent is read_file_extent:
        readers = [partial(read_extent, [path]) for path in dataset.image_paths(case)]
        return _extents(readers, case.images, case, findings)
    return _extents([partial(known.read_extent, dataset, case)], case.images, case, findings)


def _label_extents(
    dataset: Dataset, known: Format, case: Case, findings: list[Finding]
) -> list[Extent]:
    """Return the extent of each label file, or of the labels where the format reads them.

    None where there are no labels, or only reading them tells.
    """
    if known.read_label_extent is not None:
        reader = partial(known.read_label_extent, dataset, case)
        return _extents([reader] * bool(case.labels), case.labels, case, findings)
    if known.read_labels is not read_label_files:
        return []
    readers = [partial(read_extent, [path]) for path in dataset.label_paths(case)]
    return _extents(readers, case.labels, case, findings)


def _extents(
    readers: Sequence[Callable[[], Extent]],
    names: Sequence[str],
    case: Case,
    findings: list[Finding],
) -> list[Extent]:
    """Return the extents that can be read, adding an error for each that cannot."""
    extents = []
    for read, name in zip(readers, names, strict=False):
        try:
            extents.append(read())
        except AutosegError as error:
            findings.append(error_finding(error, (name,), case.id))
    return extents


def _difference(first: Extent, other: Extent) -> tuple[str, str] | None:
    """Return how two extents of one case contradict each other, and what was expected."""
    if first.shape != other.shape:
        shapes = (" x ".join(str(n) for n in extent.shape) for extent in (first, other))
        return "shapes {} and {}".format(*shapes), "the same shape for all files of a case"
    if first.unit == other.unit and not same_spacing(first.spacing, other.spacing):
        steps = (" x ".join(f"{n:g}" for n in extent.spacing) for extent in (first, other))
        return "spacings {} and {}".format(*steps), "the same spacing for all files of a case"
    return None


def _among(dataset: Dataset, headers: Sequence[_Header]) -> list[Finding]:
    """Return cases unlike the others: number of channels or axes, spacing, extent."""
    known = [(header.case, header.extent) for header in headers if header.extent is not None]
    if not known:
        return []
    channels = Counter(extent.num_channels for _, extent in known)
    num_channels = len(dataset.channels) or channels.most_common(1)[0][0]
    num_axes = Counter(len(extent.shape) for _, extent in known).most_common(1)[0][0]
    findings = []
    for case, extent in known:
        for what, count, usual in (
            ("channel", extent.num_channels, num_channels),
            ("axis", len(extent.shape), num_axes),
        ):
            if count != usual:
                findings.append(_odd(case, what, count, usual))
    usual = [(case, extent) for case, extent in known if len(extent.shape) == num_axes]
    unit = Counter(extent.unit for _, extent in known).most_common(1)[0][0]
    return [
        *findings,
        *spread_findings(
            [case.images[0] for case, _ in usual],
            np.array([extent.spacing for _, extent in usual]),
            np.array([extent.shape for _, extent in usual]),
            "pixels" if unit == "pixel" else unit,
        ),
    ]


def _odd(case: Case, what: str, count: int, usual: int) -> Finding:
    """Return an error about a case with another number of channels or axes than all others."""
    plural = {"channel": "channels", "axis": "axes"}[what]
    return Finding(
        severity="error",
        files=case.images,
        case=case.id,
        found=f"{count} {what if count == 1 else plural}",
        expected=f"{usual} {what if usual == 1 else plural}, as all cases have or are declared",
        remedy="correct the file, or leave the case out",
    )

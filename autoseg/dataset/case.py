"""One case: its image and its class indices, checked against each other.

Letters in shapes: C channels, S spatial axes (ZYX or YX).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.dataset.formats.registry import find_format
from autoseg.dataset.label_values import to_classes
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.images import Image, same_spacing

POSITION_TOLERANCE = 0.5
"""Origins may differ by this part of a voxel: tools round them differently."""
DIRECTION_TOLERANCE = 1e-2
MAX_LISTED = 200
"""Lines of one error message."""


def read_case(dataset: Dataset, case: Case) -> tuple[Image, NDArray]:
    """Return the image and the class indices (*S) of a case (`IGNORE` where nothing is annotated).

    Raises
    ------
    DatasetError
        A file is missing, unreadable, or does not fit the other; all problems are listed.
    """
    image, classes, findings = inspect_case(dataset, case)
    if image is None or classes is None:
        raise as_error([finding for finding in findings if finding.severity == "error"])
    return image, classes


def inspect_case(
    dataset: Dataset, case: Case
) -> tuple[Image | None, NDArray | None, list[Finding]]:
    """Return what `read_case` does, and all findings; (None, None, findings) if one is an error."""
    findings: list[Finding] = []
    image, mask, classes = None, None, None
    try:
        image = find_format(dataset.layout).read_image(dataset, case)
        findings += _channel_findings(dataset, case, image)
    except AutosegError as error:
        findings.append(error_finding(error, case.images))
    try:
        mask = read_values(dataset, case, image)
        classes = None if mask is None else to_classes(mask.array[0], dataset.labels)
    except AutosegError as error:
        findings.append(error_finding(error, case.labels))
    if image is not None and mask is not None:
        findings += _grid_findings(case, image, mask)
    if any(finding.severity == "error" for finding in findings):
        return None, None, findings
    return image, classes, findings


def read_values(dataset: Dataset, case: Case, image: Image | None) -> Image | None:
    """Return the values of a case's labels, (1, *S); background where the case has no labels.

    None where it has none and `image`, which tells the shape, is None too.
    """
    if case.labels:
        return find_format(dataset.layout).read_labels(dataset, case)
    if image is None:
        return None
    background = np.full((1, *image.shape), dataset.labels.values[0])
    return Image(background, image.geometry)


def as_error(findings: Sequence[Finding]) -> DatasetError:
    """Return one error with a line for each finding, each expectation and each remedy."""
    lines = [describe(finding) for finding in findings[:MAX_LISTED]]
    if len(findings) > MAX_LISTED:
        lines.append(f"... and {len(findings) - MAX_LISTED} more")
    if len(findings) > 1:
        lines.insert(0, f"{len(findings)} problems:")
    expected = dict.fromkeys(finding.expected for finding in findings)
    remedies = dict.fromkeys(finding.remedy for finding in findings)
    return DatasetError(
        found="\n".join(lines), expected="\n".join(expected), fix="\n".join(remedies)
    )


def error_finding(error: AutosegError, files: tuple[str, ...]) -> Finding:
    """Return an error as a finding about some files."""
    return Finding(
        severity="error",
        files=files,
        found=error.found,
        expected=error.expected,
        remedy=error.fix,
    )


def describe(finding: Finding) -> str:
    """Return a finding's files and what was found, in one line."""
    names = [name for name in finding.files if name not in finding.found]
    return f"{', '.join(names)}: {finding.found}" if names else finding.found


def _channel_findings(dataset: Dataset, case: Case, image: Image) -> list[Finding]:
    findings = []
    names, count = dataset.channels, len(image.array)
    if count != len(names):
        found = f"{count} channel{'s' * (count > 1)}"
        expected = f"{len(names)}: {', '.join(names)}"
        remedy = "correct the file, or the channels declared"
        findings.append(_error(case.images, found, expected, remedy))
    if image.array.dtype.kind == "f":
        is_bad = ~np.isfinite(image.array)
        if is_bad.any():
            found = f"NaN or infinite values in {int(is_bad.sum())} of {is_bad.size} voxels"
            remedy = "replace them, e.g. by the value of the background"
            findings.append(_error(case.images, found, "finite numbers in every voxel", remedy))
    return findings


def _error(files: tuple[str, ...], found: str, expected: str, remedy: str) -> Finding:
    return Finding(severity="error", files=files, found=found, expected=expected, remedy=remedy)


def _grid_findings(case: Case, image: Image, mask: Image) -> list[Finding]:
    """Return how the grids of image and labels differ."""
    files = (case.images[0], *case.labels[:1])
    names = Path(files[0]).name, Path(files[-1]).name
    shape, mask_shape = image.shape, mask.shape
    if shape != mask_shape:
        found = f"the image has shape {_product(shape)}, the labels {_product(mask_shape)}"
        remedy = "resample the labels to the image's grid, or correct the pairing of the files"
        return [_error(files, found, "the same shape for both", remedy)]
    first, second = image.geometry, mask.geometry
    if first.unit != second.unit:
        return []
    if not same_spacing(first.spacing, second.spacing):
        found = f"the image has spacing {first.spacing} mm, the labels {second.spacing} mm"
        remedy = "correct the header of the file that is wrong"
        return [_error(files, found, "the same spacing for both", remedy)]
    if not (first.origin and second.origin) or _same_position(image, mask):
        return []
    return [
        Finding(
            severity="warning",
            files=files,
            found=f"the headers of {names[0]} and {names[1]} differ in origin or direction",
            expected="the same position and orientation for both",
            remedy="check that the labels lie on the structures; the voxels are used as they are",
        )
    ]


def _same_position(image: Image, mask: Image) -> bool:
    first, second = image.geometry, mask.geometry
    distance = np.abs(np.subtract(first.origin, second.origin)).max()
    turn = np.abs(np.subtract(first.direction, second.direction)).max()
    is_near = distance <= POSITION_TOLERANCE * min(first.spacing)
    return bool(is_near and turn <= DIRECTION_TOLERANCE)


def _product(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)

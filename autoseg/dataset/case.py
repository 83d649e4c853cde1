"""One case: its image and its class indices, checked against each other.

Letters in shapes: C channels, S spatial axes (ZYX or YX).
"""

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.annotated import own_labels
from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.dataset.fixes import finite_image, label_finding
from autoseg.dataset.formats.registry import find_format
from autoseg.dataset.grids import fit_labels
from autoseg.dataset.label_values import to_classes
from autoseg.dataset.problems import as_error as as_error
from autoseg.dataset.problems import describe as describe
from autoseg.dataset.problems import error_finding as error_finding
from autoseg.errors import AutosegError
from autoseg.runtime.images import Image


def read_case(dataset: Dataset, case: Case) -> tuple[Image, NDArray]:
    """Return the image and the class indices (*S) of a case (`IGNORE` where nothing is annotated).

    Raises
    ------
    DatasetProblems
        A file is missing, unreadable, or does not fit the other; all problems are listed.
    """
    image, classes, findings = inspect_case(dataset, case)
    if image is None or classes is None:
        raise as_error([finding for finding in findings if finding.severity == "error"])
    return image, classes


def read_classes(dataset: Dataset, case: Case) -> NDArray:
    """Return the class indices (*S) of a case; its image is read only where they depend on it.

    Raises
    ------
    AutosegError
        A file is missing, unreadable, or holds values that no class has.
    """
    if not case.labels or "resample_labels" in dataset.reading.fixes:
        return read_case(dataset, case)[1]
    values = find_format(dataset.layout).read_labels(dataset, case).array[0]
    return own_labels(to_classes(values, dataset.labels), case, dataset.labels)


def inspect_case(
    dataset: Dataset, case: Case
) -> tuple[Image | None, NDArray | None, list[Finding]]:
    """Return what `read_case` does, and all findings; (None, None, findings) if one is an error.

    What the data set's fixes allow is put right here, for everything that reads cases.
    """
    image, findings = inspect_image(dataset, case)
    classes: NDArray | None = None
    try:
        mask = read_values(dataset, case, image)
        if mask is not None and image is not None:
            mask, more = fit_labels(dataset, case, image, mask)
            findings += more
        if mask is not None:
            classes = own_labels(to_classes(mask.array[0], dataset.labels), case, dataset.labels)
    except AutosegError as error:
        findings.append(label_finding(dataset, case, error))
    if any(finding.severity == "error" for finding in findings):
        return None, None, findings
    return image, classes, findings


def inspect_image(dataset: Dataset, case: Case) -> tuple[Image | None, list[Finding]]:
    """Return a case's image, None if it cannot be read, and the findings about it."""
    try:
        image = find_format(dataset.layout).read_image(dataset, case)
    except AutosegError as error:
        return None, [error_finding(error, case.images, case.id)]
    image, findings = finite_image(dataset, case, image)
    return image, [*channel_findings(dataset, case, len(image.array)), *findings]


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


def channel_findings(dataset: Dataset, case: Case, count: int) -> list[Finding]:
    """Return an error if an image has another number of channels than the data set."""
    names = dataset.channels
    if count == len(names):
        return []
    return [
        Finding(
            severity="error",
            files=case.images,
            case=case.id,
            found=f"{count} channel{'s' * (count > 1)}",
            expected=f"{len(names)}: {', '.join(names)}",
            remedy="correct the file, or the channels declared",
        )
    ]

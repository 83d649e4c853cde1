"""What may be put right while a case is read, and how a spec asks for it.

Letters in shapes: C channels, S spatial axes (ZYX or YX).
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case, Dataset, DatasetSpec, Finding, Fix
from autoseg.dataset.files import read_label_files
from autoseg.dataset.formats.lossy import declared_greys
from autoseg.dataset.formats.registry import find_format
from autoseg.dataset.problems import error_finding
from autoseg.dataset.stray import with_strays
from autoseg.errors import AutosegError
from autoseg.runtime.geometry import Image
from autoseg.runtime.images import LOSSY_FORMATS, read_mask

END = 0.125
"""Values within this part of the range from either end belong to background or foreground."""
MIN_TOP = 128
"""Below this the highest value is the number of a class, not a brightness."""
MAX_BETWEEN = 0.2
"""A smooth edge is a small part of the foreground; classes between the ends would be more."""
MANY = 32
"""More different values are no classes anyway ..."""
MAX_BETWEEN_MANY = 0.7
"""... so that thin structures, which are nearly all edge, may have more between the ends."""
FIXED = "nothing: it is put right while the files are read, which stay as they are"


def finite_image(dataset: Dataset, case: Case, image: Image) -> tuple[Image, list[Finding]]:
    """Return the image, without NaN where the fix `replace_nan` is on, and what was found."""
    if image.array.dtype.kind != "f":
        return image, []
    is_good = np.isfinite(image.array)
    if is_good.all():
        return image, []
    others = np.array([channel.any() for channel in is_good])
    finding = finite_finding(dataset, case, int(is_good.size - is_good.sum()), is_good.size, others)
    if finding.severity == "error":
        return image, [finding]
    return Image(_without_nan(image.array, is_good), image.geometry), [finding]


def finite_finding(
    dataset: Dataset, case: Case, count: int, size: int, has_others: NDArray[np.bool_]
) -> Finding:
    """Return that `count` of `size` voxels are no numbers; an error where that is not put right.

    Parameters
    ----------
    has_others : (C,) bool
        Whether a channel has other voxels.
    """
    expected = "finite numbers in every voxel"
    found = f"NaN or infinite values in {count} of {size} voxels"
    if not has_others.all():
        found += ", a channel has no other"
        remedy = "export the file again, or leave the case out"
        return case_finding("error", case, case.images, found, expected, remedy)
    if "replace_nan" in dataset.reading.fixes:
        found += ", read as the smallest number of their channel"
        return case_finding("note", case, case.images, found, expected, FIXED)
    remedy = "replace them, e.g. by the value of the background"
    return fixable(case, case.images, found, expected, remedy, "replace_nan")


def label_finding(dataset: Dataset, case: Case, error: AutosegError) -> Finding:
    """Return why a case's labels cannot be read, with the fields of a spec that help, if any do."""
    finding = error_finding(error, case.labels, case.id)
    try:
        fix = _label_fix(dataset, case)
        if fix is None and dataset.label_paths(case)[0].name.lower().endswith(LOSSY_FORMATS):
            return _with_greys(dataset, case, finding)
        if fix is None:
            return with_strays(dataset, case, finding)
    except AutosegError:
        return finding
    return finding.revised(fix=fix, remedy=with_fix(finding.remedy, fix))


def grey_threshold(values: NDArray, counts: NDArray) -> float | None:
    """Return where to cut binary masks that were smoothed, resized or stored as JPEG, else None.

    Their values gather at both ends of the range: a class 255 beside classes 0 to 20 does not.

    Parameters
    ----------
    values : (N,) int
        Different values in the masks, rising.
    counts : (N,) int
        Voxels that have them.
    """
    top = int(values[-1]) if len(values) else 0
    if top < MIN_TOP or values[0] != 0 or len(values) < 5:
        return None
    low, high = values <= END * top, values >= (1 - END) * top
    between = ~(low | high)
    if high.sum() < 2 or (low.sum() < 2 and between.sum() < 6):
        return None
    foreground = counts[between | high].sum()
    most = MAX_BETWEEN_MANY if len(values) > MANY else MAX_BETWEEN
    return (top + 1) / 2 if counts[between].sum() <= most * foreground else None


def with_fixes(spec: DatasetSpec, findings: Sequence[Finding]) -> DatasetSpec:
    """Return a spec with what the fixes of some findings set; what it already sets stays.

    Values that a file cannot be rid of, as it holds those of a class beside them, are not mapped:
    there they mean something else.
    """
    content = spec.model_dump(mode="json")
    others = {finding.found for finding in findings if finding.fix is None}
    told = {finding.found for finding in findings if "label_map" in (finding.fix or {})}
    unclear = {found for found in told if any(other.startswith(found) for other in others)}
    for finding in findings:
        for name, value in (finding.fix or {}).items():
            if name == "label_map" and finding.found in unclear:
                continue
            before = content.get(name)
            if isinstance(value, dict):
                content[name] = {**value, **(before or {})}
            elif isinstance(value, (list, tuple)):
                content[name] = list(dict.fromkeys([*(before or ()), *value]))
            elif before is None:
                content[name] = value
    return DatasetSpec.from_json(json.dumps(content), "spec")


def with_fix(remedy: str, fix: dict[str, Any]) -> str:
    """Return a remedy with the way that changes no file: what to write into a spec."""
    return f"{remedy}; or `autoseg check --fix`, which adds {json.dumps(fix)} to the spec"


def _label_fix(dataset: Dataset, case: Case) -> dict[str, Any] | None:
    """Return what would make unreadable labels readable: a threshold, rounding, or a map."""
    reading = dataset.reading
    is_plain = reading.masks == "values" and reading.threshold is None and len(case.labels) == 1
    if not is_plain or find_format(dataset.layout).read_labels is not read_label_files:
        return None
    path = dataset.label_paths(case)[0]
    array = read_mask(path).array
    if len(array) > 1 and not (array == array[:1]).all():
        return None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return None
    values, counts = np.unique(array[0], return_counts=True)
    is_binary = not dataset.labels_declared or dataset.labels.values == (0, 1)
    cut = grey_threshold(values, counts)
    if is_binary and cut is not None:
        return {"threshold": cut}
    if path.name.lower().endswith(LOSSY_FORMATS):
        return None
    if array.dtype.kind == "f" and (values != np.rint(values)).any():
        return None if "round_labels" in reading.fixes else {"fixes": ["round_labels"]}
    is_white = len(values) == 2 and values[0] == 0 and values[1] in _white(array.dtype)
    if is_binary and dataset.labels_declared and is_white:
        return {"label_map": {str(int(values[1])): 1}}
    return None


def _with_greys(dataset: Dataset, case: Case, finding: Finding) -> Finding:
    """Return a finding about a JPEG mask that says how its shades can be declared, if they can."""
    greys = declared_greys(dataset.label_paths(case)[0], dataset.labels)
    if greys is None or not dataset.labels_declared or dataset.reading.masks != "values":
        return finding
    spec = json.dumps({"labels": greys})
    text = f"or declare the shades, and every pixel is read as the nearest: {spec}"
    return finding.revised(remedy=f"{finding.remedy}; {text}")


def _white(dtype: np.dtype) -> tuple[int, ...]:
    """Return the numbers that stand for white, and so for foreground in a mask."""
    return (255,) if dtype.kind == "f" else (255, int(np.iinfo(dtype).max))


def _without_nan(array: NDArray, is_good: NDArray[np.bool_]) -> NDArray:
    lowest = [channel[good].min() for channel, good in zip(array, is_good, strict=True)]
    return np.where(is_good, array, np.reshape(lowest, (-1, *(1,) * (array.ndim - 1))))


def fixable(
    case: Case, files: tuple[str, ...], found: str, expected: str, remedy: str, fix: Fix
) -> Finding:
    """Return an error about a case that a fix removes."""
    fields: dict[str, Any] = {"fixes": [fix]}
    remedy = with_fix(remedy, fields)
    return case_finding("error", case, files, found, expected, remedy).revised(fix=fields)


def case_finding(
    severity: str, case: Case, files: tuple[str, ...], found: str, expected: str, remedy: str
) -> Finding:
    """Return a finding about a case."""
    return Finding.model_validate(
        {
            "severity": severity,
            "files": files,
            "case": case.id,
            "found": found,
            "expected": expected,
            "remedy": remedy,
        }
    )

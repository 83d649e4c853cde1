"""Fingerprints in files: our own, and nnU-Net's with or without labels inside."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.nnunet import parse_channels, parse_labels
from autoseg.errors import DatasetError
from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint, Intensities
from autoseg.record import autoseg_version
from autoseg.runtime.recipe import Labels

KEYS = (
    "spacings",
    "shapes_after_crop",
    "foreground_intensity_properties_per_channel",
    "median_relative_size_after_cropping",
)
MAX_AXES = 3
MAX_TOLD = 10
"""Lines of a message that name what is wrong."""
PICTURE_SPACING = 999.0
"""What nnU-Net writes for the third axis of a picture; its other two are 1."""


def load_fingerprint(path: Path, dataset_json: Path | None) -> Fingerprint:
    """Return the fingerprint in a file.

    nnU-Net's own file needs its dataset.json for the names of channels and labels, unless they
    stand in it.

    Raises
    ------
    DatasetError
        A file is missing or no fingerprint, channels and labels are nowhere declared, or sizes and
        spacings are such as no image has.
    """
    content = _read_object(path)
    if "schema_version" in content:
        return _sound(path, Fingerprint.from_json(json.dumps(content), path.name))
    missing = [key for key in KEYS if key not in content]
    if missing:
        raise DatasetError(
            found=f"{path} without {', '.join(missing)}",
            expected="nnU-Net's dataset_fingerprint.json, or a fingerprint.json of autoseg",
            fix="point to such a file, or plan from the data set itself",
        )
    description = content if dataset_json is None else _read_object(dataset_json)
    if "labels" not in description or not {"channel_names", "modality"} & set(description):
        raise DatasetError(
            found=f"{(dataset_json or path).name} without labels or channel_names",
            expected="the names of channels and labels",
            fix="give nnU-Net's dataset.json with --dataset-json",
        )
    channels = parse_channels(description)
    labels = parse_labels(description, DatasetSpec())
    try:
        return _sound(path, _fingerprint(path, content, channels, labels))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            found=f"{path}: {type(error).__name__}: {error}",
            expected="a shape and a spacing for each case, and intensities for each channel",
            fix="have nnU-Net write the file again",
        ) from None


def _sound(path: Path, fingerprint: Fingerprint) -> Fingerprint:
    """Return a fingerprint whose numbers can be planned from.

    Raises
    ------
    DatasetError
        There are no cases, or sizes and spacings that no image has: all of them.
    """
    wrong = [line for case in fingerprint.cases for line in _case_problems(case)]
    counts = {len(case.shape) for case in fingerprint.cases}
    if len(counts) > 1:
        wrong.append(f"cases of {' and '.join(map(str, sorted(counts)))} axes")
    if not fingerprint.cases:
        wrong.append("no cases")
    if len(fingerprint.intensities) != len(fingerprint.channels):
        wrong.append(
            f"intensities of {len(fingerprint.intensities)} channels, and "
            f"{len(fingerprint.channels)} names"
        )
    if not wrong:
        return fingerprint
    more = [f"... and {len(wrong) - MAX_TOLD} more"] * (len(wrong) > MAX_TOLD)
    raise DatasetError(
        found="\n".join([f"{path.name}: {line}" for line in wrong[:MAX_TOLD]] + more),
        expected="cases of 1 to 3 axes, with a size of 1 or more and a spacing above 0 along each",
        fix=f"correct {path.name}, or plan from the data set itself",
    )


def _case_problems(case: CaseStats) -> Iterator[str]:
    """Yield what no image has, one line each."""
    dims = len(case.shape)
    if not 1 <= dims <= MAX_AXES:
        yield f"{case.case_id}: {dims} axes"
    for name in ("shape", "shape_after_crop"):
        shape = getattr(case, name)
        if len(shape) != dims or any(n < 1 for n in shape):
            yield f"{case.case_id}: {name} {shape}"
    if len(case.spacing) != dims or not all(0 < step < math.inf for step in case.spacing):
        yield f"{case.case_id}: spacing {case.spacing} of {dims} axes"


def _read_object(path: Path) -> dict:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        found = f"{path} cannot be read: {error.strerror}"
    except ValueError as error:
        found = f"{path} is no JSON: {error}"
    else:
        if isinstance(content, dict):
            return content
        found = f"{path} holds no JSON object"
    raise DatasetError(found=found, expected="a JSON file", fix="correct the path or the file")


def _fingerprint(
    path: Path, content: dict, channels: tuple[str, ...], labels: Labels
) -> Fingerprint:
    shapes, spacings = content["shapes_after_crop"], content["spacings"]
    if not shapes:
        raise ValueError("no cases")
    properties = content["foreground_intensity_properties_per_channel"]
    is_picture = all(len(shape) == 3 and shape[0] == 1 for shape in shapes) and all(
        spacing[0] == PICTURE_SPACING for spacing in spacings
    )
    start = int(is_picture)
    return Fingerprint(
        autoseg_version=autoseg_version(),
        dataset_name=content.get("dataset", path.stem),
        unit="pixel" if is_picture else "mm",
        labels=labels,
        channels=channels,
        cases=tuple(
            _case(index, shape[start:], spacing[start:])
            for index, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True))
        ),
        intensities=tuple(_intensities(properties[str(index)]) for index in range(len(channels))),
        median_relative_size_after_cropping=float(content["median_relative_size_after_cropping"]),
    )


def _case(index: int, shape: list[int], spacing: list[float]) -> CaseStats:
    """Return a case of which only shape and spacing are known; its shape before cropping is not."""
    lengths = tuple(int(n) for n in shape)
    if len(lengths) != len(spacing):
        raise ValueError(f"case {index}: shape {shape} but spacing {spacing}")
    return CaseStats(
        case_id=f"case_{index:04d}",
        shape=lengths,
        shape_after_crop=lengths,
        spacing=tuple(float(s) for s in spacing),
    )


def _intensities(properties: dict) -> Intensities:
    names = Intensities.model_fields
    return Intensities(**{name: float(properties[name]) for name in names})

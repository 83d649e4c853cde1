"""A measured case on disk, so that a fingerprint is resumable: a line of JSON, then samples."""

import hashlib
import json
from pathlib import Path
from uuid import uuid4

import numpy as np

from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.dataset.files import changed_by
from autoseg.errors import WorkspaceError
from autoseg.fingerprint.fingerprint import CaseStats
from autoseg.fingerprint.measure import Measured, sample_limit
from autoseg.record import autoseg_version

VERSION = 5
"""Raised when a case has more facts, so that what was measured before is measured again."""


def measured_key(dataset: Dataset, case: Case) -> str:
    """Return what a case's measurements depend on: its files by size and time, classes, version."""
    paths = (*dataset.image_paths(case), *dataset.label_paths(case))
    if not all(path.exists() for path in paths):
        return ""  # never equal to a stored key: the case is measured, which reports it
    facts = (VERSION, autoseg_version(), changed_by(paths), case.paint, case.part, dataset.layout)
    text = repr((*facts, dataset.labels, dataset.reading, dataset.channels, sample_limit(dataset)))
    return hashlib.sha256(text.encode()).hexdigest()


def save_measured(folder: Path, case_id: str, key: str, measured: Measured) -> None:
    """Write a case's measurements at once or not at all.

    Raises
    ------
    WorkspaceError
        The file cannot be written.
    """
    assert measured.stats is not None, "a case with errors is measured again"
    head = {
        "key": key,
        "stats": measured.stats.model_dump(mode="json"),
        "unit": measured.unit,
        "findings": [finding.model_dump(mode="json") for finding in measured.findings],
        "samples": measured.samples.shape,
    }
    path = _path(folder, case_id)
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        # No fsync: after a crash of the machine a broken file is measured again.
        temporary.write_bytes(json.dumps(head).encode() + b"\n" + measured.samples.tobytes())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise WorkspaceError(
            found=f"{path} cannot be written: {error.strerror or error}",
            expected="a writable folder with enough free space",
            fix="free space or choose another folder with -w; then run the same command again",
        ) from error


def load_measured(folder: Path, case_id: str, key: str) -> Measured | None:
    """Return a case's measurements if they are there, whole, and were made under `key`."""
    try:
        head, _, samples = _path(folder, case_id).read_bytes().partition(b"\n")
        content = json.loads(head)
        if content["key"] != key:
            return None
        return Measured(
            CaseStats.model_validate_json(json.dumps(content["stats"])),
            np.frombuffer(samples, np.float32).reshape(content["samples"]),
            content["unit"],
            tuple(Finding.model_validate_json(json.dumps(f)) for f in content["findings"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path(folder: Path, case_id: str) -> Path:
    return folder / f"{hashlib.sha256(case_id.encode()).hexdigest()[:24]}.measured"

"""Signals: WFDB records with one annotation file a lead, and tables (.csv) in two folders.

Signals in .npy files are plain folders. Letters in shapes: L samples.
"""

from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case, Dataset, DatasetSpec
from autoseg.dataset.files import (
    mapped,
    read_file_extent,
    read_image_files,
    read_label_files,
)
from autoseg.dataset.formats.extras import load_package
from autoseg.dataset.formats.format import Format, FoundCase, Layout, Problem
from autoseg.dataset.label_values import spec_labels
from autoseg.errors import DatasetError
from autoseg.runtime.images import TABLE_FORMAT, Extent, Geometry, Image
from autoseg.runtime.images import read_extent as file_extent
from autoseg.runtime.recipe import Labels

IMAGES = "images"
LABELS = ("labels", "masks")
HEADER = ".hea"
RECORD_FILES = (HEADER, ".dat")
TABLES = (TABLE_FORMAT, ".npy")
MAX_FOLDERS, MAX_FILES = 20, 100
"""So much is looked at to tell whether a folder holds signals."""
BEGIN, END = 39, 40
"""WFDB's codes of the annotations "(" and ")"."""
WAVES = {24: 1, 1: 2, 27: 3}
"""WFDB's codes of the peaks "p", "N" and "t", and the values of their classes."""
IGNORE = 255
WAVE_LABELS = Labels(names=("background", "P", "QRS", "T"), values=(0, 1, 2, 3), ignore=IGNORE)


def is_found(root: Path) -> bool:
    """Return whether a folder holds WFDB records, or images/ and labels/ with tables."""
    return _has_records(root) or _has_tables(root)


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return each lead of each record as a case, or each pair of tables.

    The leads of a record are a group.

    Raises
    ------
    DatasetError
        The package wfdb is missing. Records that make no sense are returned as problems.
    """
    return _find_records(root, spec) if _has_records(root) else _find_tables(root, spec)


def find_header(path: Path) -> Path | None:
    """Return the header of the record that a file is part of, or None: it belongs to none."""
    header = path.with_suffix(HEADER)
    return header if path.suffix.lower() in RECORD_FILES and header.is_file() else None


def read_leads(path: Path) -> list[tuple[str, Image]]:
    """Return the leads of a record with their names, each in its physical unit, (1, L).

    Parameters
    ----------
    path
        Its header.

    Raises
    ------
    DatasetError
        The package wfdb is missing, or the record is unreadable.
    """
    wfdb = load_package("wfdb", "signals")
    try:
        record = wfdb.rdrecord(_record(path))
        rows = record.p_signal.T[:, None].astype(np.float32)  # (leads, 1, L)
        names = _lead_names(record)
    except Exception as error:  # whatever the package raises
        raise _unreadable(path, error) from error
    place = _geometry(record.fs)
    return [(name, Image(row, place)) for name, row in zip(names, rows, strict=True)]


def read_image(dataset: Dataset, case: Case) -> Image:
    """Return a lead in its physical unit, (1, L), or a table, (C, L).

    Raises
    ------
    AutosegError
        A file is missing or unreadable.
    """
    if case.part is None:
        return read_image_files(dataset, case)
    wfdb, path = load_package("wfdb", "signals"), dataset.image_paths(case)[0]
    try:
        record = wfdb.rdrecord(_record(path), channel_names=[case.part])
    except Exception as error:  # whatever the package raises
        raise _unreadable(path, error) from error
    return Image(record.p_signal.T.astype(np.float32), _geometry(record.fs))


def read_labels(dataset: Dataset, case: Case) -> Image:
    """Return the values of a lead's samples, (1, L), or those in a table.

    Raises
    ------
    AutosegError
        A file is missing or unreadable.
    """
    if case.part is None:
        return read_label_files(dataset, case)
    wfdb, path = load_package("wfdb", "signals"), dataset.image_paths(case)[0]
    annotation = dataset.label_paths(case)[0]
    try:
        frequency, length = _timing(wfdb, path)
        marks = wfdb.rdann(
            str(annotation.with_suffix("")),
            annotation.suffix[1:],
            return_label_elements=["label_store"],  # the others take long to look up
        )
    except Exception as error:
        raise _unreadable(annotation, error) from error
    values = draw_waves(marks.sample, marks.label_store, length)
    return Image(mapped(values[None], dataset.reading.label_map), _geometry(frequency))


def read_extent(dataset: Dataset, case: Case) -> Extent:
    """Return how long a signal is."""
    if case.part is None:
        return read_file_extent(dataset, case)
    wfdb, path = load_package("wfdb", "signals"), dataset.image_paths(case)[0]
    try:
        frequency, length = _timing(wfdb, path)
    except Exception as error:  # whatever the package raises
        raise _unreadable(path, error) from error
    return Extent(1, (length,), (1.0 / frequency,), "s")


def read_label_extent(dataset: Dataset, case: Case) -> Extent:
    """Return how long the labels are: those of a lead as long as the lead."""
    if case.part is None:
        return file_extent(dataset.label_paths(case)[:1])
    return read_extent(dataset, case)


def draw_waves(samples: NDArray, codes: NDArray, length: int) -> NDArray[np.uint8]:
    """Return (L,) values of annotated waves.

    A wave reaches from its beginning, or its peak where that comes first, to its end. An interval
    with no peak or several is ignored, as is what lies before the first and after the last wave.

    Parameters
    ----------
    samples, codes : (N,) int
        Rising positions of annotations, and WFDB's codes of what they are.
    length
        L.
    """
    values = np.zeros(length, np.uint8)
    marks: list[int] = []
    peaks: list[int] = []
    first, last = length, 0
    for sample, code in zip(samples.tolist(), codes.tolist(), strict=True):
        if code in WAVES:
            marks, peaks = [*marks, sample], [*peaks, WAVES[code]]
        elif code == BEGIN:
            marks = [*marks, sample]
        elif code == END and marks:
            values[marks[0] : sample + 1] = peaks[0] if len(peaks) == 1 else IGNORE
            first, last = min(first, marks[0]), sample + 1
            marks, peaks = [], []
    values[:first] = IGNORE
    values[last:] = IGNORE
    return values


def _has_records(root: Path) -> bool:
    folders = islice((path for path in root.iterdir() if path.is_dir()), MAX_FOLDERS)
    return any(next(folder.glob(f"*{HEADER}"), None) for folder in (root, *folders))


def _has_tables(root: Path) -> bool:
    endings = _endings(root / IMAGES)
    labels = set().union(*(_endings(root / name) for name in LABELS))
    both = endings | labels
    return bool(endings and labels) and both <= set(TABLES) and TABLE_FORMAT in both


def _endings(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    names = (path for path in folder.iterdir() if not path.name.startswith("."))
    return {path.suffix.lower() for path in islice(names, MAX_FILES)}


def _find_records(root: Path, spec: DatasetSpec) -> Layout:
    wfdb = load_package("wfdb", "signals")
    headers = sorted(root.rglob(f"*{HEADER}"))
    has_same = len({path.stem for path in headers}) < len(headers)
    cases: list[FoundCase] = []
    problems: list[Problem] = []
    for path in headers:
        place = path.relative_to(root).with_suffix("")
        record = "_".join(place.parts) if has_same else path.stem
        try:
            leads = _find_leads(wfdb, path, record)
        except DatasetError as error:
            found = error.found.removeprefix(f"{path.name}: ")
            file = f"{place}{HEADER}"
            problems.append(Problem(found, (file,), None, error.expected, error.fix))
            continue
        bare = [found for found in leads if not found.labels and not spec.excludes(found.case_id)]
        cases += [found for found in leads if found not in bare]
        problems += [_bare(f"{place}{HEADER}", path.stem, lead) for lead in bare]
    return Layout(
        cases=tuple(cases),
        problems=tuple(problems),
        channels=spec.channels or ("signal",),
        labels=spec_labels(spec) or WAVE_LABELS,
        file_ending=TABLE_FORMAT,  # which keeps the times
    )


def _bare(header: str, record: str, lead: FoundCase) -> Problem:
    """Return the problem of a lead that has no annotation."""
    found = f"no annotation of lead {lead.part} in a file {record}.{lead.part}"
    return Problem.of(header, found, lead.case_id, remedy="add the file, or exclude the case")


def _find_leads(wfdb: ModuleType, path: Path, record: str) -> list[FoundCase]:
    """Return the leads of a record, each with its annotation file if it has one."""
    try:
        header = wfdb.rdheader(_record(path))
        files = [path.with_name(name) for name in dict.fromkeys(header.file_name or ())]
    except Exception as error:
        raise _unreadable(path, error) from error
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise DatasetError(
            found=f"{path.name}: no signal file {', '.join(missing)}",
            expected="one record with its signals in files beside it",
            fix="add the files",
        )
    leads = []
    for lead in _lead_names(header):
        names = dict.fromkeys((path.with_suffix(f".{lead}"), path.with_suffix(f".{lead.lower()}")))
        found = tuple(name for name in names if name.is_file())[:1]
        leads.append(FoundCase(f"{record}_{lead}", (path, *files), found, part=lead, group=record))
    return leads


def _lead_names(header: Any) -> list[str]:  # noqa: ANN401
    return [str(name) for name in header.sig_name or ()]


def _record(path: Path) -> str:
    """Return what the package calls a record: its header without the ending."""
    return str(path.with_suffix(""))


def _timing(wfdb: ModuleType, path: Path) -> tuple[float, int]:
    """Return samples a second and samples of a record, from the first line of its header.

    The package also reads the lines of all signals, which takes most of the time of a short case.
    """
    lines = (line.split("#")[0].split() for line in path.read_text("latin-1").splitlines())
    fields = next((line for line in lines if line), [])
    with suppress(ValueError, IndexError):  # fields may be left out
        return float(fields[2].split("/")[0]), int(fields[3])
    header = wfdb.rdheader(_record(path))
    return header.fs, header.sig_len


def _geometry(frequency: float) -> Geometry:
    return Geometry((1.0 / frequency,), unit="s")


def _unreadable(path: Path, error: Exception) -> DatasetError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return DatasetError(
        found=f"{path} cannot be read: {lines[-1]}",
        expected="a whole WFDB record with its signals and annotations",
        fix="copy the files of the record again",
    )


def _find_tables(root: Path, spec: DatasetSpec) -> Layout:
    folder = next((name for name in LABELS if (root / name).is_dir()), LABELS[0])
    images, labels = _tables(root / IMAGES), _tables(root / folder)
    problems = [
        Problem.of(f"{IMAGES}/{images[stem].name}", f"no labels {folder}/{stem}.*", stem)
        for stem in images
        if stem not in labels
    ]
    problems += [
        Problem.of(f"{folder}/{labels[stem].name}", f"no image {IMAGES}/{stem}.*", stem)
        for stem in labels
        if stem not in images
    ]
    return Layout(
        cases=tuple(
            FoundCase(stem, (images[stem],), (labels[stem],)) for stem in images if stem in labels
        ),
        problems=tuple(problems),
        channels=spec.channels,
        labels=spec_labels(spec),
        file_ending=next((path.suffix.lower() for path in images.values()), None),
    )


def _tables(folder: Path) -> dict[str, Path]:
    """Return the files with signals in a folder by their stems."""
    if not folder.is_dir():
        return {}
    found = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in TABLES)
    return {path.stem: path for path in found if not path.name.startswith(".")}


FORMAT = Format(
    name="signals",
    expects="records (.hea, .dat) with an annotation file a lead (WFDB), or images/ and labels/ "
    "or masks/ with tables (.csv, one column a channel)",
    is_found=is_found,
    find_cases=find_cases,
    read_image=read_image,
    read_labels=read_labels,
    read_extent=read_extent,
    read_label_extent=read_label_extent,
)

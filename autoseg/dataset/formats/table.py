"""A table of cases: CSV or TSV with columns for images, masks, groups, sites, splits and folds."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec, Reading
from autoseg.dataset.formats.format import Format, Layout, Problem
from autoseg.dataset.formats.listed import (
    LABELS,
    SPLITS,
    Entry,
    Listed,
    count_problems,
    find_listed,
    has_channel_suffix,
)
from autoseg.dataset.formats.nesting import painting
from autoseg.dataset.formats.peek import binary_threshold, by_class
from autoseg.dataset.label_values import spec_labels
from autoseg.errors import DatasetError

NAMES = ("dataset.csv", "cases.csv", "dataset.tsv", "cases.tsv")
DELIMITERS = ",;\t|"
IMAGE, MASKS = "image", ("label", "mask", "labels", "masks")
PREFIXES = ("mask_", "label_")
"""Of columns with binary masks; the rest is the name of the class."""
IDS = ("id", "case_id", "case")
GROUPS = ("group", "patient", "patient_id", "subject", "subject_id")
SITES = ("site", "hospital", "center", "centre", "institution", "scanner")
FORM = (
    'columns "image" (or "image_<channel>", one a channel) and "label" (or "mask_<class>", one a '
    'class), and where they are known "id", "group", "site", "split", "fold"'
)


@dataclass(frozen=True)
class Table:
    """Rows by the name of the column as it is written; empty cells are left out."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    """Each with the number of its line."""

    def column(self, *names: str) -> str | None:
        """Return the first column of one of some names, in whatever case, or None."""
        by_name = {column.casefold(): column for column in self.columns}
        return next((by_name[name] for name in names if name in by_name), None)

    def columns_after(self, *prefixes: str) -> dict[str, str]:
        """Return the columns whose names start with a prefix, by the rest of the name."""
        return {
            column[len(prefix) :]: column
            for column in self.columns
            for prefix in prefixes
            if column.casefold().startswith(prefix) and len(column) > len(prefix)
        }


@dataclass(frozen=True)
class _Columns:
    """Which column of a table holds what."""

    images: dict[str, str]
    """By channel; "" is the channel of a column without one."""
    masks: dict[str, str]
    """Those of binary masks by class, or the one with maps of values."""
    group: str | None
    site: str | None


CORRECT = "correct the line, or remove it"


def is_found(root: Path) -> bool:
    """Return whether a folder has a table of images and masks."""
    path = _only(root)
    return path is not None and is_case_table(path)


def is_case_table(path: Path) -> bool:
    """Return whether a file is a table with columns for images and for masks."""
    try:
        table = read_table(path)
    except DatasetError:
        return False
    columns = _columns(table, DatasetSpec())
    return bool(columns.images and columns.masks)


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return the cases of the table that `spec` names, or of the only one in the folder.

    Raises
    ------
    DatasetError
        There is no table, it lacks columns, or the spec declares other classes than it has masks.
        Problems of single rows are returned.
    """
    path = root / spec.table if spec.table is not None else _only(root)
    if path is None:
        raise DatasetError(
            found=f"no table {' or '.join(NAMES)} in {root}, or more than one",
            expected=f"one table with {FORM}",
            fix='name it under "table" in a file given with --spec',
        )
    table = read_table(path)
    columns = _columns(table, spec)
    if not columns.images or not columns.masks:
        raise DatasetError(
            found=f"{path.name} with the columns {', '.join(table.columns)}",
            expected=FORM,
            fix="correct the first line of the table",
        )
    entries, problems = [], []
    for line, row in table.rows:
        entry = _entry(table, line, row, columns)
        problems += [entry] if isinstance(entry, Problem) else []
        entries += [entry] if isinstance(entry, Entry) else []
    cases, missing = find_listed(entries, (path.parent, root))
    channels = spec.channels or (None if "" in columns.images else tuple(columns.images))
    problems += [*missing, *count_problems(cases, channels)]
    return _layout(cases, tuple(problems), spec, channels=channels, columns=table.columns)


def read_table(path: Path) -> Table:
    """Return the rows of a table; the delimiter is the commonest one in its first line.

    Raises
    ------
    DatasetError
        The file is missing, empty, no text, or has a column twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(
            found=f"{path} cannot be read: {error.strerror}",
            expected=f"a table with {FORM}",
            fix="correct the path, which is relative to the folder of the data set",
        ) from None
    except UnicodeDecodeError:
        raise DatasetError(
            found=f"{path} is no text in UTF-8",
            expected="a table as text (CSV), in UTF-8",
            fix='export it again as "CSV UTF-8"',
        ) from None
    lines = _lines(path.name, text)
    columns = tuple(lines[0][1]) if lines else ()
    twice = [c for i, c in enumerate(columns) if c and c.casefold() in _folded(columns[:i])]
    if not any(columns) or twice:
        raise DatasetError(
            found=f"{path.name} with {f'the column {twice[0]!r} twice' if twice else 'no columns'}",
            expected=f"a table with {FORM}",
            fix="correct the first line of the table",
        )
    rows = tuple(
        (number, {c: cell for c, cell in zip(columns, cells, strict=False) if c and cell})
        for number, cells in lines[1:]
        if any(cells)
    )
    return Table(path.name, tuple(column for column in columns if column), rows)


def _lines(name: str, text: str) -> list[tuple[int, list[str]]]:
    """Return the cells of each line that is not empty, with its number."""
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except csv.Error as error:
        raise DatasetError(
            found=f"{name} line {reader.line_num}: {error}",
            expected=f"a table with {FORM}",
            fix="correct the line; a quotation mark may be left open above it",
        ) from None


def _folded(columns: Sequence[str]) -> list[str]:
    return [column.casefold() for column in columns]


def _only(root: Path) -> Path | None:
    found = [root / name for name in NAMES if (root / name).is_file()]
    return found[0] if len(found) == 1 else None


def _columns(table: Table, spec: DatasetSpec) -> _Columns:
    """Return what the columns hold; the spec may choose channels and name group and site."""
    image, mask = table.column(IMAGE), table.column(*MASKS)
    images = {"": image} if image else table.columns_after(f"{IMAGE}_")
    if spec.channels and set(spec.channels) <= set(images):
        images = {channel: images[channel] for channel in spec.channels}
    group, site = (
        name if name in table.columns else None for name in (spec.group_by, spec.site_by)
    )
    return _Columns(
        images=images,
        masks={LABELS: mask} if mask else table.columns_after(*PREFIXES),
        group=group or table.column(*GROUPS),
        site=site or table.column(*SITES),
    )


def _entry(
    table: Table, line: int, row: Mapping[str, str], columns: _Columns
) -> Entry | Problem | None:
    """Return a row as a case, what is wrong with it, or None for a test case without masks."""
    where = f"{table.name} line {line}"
    split_name = row.get(table.column("split", "subset") or "")
    split = SPLITS.get(split_name.casefold()) if split_name else None
    if split_name and split is None:
        found = f"split {split_name!r}, expected train, val or test"
        return Problem.of(where, found, expected=f"a table with {FORM}", remedy=CORRECT)
    fold = row.get(table.column("fold") or "")
    if fold and not fold.isdecimal():
        found = f"fold {fold!r}, expected 0, 1, ..."
        return Problem.of(where, found, expected=f"a table with {FORM}", remedy=CORRECT)
    empty = [column for column in columns.images.values() if column not in row]
    if empty:
        found = f"no entry under {', '.join(empty)}"
        return Problem.of(where, found, expected=f"a table with {FORM}", remedy=CORRECT)
    masks = {name: row[column] for name, column in columns.masks.items() if column in row}
    if not masks and split == "test":
        return None
    if LABELS in columns.masks and not masks:
        found = f"no entry under {columns.masks[LABELS]}"
        return Problem.of(where, found, expected=f"a table with {FORM}", remedy=CORRECT)
    return Entry(
        where=where,
        images=tuple(row[column] for column in columns.images.values()),
        masks=masks,
        case_id=row.get(table.column(*IDS) or ""),
        group=row.get(columns.group or ""),
        site=row.get(columns.site or ""),
        split=split,
        fold=int(fold) if fold else None,
    )


def _layout(
    cases: Sequence[Listed],
    problems: tuple[Problem, ...],
    spec: DatasetSpec,
    *,
    channels: tuple[str, ...] | None,
    columns: tuple[str, ...],
) -> Layout:
    """Return the cases with their masks: maps of values, or binary masks to be painted."""
    names = list(dict.fromkeys(name for case in cases for name in case.masks))
    reading, labels = Reading(), spec_labels(spec)
    found = [case.found(tuple(case.masks.values())) for case in cases]
    if names != [LABELS] and names:
        complete = [case.masks for case in cases if len(case.masks) == len(names)]
        threshold = spec.threshold
        if threshold is None:
            threshold = binary_threshold(by_class(case.masks for case in cases))
        painted = painting(names, complete, spec, threshold)
        reading, labels = Reading(masks="binaries", threshold=threshold), painted.labels
        problems = (*problems, *painted.problems)
        found = []
        for case in cases:
            order = [name for name in painted.values if name in case.masks]
            paths = tuple(case.masks[name] for name in order)
            found.append(case.found(paths, tuple(painted.values[name] for name in order)))
    return Layout(
        cases=tuple(found),
        problems=problems,
        channels=channels,
        labels=labels,
        reading=reading,
        has_suffix=has_channel_suffix(cases),
        has_listed_groups=True,
        columns=columns,
    )


FORMAT = Format(
    name="table",
    expects=f"{' or '.join(NAMES[:2])} with {FORM}",
    is_found=is_found,
    find_cases=find_cases,
)

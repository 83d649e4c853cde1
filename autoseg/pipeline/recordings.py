"""Records of signals for models that read tables: reading a record takes a package of its own."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from autoseg.dataset.formats.extras import load_package
from autoseg.dataset.formats.signals import HEADER, find_header, read_leads
from autoseg.errors import DatasetError
from autoseg.runtime.cases import Outcome
from autoseg.runtime.images import TABLE_FORMAT, Image, is_image, write_image
from autoseg.runtime.manifest import Manifest

UNSAFE = re.compile(r"[^\w.+-]")
"""What a lead may be called but a file should not."""


class Tables(NamedTuple):
    """What is predicted, once records have become tables."""

    inputs: tuple[Path, ...]
    """Files and folders, those of records replaced by their tables."""
    failed: tuple[Outcome, ...]
    """Records that could not be read."""


def tables_of(
    inputs: Sequence[Path], manifest: Manifest, missing: Sequence[int], folder: Path
) -> Tables:
    """Return the inputs of a model of signals, every WFDB record as tables.

    Other inputs stay as they are. For a model of one channel each lead is a case, RECORD_LEAD, as
    in training; for one of several, the leads of their names are its channels.

    Parameters
    ----------
    inputs
        Headers or signal files of records, or folders of records, beside any others.
    missing
        Channels that need not be there.
    folder
        Where tables are written.

    Raises
    ------
    DatasetError
        The package that reads records is missing.
    """
    pairs = [pair for item in inputs for pair in _records(item)]
    if not any(header for header, _ in pairs):
        return Tables(tuple(inputs), ())
    load_package("wfdb", "signals")  # without it, no record can be read
    kept: list[Path] = []
    failed: list[Outcome] = []
    seen: dict[str, Path] = {}
    for header, path in pairs:
        if header is None:
            kept.append(path)
        elif header.stem not in seen:
            seen[header.stem] = header
            found = _tables(header, manifest, missing, folder)
            kept += found.inputs
            failed += found.failed
        elif seen[header.stem] != header:  # else its other file
            message = f"{seen[header.stem]} and {header} have the same name"
            failed.append(Outcome(header.stem, "failed", message=message))
    return Tables(tuple(kept), tuple(failed))


def _records(path: Path) -> list[tuple[Path | None, Path]]:
    """Return the headers of an input's records, each with the input; None where it has none."""
    if not path.is_dir():
        return [(find_header(path), path)]
    files = [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
    headers = [file for file in files if file.suffix.lower() == HEADER]
    if any(is_image(file) for file in files):
        headers = []  # as tables are left where there are images
    return [(header, path) for header in headers] or [(None, path)]


def _tables(header: Path, manifest: Manifest, missing: Sequence[int], folder: Path) -> Tables:
    """Write the tables of one record; whatever is wrong with it becomes an outcome."""
    try:
        cases = _cases(header, manifest, missing)
    except DatasetError as error:
        return Tables((), (Outcome(header.stem, "failed", message=str(error)),))
    paths = tuple(folder / f"{name}{TABLE_FORMAT}" for name in cases)
    for path, image in zip(paths, cases.values(), strict=True):
        write_image(path, image)
    return Tables(paths, ())


def _cases(header: Path, manifest: Manifest, missing: Sequence[int]) -> dict[str, Image]:
    """Return the cases of a record by their names.

    Raises
    ------
    DatasetError
        It is unreadable, has two leads of one name, or lacks a channel of the model.
    """
    found = read_leads(header)
    leads = {UNSAFE.sub("_", name): image for name, image in found}
    names = ", ".join(name for name, _ in found)
    if len(leads) < len(found):
        raise DatasetError(
            found=f"{header} has the leads {names}",
            expected="a name of its own for each lead",
            fix="correct the names at the ends of the lines in the header",
        )
    if len(manifest.channels) == 1:
        return {f"{header.stem}_{name}": image for name, image in leads.items()}
    known = {name.casefold(): image for name, image in found}
    wanted = [name for index, name in enumerate(manifest.channels) if index not in missing]
    absent = [name for name in wanted if name.casefold() not in known]
    if absent:
        raise DatasetError(
            found=f"{header} has the leads {names}, not {', '.join(absent)}",
            expected=f"the channels of the model: {', '.join(wanted)}",
            fix="convert the record to a table (.csv) with these channels in columns after t",
        )
    images = [known[name.casefold()] for name in wanted]
    return {header.stem: Image(np.concatenate([i.array for i in images]), images[0].geometry)}

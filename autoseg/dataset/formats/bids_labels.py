"""What the values of a BIDS map mean: `*_dseg.tsv` (columns index and name) or `*_dseg.json`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from autoseg.dataset.formats.bids_files import MAP
from autoseg.dataset.formats.table import read_table
from autoseg.errors import DatasetError
from autoseg.runtime.images import case_stem

ENDINGS = (f"{MAP}.tsv", f"{MAP}.json")
VALUES, NAMES = ("index", "value", "label", "id"), ("name", "structure", "abbreviation")
"""Names of the columns, the usual ones first."""


def find_names(root: Path, mask: Path) -> dict[int, str]:
    """Return the names of the values of a map, {} where no table of its own or above it has any.

    A table may stand beside the map, or in a folder above, if its name says nothing else: a table
    `desc-tissue_dseg.tsv` is for maps with desc-tissue.
    """
    parts = set(case_stem(mask).split("_"))
    for folder in mask.parents:
        tables = [
            path
            for path in sorted(folder.iterdir())
            if path.name.endswith(ENDINGS) and set(path.stem.split("_")) <= parts
        ]
        tables.sort(key=lambda path: (-len(path.stem.split("_")), path.suffix != ".tsv"))
        for path in tables:
            names = _names_in(path)
            if names:
                return names
        if folder == root:
            break
    return {}


def _names_in(path: Path) -> dict[int, str]:
    """Return the names in a table or JSON file, {} where it is none of values and names."""
    try:
        rows = [*(_from_table(path) if path.suffix == ".tsv" else _from_json(path))]
        names = {int(value): name for value, name in rows}
    except (ValueError, DatasetError):
        return {}
    return names if len(set(names.values())) == len(names) == len(rows) else {}


def _from_table(path: Path) -> Iterator[tuple[str, str]]:
    table = read_table(path)
    value, name = table.column(*VALUES), table.column(*NAMES)
    for _, row in table.rows:
        if value in row and name in row:
            yield row[value], row[name]


def _from_json(path: Path) -> Iterator[tuple[str, str]]:
    """Yield values and names of the first object that maps one to the other, either way round."""
    content = json.loads(path.read_text(encoding="utf-8"))
    inside = [*content.values()] if isinstance(content, Mapping) else []
    for entry in (content, *inside):
        pairs = [(str(a), str(b)) for a, b in entry.items()] if isinstance(entry, Mapping) else []
        for found in (pairs, [(b, a) for a, b in pairs]):
            if found and all(value.isdigit() and not name.isdigit() for value, name in found):
                yield from found
                return

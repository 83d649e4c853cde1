"""All formats: those that come with autoseg, and those that other packages register."""

from importlib.metadata import entry_points

from autoseg.dataset.formats import folders, nnunet
from autoseg.dataset.formats.format import Format
from autoseg.errors import DatasetError, nearest

GROUP = "autoseg.formats"
"""Entry points of this group are `Format` records."""


def formats() -> tuple[Format, ...]:
    """Return all formats, in the order in which a folder is tried: the more telling first."""
    others = (entry.load() for entry in entry_points(group=GROUP))
    return (nnunet.FORMAT, folders.FORMAT, *others)


def find_format(name: str) -> Format:
    """Return the format of a name.

    Raises
    ------
    DatasetError
        There is none; the message has the nearest name.
    """
    known = {entry.name: entry for entry in formats()}
    if name not in known:
        raise DatasetError(
            found=f"layout {name!r}",
            expected=f"one of {', '.join(known)}",
            fix=f"correct the layout in the spec{nearest(name, list(known))}",
        )
    return known[name]

"""All formats: those that come with autoseg, and those that other packages register."""

from functools import cache
from importlib.metadata import entry_points

from autoseg.dataset.formats import (
    bids,
    class_folders,
    coco,
    datalist,
    dicom,
    folders,
    instances,
    msd,
    nnunet,
    patterns,
    signals,
    stems,
    table,
    zarr_arrays,
)
from autoseg.dataset.formats.format import Format
from autoseg.errors import DatasetError, nearest

GROUP = "autoseg.formats"
"""Entry points of this group are `Format` records."""


@cache  # reading what is installed takes milliseconds, and every case asks
def formats() -> tuple[Format, ...]:
    """Return all formats, in the order in which a folder is tried: the more telling first."""
    others = (entry.load() for entry in entry_points(group=GROUP))
    return (*_own_formats(), *others)


def _own_formats() -> tuple[Format, ...]:
    return (
        patterns.FORMAT,
        msd.FORMAT,
        nnunet.FORMAT,
        datalist.FORMAT,
        table.FORMAT,
        bids.FORMAT,
        signals.FORMAT,
        zarr_arrays.FORMAT,
        dicom.FORMAT,
        coco.FORMAT,
        folders.FORMAT,
        instances.FORMAT,
        class_folders.FORMAT,
        stems.FORMAT,
    )


def find_format(name: str) -> Format:
    """Return the format of a name.

    Raises
    ------
    DatasetError
        There is none; the message has the nearest name.
    """
    known = {entry.name: entry for entry in _own_formats()}
    if name not in known:  # looking for other packages takes long
        known = {entry.name: entry for entry in formats()}
    if name not in known:
        raise DatasetError(
            found=f"layout {name!r}",
            expected=f"one of {', '.join(known)}",
            fix=f"correct the layout in the spec{nearest(name, list(known))}",
        )
    return known[name]

"""Where the files of a data set lie, in a few words: "images/*.tif with 1st_manual/*.gif"."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.formats.naming import subfolders
from autoseg.runtime.images import FORMATS

MAX_PLACES = 3
"""Folders that are named one by one, of images or of masks; more are "*"."""
MAX_UNUSED = 4


def folders_used(dataset: Dataset) -> str:
    """Return where images and masks lie, and the folders that are left aside."""
    images = describe_places(case.images for case in dataset.cases)
    masks = describe_places(case.labels for case in dataset.cases)
    text = f"{images} with {masks}" if masks and masks != images else images
    unused = unused_folders(dataset)
    shown = ", ".join(f"{name}/" for name in unused[:MAX_UNUSED])
    more = f" and {len(unused) - MAX_UNUSED} more" if len(unused) > MAX_UNUSED else ""
    return f"{text}; not used: {shown}{more}" if unused else text


def describe_places(names: Iterable[Sequence[str]]) -> str:
    """Return the patterns that some files or folders have in common."""
    paths = sorted({PurePosixPath(name) for group in names for name in group})
    places = sorted({_place(path) for path in paths}) if len(paths) > 1 else [*map(str, paths)]
    if len(places) <= MAX_PLACES:
        return ", ".join(places)
    merged = sorted({_merged(alike) for alike in _by_depth(places)})
    if len(merged) > MAX_PLACES:  # files of many kinds
        merged = sorted({f"{PurePosixPath(place).parent.as_posix()}/*" for place in merged})
    return ", ".join(merged)


def unused_folders(dataset: Dataset) -> list[str]:
    """Return the folders beside those in use that hold no file of any case."""
    files = {Path(name) for case in dataset.cases for name in (*case.images, *case.labels)}
    used = {folder for path in files for folder in (path, *path.parents)}
    top = sorted(path for path in used if len(path.parts) == 1 and path.name not in ("", ".."))
    beside = [
        path.relative_to(dataset.root)
        for parent in (Path(), *(top if len(top) <= MAX_PLACES else ()))
        if (dataset.root / parent).is_dir()
        for path in subfolders(dataset.root / parent)
    ]
    return [
        path.as_posix() for path in beside if path not in used and files.isdisjoint(path.parents)
    ]


def _place(path: PurePosixPath) -> str:
    name = path.name.lower()
    ending = next((end for end in FORMATS if name.endswith(end)), path.suffix.lower())
    return (path.parent / f"*{ending}").as_posix()


def _by_depth(places: Iterable[str]) -> list[list[str]]:
    """Return places in groups: those as deep as each other, with files of one kind."""
    groups: dict[tuple[int, str], list[str]] = {}
    for place in places:
        path = PurePosixPath(place)
        groups.setdefault((len(path.parts), path.name), []).append(place)
    return list(groups.values())


def _merged(places: Sequence[str]) -> str:
    """Return one pattern for several: what differs is "*"."""
    rows = zip(*(PurePosixPath(place).parts for place in places), strict=True)
    return "/".join(parts[0] if len(set(parts)) == 1 else "*" for parts in rows)

"""Cases that a file lists by their paths: what tables and JSON lists have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from autoseg.dataset.formats.format import FoundCase, Problem
from autoseg.runtime.images import FORMATS, case_stem, is_image

SplitName = Literal["train", "val", "test"]
SPLITS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""What a part of an official split may be called."""
MAX_ID_BYTES = 200
"""Ids become names of files, whose endings need some room too."""
FIRST_CHANNEL = "_0000"
LABELS = ""
"""Name of the mask that is a map of values."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One case as it is listed."""

    where: str
    """Where it stands, for messages: "cases.csv line 3"."""
    images: tuple[str, ...]
    masks: dict[str, str]
    """Binary masks by class; or one file with a map of values, under `LABELS`."""
    case_id: str | None = None
    group: str | None = None
    site: str | None = None
    split: SplitName | None = None
    fold: int | None = None


@dataclass(frozen=True)
class Listed:
    """One listed case with its files; absolute paths."""

    entry: Entry
    case_id: str
    images: tuple[Path, ...]
    masks: dict[str, Path] = field(default_factory=dict)

    def found(self, labels: tuple[Path, ...], paint: tuple[int, ...] = ()) -> FoundCase:
        """Return the case with its label files."""
        entry = self.entry
        return FoundCase(
            self.case_id,
            self.images,
            labels,
            paint,
            group=entry.group,
            site=entry.site,
            split=entry.split,
            fold=entry.fold,
        )


def find_listed(
    entries: Sequence[Entry], folders: Sequence[Path]
) -> tuple[list[Listed], list[Problem]]:
    """Return the cases whose files are there, and what is wrong with the others.

    Relative paths are looked for in each of `folders`.
    """
    problems = []
    complete: list[tuple[Entry, str, tuple[Path, ...], dict[str, Path]]] = []
    for entry, case_id in zip(entries, _case_ids(entries, folders), strict=True):
        images = {name: _find(name, folders) for name in entry.images}
        masks = {name: _find(name, folders) for name in entry.masks.values()}
        files = images | masks
        wrong = [_wrong(entry, name, path, case_id) for name, path in files.items()]
        problems += [problem for problem in wrong if problem]
        if not any(wrong):
            paths = {name: masks[text] for name, text in entry.masks.items()}
            found = tuple(images[name] for name in entry.images)
            complete.append((entry, case_id, found, paths))
    listed: dict[str, Listed] = {}
    for entry, case_id, images, masks in complete:
        first = listed.setdefault(case_id.casefold(), Listed(entry, case_id, images, masks)).entry
        if first is not entry:
            found = f"the case {case_id} again, as in {first.where}"
            problems.append(Problem.of(entry.where, found, case_id, remedy="remove one of the two"))
        elif not _is_name(case_id):
            found = f"the id {case_id!r} cannot be part of a file's name"
            remedy = "change it: without slashes, not too long, no dot in front"
            problems.append(Problem.of(entry.where, found, case_id, remedy=remedy))
    return list(listed.values()), problems


def _case_ids(entries: Sequence[Entry], folders: Sequence[Path]) -> list[str]:
    """Return the id of each entry, also of those whose files are not there."""
    names = case_names([_find(entry.images[0], folders) for entry in entries])
    return [entry.case_id or name for entry, name in zip(entries, names, strict=True)]


def case_names(images: Sequence[Path]) -> list[str]:
    """Return a name for each case: its image's, as much of the path as tells the cases apart."""
    stems = [stem_of(path) for path in images]
    common = min((len(path.parts) for path in images), default=1) - 1
    while common and len({path.parts[:common] for path in images}) > 1:
        common -= 1
    candidates = (
        [stem.removesuffix(FIRST_CHANNEL) for stem in stems],
        stems,
        [path.parent.name for path in images],
        [
            "_".join((*path.parent.parts[common:], stem))
            for path, stem in zip(images, stems, strict=True)
        ],
    )
    return next((names for names in candidates if _are_different(names)), stems)


def stem_of(path: Path) -> str:
    """Return a file's name without its ending, also where that is of no known kind."""
    return case_stem(path) if is_image(path) else path.stem


def has_channel_suffix(cases: Sequence[Listed]) -> bool:
    """Return whether names of images end in the number of the channel, or have to in new ones."""
    paths = [path for case in cases for path in case.images]
    return len(paths) > len(cases) or all(case_stem(p).endswith(FIRST_CHANNEL) for p in paths)


def count_problems(cases: Sequence[Listed], channels: tuple[str, ...] | None) -> list[Problem]:
    """Return a problem for each case with another number of images than the first, or declared."""
    if not cases or (channels and all(len(case.images) == 1 for case in cases)):
        return []  # a single file may hold all channels
    count = len(channels) if channels else len(cases[0].images)
    return [
        Problem.of(
            case.entry.where,
            f"{len(case.images)} images, expected {count}, one a channel",
            case.case_id,
            remedy="list an image for each channel, or take the case out of the list",
        )
        for case in cases
        if len(case.images) != count
    ]


def _find(name: str, folders: Sequence[Path]) -> Path:
    """Return the path of a listed file: the first that exists, else the likeliest."""
    spellings = [name, name.replace("\\", "/")] if "\\" in name else [name]
    candidates = [folder / spelling for spelling in spellings for folder in folders]
    return next((path for path in candidates if path.exists()), candidates[0])


def _wrong(entry: Entry, name: str, path: Path, case_id: str) -> Problem | None:
    """Return what is wrong with a listed file."""
    if not path.is_file():
        found, remedy = f"no such file, listed in {entry.where}", "add it, or correct its path"
    elif not is_image(path):
        found = f"an image of an unknown kind ({entry.where})"
        remedy = f"convert it to {', '.join(FORMATS)}"
    else:
        return None
    return Problem.of(name, found, case_id, remedy=f"{remedy}, or take the case out of the list")


def _are_different(names: Sequence[str]) -> bool:
    """Return whether files of these names can lie in one folder, on any system."""
    return len({name.casefold() for name in names}) == len(names)


def _is_name(case_id: str) -> bool:
    is_short = len(case_id.encode()) <= MAX_ID_BYTES
    return (
        is_short and case_id.isprintable() and case_id[0] != "." and not set(case_id) & set("/\\")
    )

"""Patterns of files in a folder of unknown layout: what a user could declare about it."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.registry import formats
from autoseg.dataset.spec import spec_json
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.images import FORMATS, read_extent

MAX_FILES = 20_000
"""Files that are listed before patterns are made of them."""
MAX_PATTERNS = 12
MANY_FOLDERS = 6
"""This many folders side by side are cases, not parts of a data set."""
OTHER_ENDINGS = (".dcm", ".npy", ".npz", ".h5", ".svs", ".hea", ".dat", ".csv", ".json", ".zarr")
"""Of files that may hold images or describe them, beside those that are read as images."""
MASK_WORDS = re.compile(
    r"mask|label|seg|annot|manual|truth|target|(?<![a-z])(gt|lbl)(?![a-z])", re.IGNORECASE
)


@dataclass(frozen=True)
class Pattern:
    """Files whose names differ in one part only."""

    folder: str
    """Relative, with a final slash; "" for the data set's folder."""
    before: str
    """The names begin so."""
    after: str
    """The names end so, ending included."""
    files: tuple[Path, ...]
    what: str
    """Of the first file: "584 x 565, 3 channels"; empty where that cannot be told."""

    @property
    def keys(self) -> frozenset[str]:
        """What stands for the case in each name."""
        cut = len(self.before), len(self.after)
        return frozenset(path.name[cut[0] : len(path.name) - cut[1]] for path in self.files)

    def text(self, place: str) -> str:
        """Return the pattern with something in place of the differing part."""
        middle = place if len(self.files) > 1 else next(iter(self.keys), "")
        return f"{self.folder}{self.before}{middle}{self.after}"


def unknown_layout(root: Path) -> DatasetError:
    """Return the error for a folder that no format knows: its files by pattern, and a proposal."""
    patterns = find_patterns(root)
    shown = [_line(pattern) for pattern in patterns[:MAX_PATTERNS]]
    if len(patterns) > MAX_PATTERNS:
        shown.append(f"... and {len(patterns) - MAX_PATTERNS} more patterns")
    listed = "\n".join(f"  {line}" for line in shown) if shown else "  no file that may be an image"
    known = "\n".join(f"  {entry.name}: {entry.expects}" for entry in formats())
    guess = propose(patterns) if len(patterns) <= MAX_PATTERNS else None
    fix = "name the folders so, or declare with --spec FILE where images and masks are"
    if guess is not None:
        fix += f"; FILE may hold (to be checked):\n{spec_json(guess)}"
    return DatasetError(
        found=f"{root} has no known layout; its files:\n{listed}",
        expected=f"one of these layouts:\n{known}",
        fix=fix,
    )


def find_patterns(root: Path) -> list[Pattern]:
    """Return the patterns of all files that may be images or describe them, largest first."""
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in _files(root):
        groups[path.parent.relative_to(root).as_posix(), _ending(path)].append(path)
    patterns = [
        pattern
        for (folder, ending), paths in _merged(groups).items()
        for pattern in _split("" if folder == "." else f"{folder}/", ending, sorted(paths))
    ]
    return sorted(patterns, key=lambda pattern: (-len(pattern.files), pattern.text("*")))


def propose(patterns: Sequence[Pattern]) -> DatasetSpec | None:
    """Return a declaration of images and masks whose names differ by the same parts, if any do."""
    usable = [
        pattern
        for pattern in patterns
        if len(pattern.files) > 1 and "*" not in pattern.folder and pattern.what
    ]
    masks = [pattern for pattern in usable if MASK_WORDS.search(pattern.text(" "))]
    for mask in masks:
        for image in usable:
            if image not in masks and image.keys == mask.keys:
                return DatasetSpec(images=(image.text("{case}"),), masks=mask.text("{case}"))
    return None


def _files(root: Path) -> Iterator[Path]:
    """Yield files that may be images, up to `MAX_FILES`; hidden ones are passed over."""
    count = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith((*FORMATS, *OTHER_ENDINGS)):
                count += 1
                yield Path(folder, name)
        if count >= MAX_FILES:
            return


def _ending(path: Path) -> str:
    name = path.name.lower()
    known = next(end for end in (*FORMATS, *OTHER_ENDINGS) if name.endswith(end))
    return path.name[-len(known) :]


def _merged(groups: dict[tuple[str, str], list[Path]]) -> dict[tuple[str, str], list[Path]]:
    """Return the groups with many folders side by side as one: "patient001" becomes "*"."""
    merged = groups
    depth = max((len(Path(folder).parts) for folder, _ in groups), default=0)
    for level in range(depth):
        many = _many_alike([Path(folder).parts for folder, _ in merged], level)
        result: dict[tuple[str, str], list[Path]] = defaultdict(list)
        for (folder, ending), paths in merged.items():
            parts = list(Path(folder).parts)
            if tuple(parts[: level + 1]) in many:
                parts[level] = "*"
            result["/".join(parts) or ".", ending] += paths
        merged = result
    return merged


def _many_alike(folders: Sequence[tuple[str, ...]], level: int) -> set[tuple[str, ...]]:
    """Return the folders at a level that have many beside them with the same folders inside."""
    inside: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    for parts in folders:
        if len(parts) > level:
            inside[parts[: level + 1]].add(parts[level + 1 : level + 2])
    alike: dict[tuple[object, ...], list[tuple[str, ...]]] = defaultdict(list)
    for folder, names in inside.items():
        kind = frozenset(names) if len(names) < MANY_FOLDERS else "many"
        alike[folder[:-1], kind].append(folder)
    return {folder for found in alike.values() if len(found) >= MANY_FOLDERS for folder in found}


def _split(folder: str, ending: str, paths: list[Path]) -> list[Pattern]:
    """Return the patterns among files of one folder: by what stands after their numbers."""
    tails: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        tails[_tail(path.name[: -len(ending)])].append(path)
    if len(tails) > max(2, len(paths) // 3):  # names without a system
        tails = {"": paths}
    return [_pattern(folder, tail + ending, found) for tail, found in tails.items()]


def _tail(stem: str) -> str:
    """Return the part of a name that tells its kind: "_manual1" of 21_manual1."""
    parts = re.split(r"(?=[_\-. ])", stem)
    words = [part for part in parts[1:] if re.search("[A-Za-z]{2}", part)]
    return words[-1] if words and stem.endswith(words[-1]) else ""


def _pattern(folder: str, after: str, paths: list[Path]) -> Pattern:
    """Return the pattern of files, with what the first one holds."""
    names = [path.name[: -len(after)] for path in paths]
    before = _common(names) if len(names) > 1 else ""
    try:
        extent = read_extent(paths[:1])
    except AutosegError:
        what = ""
    else:
        count = extent.num_channels
        channels = f", {count} channels" if count > 1 else ""
        what = " x ".join(str(length) for length in extent.shape) + channels
    return Pattern(folder, before, after, tuple(paths), what)


def _common(names: Sequence[str]) -> str:
    """Return the beginning that all names share, up to a separator: not a part of a number."""
    first, last = min(names), max(names)
    length = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    match = re.match(r".*[_\-. ]|[A-Za-z]*", first[:length])
    return match[0] if match else ""


def _line(pattern: Pattern) -> str:
    count = len(pattern.files)
    what = f", {pattern.what}" if pattern.what else ""
    return f"{pattern.text('*')} ({count} file{'s' * (count > 1)}{what})"

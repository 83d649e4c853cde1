"""Patterns of files in a folder of unknown layout: what a user could declare about it."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats import patterns as patterns_format
from autoseg.dataset.formats.listed import SPLITS
from autoseg.dataset.formats.naming import IMAGE_FOLDERS, plain_name
from autoseg.dataset.formats.patterns import CASE, GROUP, SPLIT
from autoseg.dataset.formats.registry import formats
from autoseg.dataset.formats.table import is_case_table
from autoseg.dataset.spec import spec_json
from autoseg.errors import AutosegError, DatasetError, counted
from autoseg.pipeline.case_folders import propose_case_folders
from autoseg.runtime.images import FORMATS, read_extent

MAX_FILES = 20_000
"""Files that are listed before patterns are made of them."""
MAX_PATTERNS = 12
MANY_FOLDERS = 6
"""This many folders side by side are cases, not parts of a data set."""
MIN_FOLDERS = 2
"""Fewer folders of patients repeat nothing."""
NUMBERS = {2: "two", 3: "three", 4: "four"}
SIGNALS = (".csv", ".npy")
"""Endings of tables, which may hold signals of one dimension."""
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


Pair = tuple[Pattern, Pattern]
"""Images, and masks of the same cases."""


def unknown_layout(root: Path) -> DatasetError:
    """Return the error for a folder that no format knows: what is missing, its files, a proposal.

    What is said first is what the user most likely wants to know.
    """
    files = list(_files(root))
    patterns = find_patterns(root)
    shown = [_line(pattern) for pattern in patterns[:MAX_PATTERNS]]
    if len(patterns) > MAX_PATTERNS:
        shown.append(f"... and {len(patterns) - MAX_PATTERNS} more patterns")
    listed = "\n".join(f"  {line}" for line in shown) if shown else "  no file that may be an image"
    tables = _tables(root)
    pairs = find_pairs(patterns) if len(patterns) <= MAX_PATTERNS else []
    guess = DatasetSpec(table=tables[0]) if tables else None
    if guess is None and len(files) < MAX_FILES:
        guess = propose_folders(root, files)
    guess = guess or propose(pairs) or propose_case_folders(root, files, _is_mask)
    first = _first_words(root, files, tables, pairs)
    fix = "name the folders so, or declare with --spec FILE where images and masks are"
    if guess is not None:
        fix = "declare with --spec FILE where images and masks are"
        fix += f"; FILE may hold (to be checked):\n{spec_json(guess)}"
    return DatasetError(
        found=f"{first}{root} has no known layout; its files:\n{listed}",
        expected=f"images and masks in one of these layouts: {', '.join(_names())}",
        fix=fix,
    )


def _names() -> list[str]:
    return [entry.name for entry in formats() if entry.name != patterns_format.FORMAT.name]


def _first_words(
    root: Path, files: Sequence[Path], tables: Sequence[str], pairs: Sequence[Pair]
) -> str:
    """Return the line that says what is missing or to be chosen, if that can be told."""
    if len(tables) == 1:
        return f'{tables[0]} looks like a table of cases: declare "table": "{tables[0]}"\n'
    if tables:
        named = " and ".join(tables)
        return f'{named} look like tables of cases: choose one with "table"\n'
    masks = [mask for image, mask in pairs if image == pairs[0][0]]
    if len(masks) > 1:
        folders = [mask.folder.rstrip("/") for mask in masks]
        are_folders = len(set(folders)) == len(masks) and all(folders)
        names = folders if are_folders else [mask.text("*") for mask in masks]
        what = "mask folders" if are_folders else "kinds of masks"
        count = NUMBERS.get(len(masks), str(len(masks)))
        return f'{count} {what}: {", ".join(names)}: choose one with "masks"\n'
    if masks and not MASK_WORDS.search(masks[0].text(" ")):
        return f"nothing is named like masks; {masks[0].text('*')} may be them\n"
    images = [path for path in files if path.name.lower().endswith(FORMATS)]
    if not images and any(path.suffix.lower() in SIGNALS for path in files):
        return "a signal is a table with its channels, its labels are another one: images/a.csv \
and labels/a.csv\n"
    if images and not any(_is_mask(path.relative_to(root)) for path in images):
        return f"no masks found beside the {counted(len(images), 'image')}\n"
    return ""


def _tables(root: Path) -> list[str]:
    """Return the names of the tables of cases in a folder, whatever they are called."""
    return [
        path.name
        for path in sorted(root.iterdir())
        if path.suffix.lower() in (".csv", ".tsv") and path.is_file() and is_case_table(path)
    ]


def _is_mask(relative: Path) -> bool:
    return MASK_WORDS.search(relative.as_posix()) is not None


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


def find_pairs(patterns: Sequence[Pattern]) -> list[Pair]:
    """Return the patterns of images and of masks whose names differ by the same parts."""
    usable = [
        pattern
        for pattern in patterns
        if len(pattern.files) > 1 and "*" not in pattern.folder and pattern.what
    ]
    masks = [pattern for pattern in usable if MASK_WORDS.search(pattern.text(" "))]
    images = [pattern for pattern in usable if pattern not in masks]
    if not masks:  # then a folder that is named for images tells which the others may be
        named = [pattern for pattern in images if plain_name(pattern.folder) in IMAGE_FOLDERS]
        masks = [pattern for pattern in images if pattern not in named]
        images = named
    return [(image, mask) for mask in masks for image in images if image.keys == mask.keys]


def propose(pairs: Sequence[Pair]) -> DatasetSpec | None:
    """Return a declaration of images and masks that pair, if any do."""
    if not pairs:
        return None
    image, mask = pairs[0]
    if image.before == mask.before:  # then it may stand in the ids
        image, mask = replace(image, before=""), replace(mask, before="")
    return DatasetSpec(images=(image.text("{case}"),), masks=mask.text("{case}"))


def propose_folders(root: Path, files: Sequence[Path]) -> DatasetSpec | None:
    """Return a declaration for folders that repeat: one a patient, or one a part of a split."""
    relative = [path.relative_to(root) for path in files if path.name.lower().endswith(FORMATS)]
    images = _repeated([path for path in relative if not _is_mask(path)])
    masks = _repeated([path for path in relative if _is_mask(path)])
    if images is None or masks is None:
        return None
    folders = {folder for folder, _ in images.keys}
    if SPLIT in images.text and SPLIT in masks.text:
        tested = {(f, key) for f, key in images.keys if SPLITS[f.lower()] == "test"}
        if not tested & masks.keys:  # kept secret
            return _declared(images, masks) if images.keys - tested == masks.keys else None
    if images.keys != masks.keys or len(folders) < MIN_FOLDERS:
        return None
    return _declared(images, masks)


def _declared(images: "_Repeated", masks: "_Repeated") -> DatasetSpec | None:
    texts = images.text, masks.text
    if not all(CASE in text for text in texts):
        if any(CASE in text or GROUP not in text for text in texts):
            return None
        texts = texts[0].replace(GROUP, CASE), texts[1].replace(GROUP, CASE)  # a folder a case
    return DatasetSpec(images=(texts[0],), masks=texts[1])


@dataclass(frozen=True)
class _Repeated:
    """Files in folders side by side that hold the same."""

    text: str
    """The pattern, with places."""
    keys: frozenset[tuple[str, str]]
    """Folder, and what stands for the case, of each file."""


def _repeated(paths: Sequence[Path]) -> _Repeated | None:
    """Return the pattern of files whose folders differ at one level; None where they do not."""
    endings = {_ending(path) for path in paths}
    depths = {len(path.parts) for path in paths}
    if len(endings) != 1 or len(depths) != 1:
        return None
    rows = [path.parts[:-1] for path in paths]
    levels = [i for i, names in enumerate(zip(*rows, strict=True)) if len(set(names)) > 1]
    if len(levels) != 1:
        return None
    folders = [row[levels[0]] for row in rows]
    field = SPLIT if all(folder.lower() in SPLITS for folder in folders) else GROUP
    ending = endings.pop()
    stems = [
        path.name[: -len(ending)].replace(folder, field if field == GROUP else folder)
        for path, folder in zip(paths, folders, strict=True)
    ]
    tails = {_tail(stem) for stem in stems}
    after = tails.pop() if len(tails) == 1 and len(set(stems)) > 1 else ""
    names = [stem[: len(stem) - len(after)] for stem in stems]
    is_one = len(set(stems)) == 1
    before = stems[0] if is_one else _common(names)
    parts = [*rows[0]]
    parts[levels[0]] = field
    name = f"{before}{'' if is_one else CASE}{after}{ending}"
    keys = ["" if is_one else name[len(before) :] for name in names]
    return _Repeated("/".join((*parts, name)), frozenset(zip(folders, keys, strict=True)))


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

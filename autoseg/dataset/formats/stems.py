"""Image and mask in one folder, with one name: a.jpg and a.png, a.nii.gz and a_seg.nii.gz.

The folder itself holds them, or folders in it, one a group: a patient, a scan.
"""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec, Reading
from autoseg.dataset.formats.format import Format, FoundCase, Layout, Problem
from autoseg.dataset.formats.instances import OBJECT, object_labels
from autoseg.dataset.formats.listed import SPLITS
from autoseg.dataset.formats.naming import IMAGE_FOLDERS, image_files, plain_name, subfolders
from autoseg.dataset.formats.partners import join_partners
from autoseg.dataset.formats.peek import binary_threshold
from autoseg.dataset.label_values import spec_labels
from autoseg.runtime.images import LOSSY_FORMATS, case_stem, file_ending

LOG = logging.getLogger("autoseg")
SUFFIX = re.compile(
    r"(?P<case>.+?)[_\-. ](?:masks?|seg|segmentation|labels?|labelmap|gt|ground_?truth|annotation|"
    r"manual)(?P<number>[_\- ]?\d+)?",
    re.IGNORECASE,
)
"""Name of a mask; several masks of one case are numbered."""
WORD = re.compile(r"[_\-. ]")
"""What separates the name of a case from that of a channel."""
FOLDER = "folder"
"""What `group_by` or `site_by` says where it means the folder of a case."""
_PLACE = "site|cent(?:er|re)|hospital|clinic"
SITE = re.compile(
    rf"(?i:{_PLACE}|scanner|vendor|institut(?:e|ion))(?:[-_ ]?(?:\d+|[A-Z][A-Za-z]*)|[-_ ][a-z]+)"
    rf"|[A-Za-z]+[-_ ](?i:{_PLACE})|[A-Za-z]*[a-z](?:Site|Cent(?:er|re)|Hospital|Clinic)"
)
"""Name of a folder that holds what one hospital or scanner made: site1, Hospital_A, city-clinic."""
MASK_ENDINGS = (".gif", ".png", ".bmp", ".tif", ".tiff")
"""Of two pictures of one name, the mask is the one whose ending stands first here."""
NUM_LOOKED_AT = 16
"""Folders that tell whether all look so."""


@dataclass(frozen=True)
class StemCase:
    """The files of one name."""

    stem: str
    images: dict[str, Path]
    """By what the name has behind that of the case; "" where it has nothing."""
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class Stems:
    """What pairs in one folder, and what does not."""

    cases: tuple[StemCase, ...]
    alone: tuple[Path, ...]


def is_found(root: Path) -> bool:
    """Return whether at least half of the images in the folder, or of its folders, are pairs."""
    files = image_files(root)
    if files:
        return _is_mostly_pairs(files)
    homes = [home(folder) for folder in subfolders(root)[:NUM_LOOKED_AT]]
    inside = [files for files in map(image_files, homes) if files]
    return bool(inside) and 2 * sum(map(_is_mostly_pairs, inside)) >= len(homes)


def home(folder: Path) -> Path:
    """Return where the files of a folder lie: in it, or in the only folder in it."""
    folders = subfolders(folder)
    is_passed = len(folders) == 1 and not image_files(folder)
    return folders[0] if is_passed else folder


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return the pairs of the folder, or of all folders in it: several are groups, or sites."""
    folders = [root] if image_files(root) else [home(folder) for folder in subfolders(root)]
    found = {folder: pair_stems(image_files(folder)) for folder in folders}
    found = {folder: stems for folder, stems in found.items() if _is_used(root, folder, stems)}
    words, problems = channel_words(root, found.values(), spec)
    has_objects = any(len(case.masks) > 1 for stems in found.values() for case in stems.cases)
    labels = object_labels(spec) if has_objects else spec_labels(spec)
    value = labels.values[1] if labels is not None and has_objects else 1
    names = case_names(root, found)
    meaning = _meaning(root, found, spec)
    cases = []
    for folder, stems in found.items():
        told = dict.fromkeys(meaning, _group(root, folder))
        problems += lone_problems(root, stems)
        cases += [
            FoundCase(
                case_id=names[folder, case.stem],
                images=tuple(case.images[word] for word in words),
                labels=case.masks,
                paint=(value,) * len(case.masks) if has_objects else (),
                group=told.get("group"),
                site=told.get("site"),
                split=SPLITS.get(_first(root, folder).lower()),
            )
            for case in stems.cases
            if set(case.images) == set(words)
        ]
    return Layout(
        cases=tuple(cases),
        problems=tuple(problems),
        channels=spec.channels or channel_names(words),
        labels=labels,
        reading=_object_reading(found.values(), spec) if has_objects else Reading(),
        columns=(FOLDER,) if meaning else (),
        has_inferred_sites="site" in meaning and spec.site_by is None,
    )


def _meaning(root: Path, found: Iterable[Path], spec: DatasetSpec) -> tuple[str, ...]:
    """Return what the folders are: "group", "site", both; undeclared, one alone is nothing."""
    names = [name for folder in found if (name := _group(root, folder)) is not None]
    declared = tuple(
        field for field, by in (("group", spec.group_by), ("site", spec.site_by)) if by == FOLDER
    )
    if names and declared:
        return declared
    if len({*found}) < 2:
        return ()
    if not names or not all(SITE.fullmatch(name) for name in names):
        return ("group",)
    return ("site",) if spec.site_by is None else ()  # what it says, and no groups


def _object_reading(found: Iterable[Stems], spec: DatasetSpec) -> Reading:
    """Return how masks of one object each are read; maps of values are refused as they are read."""
    masks = [path for stems in found for case in stems.cases for path in case.masks]
    threshold = binary_threshold({OBJECT: masks}) if spec.threshold is None else None
    return Reading(masks="binaries", threshold=threshold)


def _first(root: Path, folder: Path) -> str:
    """Return the name of the folder in the data set's folder; "" for itself."""
    return "".join(folder.relative_to(root).parts[:1])


def _group(root: Path, folder: Path) -> str | None:
    name = _first(root, folder)
    return None if name.lower() in SPLITS else name or None


def _is_used(root: Path, folder: Path, stems: Stems) -> bool:
    """Return whether there are files to use: images to be tested on may lie there unlabelled."""
    if stems.cases or SPLITS.get(_first(root, folder).lower()) in (None, "train"):
        return True
    LOG.info("%s: left aside, there are no masks", folder)
    return False


def case_names(root: Path, found: dict[Path, Stems]) -> dict[tuple[Path, str], str]:
    """Return an id for each name in each folder: the name, with the folder's where it must.

    A folder of one case gives its own name.
    """
    stems = [(folder, case.stem) for folder, pairs in found.items() for case in pairs.cases]
    if len({stem for _, stem in stems}) == len(stems):
        return {key: key[1] for key in stems}
    is_single = max(Counter(folder for folder, _ in stems).values()) == 1
    names = {}
    for folder, stem in stems:
        first = _first(root, folder)
        names[folder, stem] = first if is_single else f"{first}_{stem}"
    return names


def pair_stems(files: Sequence[Path]) -> Stems:
    """Return which files of a folder are image and mask of one name."""
    others, masks = defaultdict(list), defaultdict(list)
    for path in files:
        match = SUFFIX.fullmatch(case_stem(path))
        (masks[match["case"]] if match else others[case_stem(path)]).append(path)
    images = _images_of(set(masks), others)
    for stem in set(masks) - set(images):  # a name that only looks like a mask's
        for path in masks.pop(stem):
            others[case_stem(path)].append(path)
    taken = {path for found in images.values() for path in found.values()}
    cases, alone = [], []
    for stem, paths in masks.items():
        is_clear = len(paths) == 1 or all(_number(path) or path == paths[0] for path in paths)
        if is_clear:
            cases.append(StemCase(stem, images[stem], tuple(paths)))
        else:
            alone += paths
    for stem, paths in others.items():
        rest = [path for path in paths if path not in taken]
        pair = _same_name(rest) if len(rest) == len(paths) else None
        if pair is None:
            alone += rest
        else:
            cases.append(StemCase(stem, {"": pair[0]}, (pair[1],)))
    return Stems(tuple(sorted(cases, key=lambda case: case.stem)), tuple(sorted(alone)))


def _images_of(stems: set[str], others: dict[str, list[Path]]) -> dict[str, dict[str, Path]]:
    """Return the images of each name: the file of that name, else those that begin with it."""
    images: dict[str, dict[str, Path]] = defaultdict(dict)
    for stem in stems & set(others):
        if len(others[stem]) == 1:
            images[stem][""] = others[stem][0]
    for name, paths in others.items():
        ends = [match.start() for match in WORD.finditer(name)]
        owner = next((name[:end] for end in reversed(ends) if name[:end] in stems), None)
        if owner is not None and "" not in images.get(owner, {}) and len(paths) == 1:
            images[owner][name[len(owner) + 1 :]] = paths[0]
    return images


def _number(path: Path) -> str | None:
    match = SUFFIX.fullmatch(case_stem(path))
    return match["number"] if match else None


def _same_name(paths: Sequence[Path]) -> tuple[Path, Path] | None:
    """Return image and mask of two files of one name, told by their endings."""
    if len(paths) != 2:
        return None
    ranks = [_rank(path) for path in paths]
    if ranks[0] == ranks[1]:
        return None
    mask, image = sorted(paths, key=_rank)
    return (image, mask) if file_ending(mask) in MASK_ENDINGS else None


def _rank(path: Path) -> int:
    ending = file_ending(path)
    if ending in MASK_ENDINGS:
        return MASK_ENDINGS.index(ending)
    return len(MASK_ENDINGS) + (ending in LOSSY_FORMATS)


def _is_mostly_pairs(files: Sequence[Path]) -> bool:
    stems = pair_stems(files)
    return bool(stems.cases) and 2 * len(stems.alone) <= len(files)


def lone_problems(root: Path, stems: Stems) -> list[Problem]:
    """Return the problems of the files of a folder that do not pair, with likely partners."""
    masks = [path for path in stems.alone if _looks_like_mask(path, stems.cases)]
    ends = Counter(
        case_stem(path).removeprefix(case.stem) for case in stems.cases for path in case.masks
    )
    end = ends.most_common(1)[0][0] if ends else ""
    images = [_without_mask(root, path) for path in stems.alone if path not in masks]
    return join_partners(
        images, [_without_mask(root, path) for path in masks], lambda name: name + end
    )


def _looks_like_mask(path: Path, cases: Iterable[StemCase]) -> bool:
    """Return whether a file is named like a mask, or of the kind that only masks are here."""
    masks = {file_ending(mask) for case in cases for mask in case.masks}
    images = {file_ending(image) for case in cases for image in case.images.values()}
    is_named = SUFFIX.fullmatch(case_stem(path)) is not None
    return is_named or file_ending(path) in masks - images


def _without_mask(root: Path, path: Path) -> Problem:
    """Return the problem of a file that has no partner."""
    return Problem.of(path.relative_to(root).as_posix(), "no mask of this name", case_stem(path))


def channel_words(
    root: Path, found: Iterable[Stems], spec: DatasetSpec
) -> tuple[tuple[str, ...], list[Problem]]:
    """Return what names the channels in the names of files, and the cases that have others."""
    cases = [case for stems in found for case in stems.cases]
    counts = Counter(frozenset(case.images) for case in cases)
    if not counts:
        return (), []
    words = sorted(counts.most_common(1)[0][0])
    if spec.channels and {*map(plain_name, spec.channels)} == {*map(plain_name, words)}:
        order = [plain_name(name) for name in spec.channels]
        words.sort(key=lambda word: order.index(plain_name(word)))
    problems = []
    for case in cases:
        if set(case.images) != set(words):
            expected = ", ".join(f"{case.stem}_{word}" if word else case.stem for word in words)
            mask = case.masks[0].relative_to(root).as_posix()
            has = ", ".join(path.name for path in case.images.values())
            what = f"expected the images {expected}, found {has}"
            problems.append(Problem.of(mask, what, case.stem))
    return tuple(words), problems


def channel_names(words: Sequence[str]) -> tuple[str, ...] | None:
    """Return names for channels; None for one that is just an image."""
    plain = {"", "im", *IMAGE_FOLDERS}
    is_plain = len(words) < 2 and all(plain_name(word) in plain for word in words)
    return None if is_plain else tuple(words)


FORMAT = Format(
    name="stems",
    expects="image and mask in one folder with one name: a.jpg and a.png, or a.tif and a_mask.tif",
    is_found=is_found,
    find_cases=find_cases,
)

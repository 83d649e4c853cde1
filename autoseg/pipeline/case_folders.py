"""A declaration for one folder a case with the same files in each: t1.nii.gz, mask.nii.gz."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.nesting import NUM_LOOKED_AT
from autoseg.dataset.formats.patterns import CASE, OPTIONAL
from autoseg.errors import AutosegError
from autoseg.runtime.images import case_stem, is_image, read_mask

MIN_CASES = 2
USUAL = 0.8
"""A file that so many folders have is one of every case: what lacks it is told as a problem."""
WORDS = re.compile(r"[-_ .]?(?:masks?|labels?|seg|segmentation|gt|annotation|manual)[-_ .]?", re.I)


def propose_case_folders(
    root: Path, files: Sequence[Path], is_mask: Callable[[Path], bool]
) -> DatasetSpec | None:
    """Return patterns for images and masks that have the same names in each folder.

    The folder's name may stand in the files' names. Several masks are classes, the largest first,
    since later ones are painted on top; those that not every folder has are optional. Several
    images are channels. None where files are otherwise.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for path in files:
        relative = path.relative_to(root)
        if is_image(path) and len(relative.parts) > 1:
            case, *rest = relative.parts
            whole_word = rf"(?<![A-Za-z0-9]){re.escape(case)}(?![A-Za-z0-9])"
            found[re.sub(whole_word, CASE, "/".join(rest))].add(case)
    cases = set().union(*found.values()) if found else set()
    if len(cases) < MIN_CASES:
        return None
    masks = sorted(name for name in found if is_mask(Path(name)))
    images = sorted(name for name in found if name not in masks)
    is_usual = [len(found[name]) >= USUAL * len(cases) for name in images]
    if not (images and masks and all(is_usual)) or not _are_masks_of(cases, found, masks):
        return None
    masks.sort(key=lambda name: -_size(root, name, found[name]))
    patterns = {name: f"{CASE}/{name}" for name in (*images, *masks)}
    if len(masks) == 1:
        declared: str | dict[str, str] = patterns[masks[0]]
    else:
        needed = {name: len(found[name]) >= USUAL * len(cases) for name in masks}
        names = dict(zip(masks, _class_names(masks), strict=True))
        declared = {
            names[name]: patterns[name] + ("" if needed[name] else OPTIONAL) for name in masks
        }
    channels = tuple(_plain(name) for name in images) if len(images) > 1 else None
    return DatasetSpec(
        images=tuple(patterns[name] for name in images), masks=declared, channels=channels
    )


def _are_masks_of(cases: set[str], found: dict[str, set[str]], masks: Iterable[str]) -> bool:
    """Return whether masks repeat: names that only one folder has are of objects, or of cases."""
    counts = Counter({name: len(found[name]) for name in masks})
    return max(counts.values()) >= USUAL * len(cases) and min(counts.values()) >= MIN_CASES


def _size(root: Path, name: str, cases: Iterable[str]) -> int:
    """Return how many voxels a mask marks in the first cases; none where it cannot be read."""
    total = 0
    for case in sorted(cases)[:NUM_LOOKED_AT]:
        try:
            mask = read_mask(root / case / name.replace(CASE, case)).array
        except AutosegError:
            continue
        total += int(np.count_nonzero(mask))
    return total


def _plain(name: str) -> str:
    return case_stem(Path(name)).replace(CASE, "").strip("-_ .") or case_stem(Path(name))


def _class_names(masks: Sequence[str]) -> list[str]:
    """Return what distinguishes the masks: their names without the word for masks."""
    names = [WORDS.sub("", _plain(name)) or _plain(name) for name in masks]
    return names if len(set(names)) == len(names) else [_plain(name) for name in masks]

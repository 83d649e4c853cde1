"""What names of files and folders tell: usual names, and how names of images and labels differ."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from autoseg.runtime.images import is_image

IMAGE_FOLDERS = frozenset(
    (
        "image",
        "images",
        "img",
        "imgs",
        "imagestr",
        "imgstr",
        "imagestrain",
        "trainimages",
        "trainingimages",
        "input",
        "inputs",
        "scan",
        "scans",
        "volumes",
        "jpegimages",
    )
)
"""Usual names of a folder of images, as `plain_name` gives them."""
LABEL_FOLDERS = frozenset(
    (
        "label",
        "labels",
        "mask",
        "masks",
        "gt",
        "gts",
        "groundtruth",
        "groundtruths",
        "annotation",
        "annotations",
        "manual",
        "manual1",
        "1stmanual",
        "seg",
        "segs",
        "segmentation",
        "segmentations",
        "labelstr",
        "labelstrain",
        "trainlabels",
        "trainmasks",
        "traininglabels",
        "trainingmasks",
        "target",
        "targets",
        "segmentationclass",
        "labelmap",
        "labelmaps",
    )
)
"""The same for labels."""
MAJORITY = 0.8
"""Part of the names that must share a beginning or end for it to be more than a coincidence."""


class Affix(NamedTuple):
    """What the names on one side have in front of and behind the id of the case."""

    prefix: str
    suffix: str

    def strip(self, stem: str) -> str | None:
        """Return the id in a name; None where the name is not made so."""
        start, end = len(self.prefix), len(stem) - len(self.suffix)
        is_so = start < end and stem.startswith(self.prefix) and stem.endswith(self.suffix)
        return stem[start:end] if is_so else None


def plain_name(name: str) -> str:
    """Return a name in lower case without what separates words."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder by rising name; hidden ones and folders are left aside."""
    return sorted(path for path in folder.iterdir() if is_image(path))


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, by rising name."""
    return sorted(
        path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()
    )


def related_affixes(images: Sequence[str], labels: Sequence[str]) -> tuple[Affix, Affix]:
    """Return what images and labels have around the ids that they share.

    It is what all names of a side have in common, or else `MAJORITY` of them, cut where a word or
    a number ends, without what both sides have: `21_training` and `21_manual1` share 21,
    `case1` and `case1_seg` share case1. Of the two, the one that pairs more names.
    """
    best = (Affix("", ""), Affix("", ""))
    for share in (1.0, MAJORITY):
        prefixes = _own_starts(images, labels, share)
        suffixes = _own_starts(_reversed(images), _reversed(labels), share)
        ends = [text[::-1] for text in suffixes]
        found = (Affix(prefixes[0], ends[0]), Affix(prefixes[1], ends[1]))
        if _num_pairs(images, labels, found) > _num_pairs(images, labels, best):
            best = found
    return best


def _num_pairs(images: Iterable[str], labels: Iterable[str], sides: tuple[Affix, Affix]) -> int:
    first = {sides[0].strip(stem) for stem in images}
    second = {sides[1].strip(stem) for stem in labels}
    return len((first & second) - {None})


def _reversed(stems: Iterable[str]) -> list[str]:
    return [stem[::-1] for stem in stems]


def _own_starts(images: Sequence[str], labels: Sequence[str], share: float) -> tuple[str, str]:
    """Return with what the names of each side begin, without what both have before the id."""
    first, second = _shared_start(images, share), _shared_start(labels, share)
    size = 0
    while size < min(len(first), len(second)) and first[-size - 1] == second[-size - 1]:
        size += 1
    while size and not all(_begins_a_word(text, len(text) - size) for text in (first, second)):
        size -= 1
    return first[: len(first) - size], second[: len(second) - size]


def _begins_a_word(text: str, position: int) -> bool:
    return text[position].isalnum() and _ends_a_word(text, position)


def _shared_start(stems: Sequence[str], share: float) -> str:
    """Return the longest beginning that so many names share, cut where a word or number ends."""
    holders = list(stems)
    for size in range(1, max(map(len, stems), default=0) + 1):
        counts = Counter(stem[:size] for stem in holders if len(stem) >= size)
        start, count = counts.most_common(1)[0]
        if count < share * len(stems):
            break
        holders = [stem for stem in holders if stem.startswith(start)]
    else:
        size = max(map(len, stems), default=0) + 1
    length = size - 1
    holders = [stem for stem in holders if len(stem) > length] or holders[:1]
    while length and not all(_ends_a_word(stem, length) for stem in holders):
        length -= 1
    return holders[0][:length] if holders else ""


def _ends_a_word(stem: str, position: int) -> bool:
    """Return whether a word or a number ends, or nothing has begun, before this position."""
    if position in (0, len(stem)) or not stem[position - 1].isalnum():
        return True
    return _kind(stem[position - 1]) != _kind(stem[position])


def _kind(letter: str) -> str:
    return "0" if letter.isdigit() else "a" if letter.isalpha() else "_"

"""Images and masks where a spec says they are: patterns such as "images/{case}_t1.nii.gz"."""

import glob
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from autoseg.dataset.dataset import DatasetSpec, Reading
from autoseg.dataset.formats.format import PAIR, Format, FoundCase, Layout, Problem
from autoseg.dataset.formats.listed import SPLITS
from autoseg.dataset.formats.nesting import painting
from autoseg.dataset.formats.partners import join_partners
from autoseg.dataset.formats.peek import binary_threshold, by_class
from autoseg.dataset.label_values import spec_labels
from autoseg.errors import DatasetError
from autoseg.runtime.images import FORMATS, case_stem, is_image

CASE = "{case}"
GROUP = "{group}"
"""A folder of a patient, say: in front of the id, which need not be unique without it."""
SPLIT = "{split}"
"""A folder named after a part of the official split."""
FIELDS = (SPLIT, GROUP, CASE)
ANY_ENDING = ".*"
OPTIONAL = "?"
"""At the end of a pattern of masks: a missing mask means that the class is not there."""

Files = dict[str, list[Path]]
"""Files by the id of the case."""


class Place(NamedTuple):
    """What stands in the places of a pattern; "" where it has no such place."""

    split: str
    group: str
    case: str

    @property
    def name(self) -> str:
        """The case's id, where the parts of a split do not share it."""
        return f"{self.group}_{self.case}" if self.group else self.case

    def fill(self, pattern: str) -> str:
        """Return a pattern with these in it."""
        for field, text in zip(FIELDS, self, strict=True):
            pattern = pattern.replace(field, text)
        return pattern


@dataclass(frozen=True)
class MaskPattern:
    """Where the masks of one class, or of all, are."""

    pattern: str
    is_optional: bool

    @classmethod
    def of(cls, text: str) -> "MaskPattern":
        """Return what a spec says."""
        return cls(text.removesuffix(OPTIONAL), text.endswith(OPTIONAL))


def are_declared(spec: DatasetSpec) -> bool:
    """Return whether a spec says where files are; masks alone may name a folder."""
    masks = spec.masks
    return spec.images is not None or isinstance(masks, dict) or CASE in (masks or "")


def is_found(root: Path) -> bool:  # noqa: ARG001
    """Return False: patterns stand in a spec, and no folder shows them."""
    return False


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return the cases whose files fit the patterns of a spec.

    Raises
    ------
    DatasetError
        Patterns are missing or make no sense, no file fits, or labels do not fit the masks.
    """
    patterns, masks = spec.images or (), _mask_patterns(spec)
    _check_patterns(patterns, masks, spec)
    cases, problems, places = _pair(root, patterns, masks, spec)
    if isinstance(spec.masks, dict):
        threshold = spec.threshold
        if threshold is None:
            threshold = binary_threshold(by_class(by for _, by in cases.values()))
        by_case = [by for _, by in cases.values()]
        painted = painting([*masks], by_case, spec, threshold, is_ordered=True)
        labels, paint = painted.labels, painted.values
        reading = Reading(masks="binaries", threshold=threshold)
    else:
        labels, paint, reading = spec_labels(spec), {}, Reading()
    return Layout(
        cases=tuple(
            FoundCase(
                case_id,
                tuple(paths),
                tuple(by_class.values()),
                paint=tuple(paint[name] for name in by_class if paint),
                group=places[case_id].group or None,
                split=SPLITS.get(places[case_id].split),
            )
            for case_id, (paths, by_class) in cases.items()
        ),
        problems=tuple(problems),
        channels=_channels(spec),
        labels=labels,
        reading=reading,
    )


def _pair(
    root: Path,
    patterns: Sequence[str],
    masks: Mapping[str, MaskPattern],
    spec: DatasetSpec,
) -> tuple[dict[str, tuple[list[Path], dict[str, Path]]], list[Problem], dict[str, Place]]:
    """Return images and masks (by class) of each case that has all, what does not fit, and places.

    The places of all cases in the patterns are given by their ids.
    """
    by_place = {text: _find(root, text) for text in _all_patterns(patterns, masks)}
    ids = _ids({place for files in by_place.values() for place in files})
    by_id = {
        text: {ids[place]: paths for place, paths in files.items()}
        for text, files in by_place.items()
    }
    places = {case_id: place for place, case_id in ids.items()}
    found_masks = {name: by_id[entry.pattern] for name, entry in masks.items()}
    found = [_without_masks(by_id[pattern], found_masks) for pattern in patterns]
    _refuse_nothing(root, found[0], patterns[0])
    problems = [
        problem
        for pattern, files in [
            *zip(patterns, found, strict=True),
            *((masks[name].pattern, files) for name, files in found_masks.items()),
        ]
        for problem in _twice(root, pattern, files)
    ]
    images, missing = _images(found, patterns, spec, places)
    labels, absent = _labels_of(images, found_masks, masks, places)
    alone = _alone(root, images, found_masks)
    problems += [*missing, *_with_partners(absent, alone, masks, places)]
    cases = {
        case_id: (paths, labels[case_id])
        for case_id, paths in sorted(images.items())
        if len(paths) == len(patterns) and case_id in labels
    }
    return cases, problems, places


def _all_patterns(patterns: Sequence[str], masks: Mapping[str, MaskPattern]) -> list[str]:
    return [*patterns, *(entry.pattern for entry in masks.values())]


def _ids(places: Collection[Place]) -> dict[Place, str]:
    """Return the id of each place; where parts of a split share ids, theirs begin with the part."""
    is_unique = len({place.name for place in places}) == len(places)
    return {
        place: place.name if is_unique or not place.split else f"{place.split}_{place.name}"
        for place in places
    }


def _mask_patterns(spec: DatasetSpec) -> dict[str, MaskPattern]:
    """Return the patterns by class; one for all classes has no name."""
    masks = spec.masks or {}
    named = masks if isinstance(masks, dict) else {"": masks}
    return {name: MaskPattern.of(text) for name, text in named.items()}


def _check_patterns(
    patterns: Sequence[str], masks: Mapping[str, MaskPattern], spec: DatasetSpec
) -> None:
    if not patterns or not masks:
        has, lacks = ("images", "masks") if patterns else ("masks", "images")
        raise DatasetError(
            found=f"{has} in the spec, but no {lacks}" if patterns or masks else "no patterns",
            expected='both, e.g. "images": ["images/{case}.*"], "masks": "masks/{case}.png"',
            fix=f"add {lacks} to the spec",
        )
    every = _all_patterns(patterns, masks)
    for pattern in every:
        if CASE not in pattern or Path(pattern).is_absolute():
            raise DatasetError(
                found=f"the pattern {pattern!r}",
                expected=f"{CASE} in it, and a path relative to the data set's folder",
                fix=f"write {CASE} where the id of the case stands, and * for what else varies",
            )
    for field in (GROUP, SPLIT):
        if 0 < sum(field in pattern for pattern in every) < len(every):
            raise DatasetError(
                found=f"{field} in some patterns only: {', '.join(every)}",
                expected=f"{field} in all of them, or in none",
                fix=f"write {field} where it stands in the other paths, or * in its place",
            )
    if len(patterns) > 1 and spec.channels is not None and len(spec.channels) != len(patterns):
        raise DatasetError(
            found=f"{len(patterns)} patterns of images for {len(spec.channels)} channels",
            expected="one pattern a channel, or one for files that hold them all",
            fix="correct images or channels in the spec",
        )


def _find(root: Path, pattern: str) -> dict[Place, list[Path]]:
    """Return the image files that fit a pattern."""
    expression, search = _expression(pattern)
    found: dict[Place, list[Path]] = defaultdict(list)
    for path in sorted(root.glob(search)):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match and is_image(path):
            told = match.groupdict(default="")
            split = SPLITS.get(told.get("split", "").lower(), "")
            found[Place(split, told.get("group", ""), told["case"])].append(path)
    return dict(found)


def _expression(pattern: str) -> tuple[re.Pattern[str], str]:
    """Return what a path must look like, and where to look: places take as much as fits."""
    pattern = pattern.removeprefix("./")
    has_any_ending = pattern.endswith(ANY_ENDING)
    body = pattern.removesuffix(ANY_ENDING) if has_any_ending else pattern
    expression, search = "", ""
    for part in re.split(r"(\{case\}|\{group\}|\{split\}|\*)", body):
        if part in FIELDS:
            name = part.strip("{}")
            fits = f"(?i:{'|'.join(SPLITS)})" if part == SPLIT else "[^/]+"
            is_new = f"(?P<{name}>" not in expression
            expression += f"(?P<{name}>{fits})" if is_new else f"(?P={name})"
        else:
            expression += "[^/]*?" if part == "*" else re.escape(part)
        search += "*" if part in (*FIELDS, "*") else glob.escape(part)
    if has_any_ending:
        expression += "(?i:" + "|".join(map(re.escape, FORMATS)) + ")"
    return re.compile(expression), search + ANY_ENDING * has_any_ending


def _without_masks(images: Files, masks: Mapping[str, Files]) -> Files:
    """Return images without masks: "{case}.png" finds a_mask.png, too.

    Patterns of masks that fit all images tell nothing.
    """
    is_mask = {path for files in masks.values() for paths in files.values() for path in paths}
    left = {key: [p for p in paths if p not in is_mask] for key, paths in images.items()}
    return {case_id: paths for case_id, paths in left.items() if paths} or images


def _refuse_nothing(root: Path, images: Files, pattern: str) -> None:
    if images:
        return
    entries = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    shown = ", ".join(entries[:10]) + (", ..." if len(entries) > 10 else "")
    raise DatasetError(
        found=f"no image that fits {pattern!r}; {root} holds {shown or 'nothing'}",
        expected=f"images (*{', *'.join(FORMATS)}) there",
        fix="correct images in the spec: paths are relative to this folder",
    )


def _twice(root: Path, pattern: str, files: Files) -> list[Problem]:
    return [
        Problem(
            f"both fit {pattern}",
            tuple(path.relative_to(root).as_posix() for path in paths),
            case_id,
            expected="one file for each case",
            remedy=f"write {CASE} where they differ, or remove one",
        )
        for case_id, paths in files.items()
        if len(paths) > 1
    ]


def _images(
    found: Sequence[Files],
    patterns: Sequence[str],
    spec: DatasetSpec,
    places: Mapping[str, Place],
) -> tuple[dict[str, list[Path]], list[Problem]]:
    """Return the images of each case by channel, and which of them are missing."""
    images: dict[str, list[Path]] = {}
    problems = []
    for case_id in sorted({case_id for files in found for case_id in files}):
        images[case_id] = [files[case_id][0] for files in found if case_id in files]
        for index, (pattern, files) in enumerate(zip(patterns, found, strict=True)):
            if case_id not in files:
                name = f" ({spec.channels[index]})" if spec.channels else ""
                where = places[case_id].fill(pattern)
                what = f"missing, it is channel {index}{name} of {case_id}"
                problems.append(Problem.of(where, what, case_id))
    return images, problems


def _labels_of(
    images: Mapping[str, Sequence[Path]],
    found: Mapping[str, Files],
    masks: Mapping[str, MaskPattern],
    places: Mapping[str, Place],
) -> tuple[dict[str, dict[str, Path]], list[Problem]]:
    """Return the masks of each case by class, and which of them are missing.

    Cases of the split's test set without any mask are left aside: nothing can be done with them.
    """
    labels, problems = {}, []
    for case_id, paths in images.items():
        labels[case_id] = {n: files[case_id][0] for n, files in found.items() if case_id in files}
        if places[case_id].split == "test" and not labels[case_id]:
            del labels[case_id]
            continue
        for name, entry in masks.items():
            if name in labels[case_id] or entry.is_optional:
                continue
            where = places[case_id].fill(entry.pattern)
            hint = f'; where cases may lack {name}, end its pattern with "?"' if name else ""
            what = f"missing, it is the mask of {paths[0].name}"
            problems.append(Problem.of(where, what, case_id, remedy=PAIR + hint))
            del labels[case_id]
            break
    return labels, problems


def _alone(
    root: Path,
    images: Mapping[str, Sequence[Path]],
    masks: Mapping[str, Files],
) -> list[Problem]:
    is_image_file = {path for paths in images.values() for path in paths}
    return [
        Problem.of(path.relative_to(root).as_posix(), "a mask without an image", case_id)
        for files in masks.values()
        for case_id, paths in files.items()
        for path in paths
        if not (case_id in images or path in is_image_file)
    ]


def _with_partners(
    absent: Sequence[Problem],
    alone: Sequence[Problem],
    masks: Mapping[str, MaskPattern],
    places: Mapping[str, Place],
) -> list[Problem]:
    """Return what lacks a mask or an image; where masks have one pattern, with likely partners."""
    if len(masks) > 1:
        return [*absent, *alone]
    pattern = Path(next(iter(masks.values())).pattern.removesuffix(ANY_ENDING))
    name = case_stem(pattern) if is_image(pattern) else pattern.name
    return join_partners(absent, alone, lambda case_id: places[case_id].fill(name))


def _channels(spec: DatasetSpec) -> tuple[str, ...] | None:
    count = len(spec.images or ())
    if spec.channels is not None or count < 2:
        return spec.channels
    return tuple(f"channel_{index}" for index in range(count))


FORMAT = Format(
    name="patterns",
    expects='a spec with "images" and "masks", patterns with {case} for the id',
    is_found=is_found,
    find_cases=find_cases,
)

"""Images and masks where a spec says they are: patterns such as "images/{case}_t1.nii.gz"."""

import glob
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec, Reading
from autoseg.dataset.formats.format import Format, FoundCase, Layout
from autoseg.dataset.formats.ordered_masks import painted
from autoseg.dataset.formats.peek import binary_threshold
from autoseg.dataset.label_values import spec_labels
from autoseg.errors import DatasetError
from autoseg.runtime.images import FORMATS, is_image

CASE = "{case}"
ANY_ENDING = ".*"
OPTIONAL = "?"
"""At the end of a pattern of masks: a missing mask means that the class is not there."""

Files = dict[str, list[Path]]
"""Files by the id of the case."""


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
    cases, problems = _pair(root, patterns, masks, spec)
    if isinstance(spec.masks, dict):
        threshold = spec.threshold
        if threshold is None:
            threshold = binary_threshold([path for _, by in cases.values() for path in by.values()])
        labels, paint = painted([*masks], [by for _, by in cases.values()], spec, threshold)
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
) -> tuple[dict[str, tuple[list[Path], dict[str, Path]]], list[str]]:
    """Return images and masks (by class) of each case that has all, and what does not fit."""
    found_masks = {name: _find(root, entry.pattern) for name, entry in masks.items()}
    found = [_without_masks(_find(root, pattern), found_masks) for pattern in patterns]
    _refuse_nothing(root, found[0], patterns[0])
    problems = [
        problem
        for pattern, files in [
            *zip(patterns, found, strict=True),
            *((masks[name].pattern, files) for name, files in found_masks.items()),
        ]
        for problem in _twice(root, pattern, files)
    ]
    images, missing = _images(found, patterns, spec)
    labels, absent = _labels_of(images, found_masks, masks, spec)
    problems += [*missing, *absent, *_alone(root, images, found_masks, spec)]
    cases = {
        case_id: (paths, labels[case_id])
        for case_id, paths in sorted(images.items())
        if len(paths) == len(patterns) and case_id in labels
    }
    return cases, problems


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
    for pattern in (*patterns, *(entry.pattern for entry in masks.values())):
        if CASE not in pattern or Path(pattern).is_absolute():
            raise DatasetError(
                found=f"the pattern {pattern!r}",
                expected=f"{CASE} in it, and a path relative to the data set's folder",
                fix=f"write {CASE} where the id of the case stands, and * for what else varies",
            )
    if len(patterns) > 1 and spec.channels is not None and len(spec.channels) != len(patterns):
        raise DatasetError(
            found=f"{len(patterns)} patterns of images for {len(spec.channels)} channels",
            expected="one pattern a channel, or one for files that hold them all",
            fix="correct images or channels in the spec",
        )


def _find(root: Path, pattern: str) -> Files:
    """Return the image files that fit a pattern."""
    expression, search = _expression(pattern)
    found: Files = defaultdict(list)
    for path in sorted(root.glob(search)):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match and is_image(path):
            found[match["case"]].append(path)
    return dict(found)


def _expression(pattern: str) -> tuple[re.Pattern[str], str]:
    """Return what a path must look like, and where to look: {case} takes as much as fits."""
    pattern = pattern.removeprefix("./")
    has_any_ending = pattern.endswith(ANY_ENDING)
    body = pattern.removesuffix(ANY_ENDING) if has_any_ending else pattern
    expression, search = "", ""
    for part in re.split(r"(\{case\}|\*)", body):
        if part == CASE:
            expression += "(?P=case)" if "(?P<case>" in expression else "(?P<case>[^/]+)"
        else:
            expression += "[^/]*?" if part == "*" else re.escape(part)
        search += "*" if part in (CASE, "*") else glob.escape(part)
    if has_any_ending:
        expression += "(?i:" + "|".join(map(re.escape, FORMATS)) + ")"
    return re.compile(expression), search + ANY_ENDING * has_any_ending


def _without_masks(images: Files, masks: Mapping[str, Files]) -> Files:
    """Return images without masks of other cases: "{case}.png" finds a_mask.png, too."""
    is_mask = {
        path
        for files in masks.values()
        for case_id, paths in files.items()
        for path in paths
        if case_id in images and path not in images[case_id]
    }
    left = {key: [p for p in paths if p not in is_mask] for key, paths in images.items()}
    return {case_id: paths for case_id, paths in left.items() if paths}


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


def _twice(root: Path, pattern: str, files: Files) -> list[str]:
    return [
        f"{' and '.join(path.relative_to(root).as_posix() for path in paths)}: both fit {pattern}; "
        f"write {CASE} where they differ"
        for paths in files.values()
        if len(paths) > 1
    ]


def _images(
    found: Sequence[Files], patterns: Sequence[str], spec: DatasetSpec
) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the images of each case by channel, and which of them are missing."""
    images: dict[str, list[Path]] = {}
    problems = []
    for case_id in sorted({case_id for files in found for case_id in files}):
        images[case_id] = [files[case_id][0] for files in found if case_id in files]
        for index, (pattern, files) in enumerate(zip(patterns, found, strict=True)):
            if case_id not in files and not spec.excludes(case_id):
                name = f" ({spec.channels[index]})" if spec.channels else ""
                where = pattern.replace(CASE, case_id)
                problems.append(f"{where}: missing, it is channel {index}{name} of {case_id}")
    return images, problems


def _labels_of(
    images: Mapping[str, Sequence[Path]],
    found: Mapping[str, Files],
    masks: Mapping[str, MaskPattern],
    spec: DatasetSpec,
) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """Return the masks of each case by class, and which of them are missing."""
    labels, problems = {}, []
    for case_id, paths in images.items():
        labels[case_id] = {n: files[case_id][0] for n, files in found.items() if case_id in files}
        for name, entry in masks.items():
            if name in labels[case_id] or entry.is_optional or spec.excludes(case_id):
                continue
            where = entry.pattern.replace(CASE, case_id)
            hint = f'; if {name} is not there then, end its pattern with "?"' if name else ""
            problems.append(f"{where}: missing, it is the mask of {paths[0].name}{hint}")
            del labels[case_id]
            break
    return labels, problems


def _alone(
    root: Path,
    images: Mapping[str, Sequence[Path]],
    masks: Mapping[str, Files],
    spec: DatasetSpec,
) -> list[str]:
    is_image_file = {path for paths in images.values() for path in paths}
    return [
        f"{path.relative_to(root).as_posix()}: a mask without an image"
        for files in masks.values()
        for case_id, paths in files.items()
        for path in paths
        if not (case_id in images or path in is_image_file or spec.excludes(case_id))
    ]


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

"""Which files belong together: images and labels by their names, channels by their suffix."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoseg.dataset.formats.format import FoundCase, Layout, Problem
from autoseg.dataset.formats.naming import Affix, related_affixes
from autoseg.dataset.formats.partners import join_partners
from autoseg.runtime.cases import CHANNEL_SUFFIX
from autoseg.runtime.images import FORMATS, case_stem, is_image
from autoseg.runtime.recipe import Labels

KEEP_ONE = "keep one of the two: rename or remove the other"


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case; absolute paths."""

    case_id: str
    images: tuple[Path, ...]
    """By rising channel."""
    channels: tuple[int, ...]
    """Channel numbers in the names; (0,) where names have none."""
    labels: Path


@dataclass(frozen=True)
class Pairing:
    """All cases of a folder, and what does not fit."""

    files: tuple[CaseFiles, ...]
    has_suffix: bool
    """Names of images end in `_0000` and so on, the number of the channel."""
    channels: frozenset[int]
    """All channel numbers that any image has, paired or not."""
    problems: tuple[Problem, ...]


def as_layout(pairing: Pairing, channels: tuple[str, ...] | None, labels: Labels | None) -> Layout:
    """Return the pairs as the cases of a layout."""
    return Layout(
        cases=tuple(
            FoundCase(files.case_id, files.images, (files.labels,)) for files in pairing.files
        ),
        problems=pairing.problems,
        channels=channels,
        labels=labels,
        has_suffix=pairing.has_suffix,
    )


def pair_files(root: Path, images: str, labels: str, *, ending: str | None) -> Pairing:
    """Return the cases in two folders; files with other endings than `ending` are left aside."""
    image_files = _image_files(root / images, ending)
    by_stem = defaultdict(list)
    for path in _image_files(root / labels, ending):
        by_stem[case_stem(path)].append(path)
    has_suffix = _has_suffix([case_stem(path) for path in image_files], set(by_stem))
    cases, problems = _by_case(image_files, has_suffix=has_suffix)
    problems += _labels_twice(by_stem)
    files = []
    for case_id in sorted(set(cases) & set(by_stem)):
        order = sorted(cases[case_id])
        chosen = tuple(cases[case_id][channel] for channel in order)
        files.append(CaseFiles(case_id, chosen, tuple(order), by_stem[case_id][0]))
    without_labels = [
        Problem.of(f"{images}/{paths[min(paths)].name}", f"no labels {labels}/{case_id}.*", case_id)
        for case_id, paths in cases.items()
        if paths and case_id not in by_stem
    ]
    without_image = [
        Problem.of(f"{labels}/{by_stem[stem][0].name}", f"no image {images}/{stem}*", stem)
        for stem in sorted(set(by_stem) - set(cases))
    ]
    problems += join_partners(without_labels, without_image, str)
    if not image_files:
        problems = [_no_images(root / images, ending)]
    return Pairing(
        files=tuple(files),
        has_suffix=has_suffix,
        channels=frozenset(channel for paths in cases.values() for channel in paths),
        problems=tuple(problems),
    )


def _labels_twice(by_stem: Mapping[str, Sequence[Path]]) -> list[Problem]:
    """Return the problem of each file of labels whose name another one has."""
    return [
        Problem.of(
            f"{path.parent.name}/{path.name}",
            f"labels of the same name in {paths[0].name}",
            stem,
            remedy=KEEP_ONE,
        )
        for stem, paths in by_stem.items()
        for path in paths[1:]
    ]


def pair_related(root: Path, images: str, labels: str) -> Pairing:
    """Return the cases in two folders whose names differ in what stands around a common id.

    See `related_affixes`; each image is a case of its own.
    """
    paths = {side: _image_files(root / side, None) for side in (images, labels)}
    stems = [[case_stem(path) for path in side] for side in paths.values()]
    affixes = dict(zip(paths, related_affixes(*stems), strict=True))
    found: dict[str, dict[str, Path]] = {images: {}, labels: {}}
    problems = []
    for side, affix in affixes.items():
        for path in paths[side]:
            case_id = affix.strip(case_stem(path))
            first = None if case_id is None else found[side].setdefault(case_id, path)
            if case_id is None:
                what = f"its name is no {_shown(affix, '<case>')}"
                problems.append(Problem.of(f"{side}/{path.name}", what, case_stem(path)))
            elif first is not None and first != path:
                what = f"the same name as {first.name}"
                problems.append(Problem.of(f"{side}/{path.name}", what, case_id, remedy=KEEP_ONE))
    without_labels, without_image = (
        [
            Problem.of(
                f"{side}/{found[side][case_id].name}",
                f"no {what} {other}/{_shown(affixes[other], case_id)}.*",
                case_id,
            )
            for case_id in sorted(set(found[side]) - set(found[other]))
        ]
        for side, other, what in ((images, labels, "labels"), (labels, images, "image"))
    )
    problems += join_partners(
        without_labels, without_image, lambda name: _shown(affixes[labels], name)
    )
    cases = sorted(set(found[images]) & set(found[labels]))
    return Pairing(
        files=tuple(
            CaseFiles(case_id, (found[images][case_id],), (0,), found[labels][case_id])
            for case_id in cases
        ),
        has_suffix=False,
        channels=frozenset((0,)),
        problems=tuple(problems),
    )


def _shown(affix: Affix, case_id: str) -> str:
    return affix.prefix + case_id + affix.suffix


def check_channels(pairing: Pairing, channels: tuple[str, ...]) -> Pairing:
    """Return the pairing with a problem for each case that lacks a channel or has one too many.

    A lone `_0000` file of each case may hold all channels, as colour pictures do; its content is
    checked when it is read.
    """
    if not pairing.has_suffix or pairing.channels == {0}:
        return pairing
    problems = []
    for files in pairing.files:
        where = f"{files.images[0].parent.name}/{files.case_id}"
        problems += [
            Problem.of(
                f"{where}_{index:04d}.*", f"missing, it is channel {index} ({name})", files.case_id
            )
            for index, name in enumerate(channels)
            if index not in files.channels
        ]
        problems += [
            Problem.of(
                f"{path.parent.name}/{path.name}",
                f"only {len(channels)} channels are declared",
                files.case_id,
                remedy="declare the channel, or remove the file",
            )
            for channel, path in zip(files.channels, files.images, strict=True)
            if channel >= len(channels)
        ]
    return replace(pairing, problems=(*pairing.problems, *problems))


def _image_files(folder: Path, ending: str | None) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if is_image(path) and (ending is None or path.name.endswith(ending))
    )


def _has_suffix(stems: Iterable[str], labels: set[str]) -> bool:
    """Return whether names match labels better without a number of four digits than with it."""
    plain, stripped, has_numbers = 0, 0, True
    for stem in stems:
        match = CHANNEL_SUFFIX.fullmatch(stem)
        has_numbers = has_numbers and match is not None
        plain += stem in labels
        stripped += match is not None and match["case"] in labels
    return stripped > plain or (has_numbers and not plain)


def _by_case(
    paths: Iterable[Path], *, has_suffix: bool
) -> tuple[dict[str, dict[int, Path]], list[Problem]]:
    """Return the images of each case by channel, and the files that have no place there."""
    cases: dict[str, dict[int, Path]] = defaultdict(dict)
    problems = []
    for path in paths:
        where = f"{path.parent.name}/{path.name}"
        case_id, channel = _split(path, has_suffix=has_suffix)
        if channel is None:
            found = "no channel number such as _0000 in its name"
            problems.append(Problem.of(where, found, case_id, remedy="rename or remove the file"))
        elif channel in cases[case_id]:
            found = f"an image of the same name in {cases[case_id][channel].name}"
            problems.append(Problem.of(where, found, case_id, remedy=KEEP_ONE))
        else:
            cases[case_id][channel] = path
    return cases, problems


def _split(path: Path, *, has_suffix: bool) -> tuple[str, int | None]:
    """Return the case's id and the channel's number, None if it should be there and is not."""
    stem = case_stem(path)
    if not has_suffix:
        return stem, 0
    match = CHANNEL_SUFFIX.fullmatch(stem)
    return (match["case"], int(match["channel"])) if match else (stem, None)


def _no_images(folder: Path, ending: str | None) -> Problem:
    others = sorted({path.suffix for path in folder.iterdir() if path.is_file()})
    what = f"files ending in {ending}" if ending else "images of a known format"
    found = f"no {what}" + (f", only {', '.join(others)}" if others else "")
    remedy = "put the images there, or convert them to " + (ending or ", ".join(FORMATS))
    return Problem.of(f"{folder.name}/", found, remedy=remedy)

"""How masks are stored where that may surprise: as pictures with palettes, alpha or single bits."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from autoseg.check.subject import finding
from autoseg.dataset.dataset import BROKEN, GONE, Dataset, Finding, Reading
from autoseg.errors import AutosegError, counted
from autoseg.runtime.images import LOSSY_FORMATS, PICTURE_FORMATS
from autoseg.runtime.pictures import Storage, storage, used_colours

NUM_READERS = 4
"""Threads: opening files waits for the disk."""
MEANINGS = {
    "palette": "the numbers of the palette are the classes, not its colours",
    "alpha": "transparency is left aside",
    "1-bit": "black is 0, white is 1",
}


def mask_storage(dataset: Dataset) -> list[Finding]:
    """Return where masks hold other numbers, or lie in another way, than a viewer shows."""
    masks = _stored(dataset, [name for case in dataset.cases for name in case.labels])
    found = defaultdict(list)
    for name, stored in masks.items():
        found[stored.kind].append(name)
    if dataset.reading.masks == "colours":
        found.pop("palette", None)
    notes = [
        finding(
            "note",
            f"{counted(len(found[kind]), 'mask')} stored with {kind} colours",
            "one number a class, as grey values",
            f"nothing: {meaning}",
            found[kind],
        )
        for kind, meaning in MEANINGS.items()
        if kind in found
    ]
    palettes = {name: masks[name].palette for name in found.get("palette", ())}
    return [*notes, *_palette_findings(dataset, palettes), *_turned_images(dataset, masks)]


def _stored(dataset: Dataset, names: Iterable[str]) -> dict[str, Storage]:
    """Return how those files are stored that are pictures."""
    pictures = [name for name in dict.fromkeys(names) if name.lower().endswith(PICTURE_FORMATS)]
    with ThreadPoolExecutor(NUM_READERS) as pool:
        found = pool.map(lambda name: storage(dataset.root / name), pictures)
        return dict(zip(pictures, found, strict=True))


def _palette_findings(dataset: Dataset, palettes: Mapping[str, bytes]) -> list[Finding]:
    """Return what palettes say that differ: whether one colour has several numbers."""
    if len(set(palettes.values())) < 2:
        return []
    used: dict[bytes, dict[int, int]] = {}
    with ThreadPoolExecutor(NUM_READERS) as pool:
        found = pool.map(lambda name: _used(dataset.root / name), palettes)
        for palette, colours in zip(palettes.values(), found, strict=True):
            used.setdefault(palette, {}).update(colours)
    usual, _ = Counter(palettes.values()).most_common(1)[0]
    renumbered = {p for p, colours in used.items() if _is_renumbered(colours, used[usual])}
    if renumbered:
        files = tuple(name for name, palette in palettes.items() if palette in renumbered)
        others = [colour for colours in used.values() for colour in colours.values()]
        return [_renumbered(dataset, files, used[usual], others)]
    recoloured = [
        name
        for name, palette in palettes.items()
        if any(used[usual].get(i, colour) != colour for i, colour in used[palette].items())
    ]
    if not recoloured:
        return []
    return [
        finding(
            "warning",
            f"{counted(len(recoloured), 'mask')} with other colours for the same numbers than in "
            "the other masks",
            "one palette for all masks",
            f"look at them: {MEANINGS['palette']}",
            recoloured,
        )
    ]


def _used(path: Path) -> dict[int, int]:
    try:
        return used_colours(path)
    except (AutosegError, OSError, ValueError):
        return {}  # broken files are reported where they are read


def _is_renumbered(colours: Mapping[int, int], usual: Mapping[int, int]) -> bool:
    """Return whether a colour has other numbers than usual."""
    shared = {*colours.values()} & {*usual.values()}
    numbers = [
        [{i for i, colour in one.items() if colour == code} for code in shared]
        for one in (colours, usual)
    ]
    return any(first.isdisjoint(second) for first, second in zip(*numbers, strict=True))


def _renumbered(
    dataset: Dataset, files: tuple[str, ...], usual: Mapping[int, int], used: Iterable[int]
) -> Finding:
    """Return an error that says how classes are told apart by the colours that are used."""
    known = dict(zip(dataset.labels.values, dataset.labels.names, strict=True))
    names = {usual[i]: known.get(i, f"class_{i}") for i in sorted(usual)}
    names |= {colour: f"class_{colour:06x}" for colour in sorted({*used} - {*names})}
    spec = json.dumps({"labels": {name: f"#{colour:06x}" for colour, name in names.items()}})
    remedy = "export the masks again, all with one palette"
    if dataset.reading.masks == "values":
        remedy = f"declare the classes by their colours in the spec: {spec}; or {remedy}"
    return Finding(
        severity="error",
        files=files,
        found=f"{counted(len(files), 'mask')} with other numbers for the same colours than in the "
        "other masks: the palettes differ",
        expected="the same number for a colour in all masks, since the numbers are the classes",
        remedy=remedy,
    )


def _turned_images(dataset: Dataset, masks: Mapping[str, Storage]) -> list[Finding]:
    """Return a warning about images that EXIF data turn, and not their masks."""
    drawn = [case for case in dataset.cases if any(name in masks for name in case.labels)]
    images = _stored(dataset, [name for case in drawn for name in case.images])
    turned = [
        name
        for case in drawn
        for name in case.images
        if name in images
        and images[name].orientation != 1
        and any(name in masks and masks[name].orientation == 1 for name in case.labels)
    ]
    if not turned:
        return []
    return [
        finding(
            "warning",
            f"{counted(len(turned), 'image')} turned by EXIF data, and not the masks",
            "masks that were drawn on the images as viewers show them",
            "look at these cases in the report; where masks lie turned, store the images upright "
            "or without EXIF data",
            turned,
        )
    ]


def reading_notes(dataset: Dataset) -> list[Finding]:
    """Return notes about what is changed while masks are read, and which cases are left out."""
    findings = [*_changed_values(dataset.reading), *_nearest_colours(dataset)]
    if dataset.layout == "class_folders":
        findings.append(_folder_names(dataset))
    findings += _partly_annotated(dataset)
    return findings + [_left_out(name, reason) for name, reason in dataset.excluded.items()]


def _changed_values(reading: Reading) -> list[Finding]:
    """Return notes about masks that are cut, mapped or rounded."""
    notes = []
    if reading.threshold is not None:
        notes.append(f"masks are cut at {reading.threshold:g}: from there on, they are foreground")
    if reading.label_map and reading.masks == "values":
        pairs = ", ".join(f"{found} as {meant}" for found, meant in reading.label_map)
        notes.append(f"label values are read differently: {pairs}")
    if "round_labels" in reading.fixes:
        notes.append("label values are rounded to whole numbers")
    return [
        finding("note", text, "masks that are right", "nothing: this is how masks are read")
        for text in notes
    ]


def _nearest_colours(dataset: Dataset) -> list[Finding]:
    """Return a warning where JPEG masks in colours are read as the nearest declared ones."""
    lossy = [
        name
        for case in dataset.cases
        for name in case.labels
        if name.lower().endswith(LOSSY_FORMATS)
    ]
    if not lossy or dataset.reading.masks != "colours":
        return []
    return [
        finding(
            "warning",
            f"{counted(len(lossy), 'mask')} stored as JPEG: every pixel is read as the nearest "
            "of the declared colours",
            "masks in a lossless format, such as PNG",
            "export the masks again from their source, if you can; edges may be off by a pixel",
            lossy,
        )
    ]


def _partly_annotated(dataset: Dataset) -> list[Finding]:
    """Return notes about the cases that annotate only some classes, as the spec says."""
    files: dict[tuple[str, ...], list[str]] = {}
    for case in dataset.cases:
        if case.annotated is not None:
            files.setdefault(case.annotated, []).append((*case.labels, case.id)[0])
    return [
        finding(
            "note",
            f"{counted(len(found), 'case annotates', 'cases annotate')} {_only(names)}",
            "every class annotated in every case, unless the spec says otherwise",
            "nothing: these cases teach nothing about the other classes, and are not scored for "
            "them (annotated in the spec)",
            found,
        )
        for names, found in files.items()
    ]


def _only(names: Sequence[str]) -> str:
    return f"only {', '.join(names)}" if names else "no class"


def _left_out(case_id: str, reason: str) -> Finding:
    """Return that a spec leaves out a case, or one that is not there."""
    if reason.startswith(GONE):
        return finding(
            "note",
            f"{case_id}, excluded, is {reason}",
            "ids of cases of this data set",
            "remove it from exclude in the spec",
            (case_id,),
        )
    return finding(
        "warning" if reason.startswith(BROKEN) else "note",
        f"left out: {reason}",
        "every case in use",
        "correct its files, then remove it from exclude in the spec",
        (case_id,),
    )


def _folder_names(dataset: Dataset) -> Finding:
    """Return that the names of folders became classes."""
    names = ", ".join(dataset.labels.names[1:])
    return finding(
        "warning",
        f"the names of folders are taken as classes: {names}",
        "folders named after what their masks show",
        'where they mean something else, such as patients, declare "layout": "stems" in a spec',
    )

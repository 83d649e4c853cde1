"""What an import understood, in words: for the table that is printed and for programs."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence

from autoseg.dataset.dataset import Case, Dataset
from autoseg.errors import counted
from autoseg.pipeline.import_folders import folders_used
from autoseg.pipeline.import_look import Look
from autoseg.pipeline.import_open import Repair
from autoseg.pipeline.importing import Imported

MAX_NAMED = 3
MAX_NAME = 32
"""Letters of a name or reason that are shown."""
MASKS = {
    "values": "a number for each class",
    "binaries": "binary masks, painted one over the other",
    "colours": "a colour for each class",
    "channels": "a channel for each class",
}
FIXES = {
    "round_labels": "label values are rounded to whole numbers",
    "resample_labels": "labels on another grid are taken onto the image's",
    "copy_geometry": "the image's spacing and position hold for the labels",
    "replace_nan": "NaN and infinite values become the smallest number of their channel",
}
SAMPLES = {1: "samples", 2: "pixels"}
"""What an image is made of, by its number of axes; else voxels."""


def facts(imported: Imported) -> list[tuple[str, str]]:
    """Return what was understood, as pairs: about what, and how it is."""
    dataset = imported.dataset
    looks = [look for look in imported.looks if look.class_voxels]
    rows = [
        ("layout", f"{dataset.layout}: {folders_used(dataset)}"),
        ("cases", f"{len(dataset.cases)}: {_named([case.id for case in dataset.cases])}"),
        ("groups", _groups(imported)),
        ("channels", _channels(dataset, looks)),
        *(_geometry(looks) if looks else []),
        ("files", dataset.file_ending),
        ("masks", _reading(dataset)),
    ]
    labels = dataset.labels
    if labels.ignore is not None:
        rows.append(("not annotated", f"value {labels.ignore}: ignored"))
    rows += [
        (f"region {region.name}", " + ".join(labels.names[index] for index in region.classes))
        for region in labels.regions
    ]
    return rows + _optional(imported)


def class_rows(imported: Imported) -> list[tuple[str, str, str, str]]:
    """Return name, value, share of all voxels and number of cases of each class."""
    labels = imported.dataset.labels
    looks = [look for look in imported.looks if look.class_voxels]
    total = sum(sum(look.class_voxels) + look.ignored_voxels for look in looks)
    rows = [
        _share_row(name, value, [look.class_voxels[index] for look in looks], total)
        for index, (name, value) in enumerate(
            zip(labels.names, _shown_values(imported.dataset), strict=True)
        )
    ]
    if labels.ignore is not None:
        ignored = [look.ignored_voxels for look in looks]
        rows.append(_share_row("(ignored)", str(labels.ignore), ignored, total))
    return rows


def notices(imported: Imported) -> list[str]:
    """Return a line for each thing that is put right, and one for cases that are left out."""
    lines = [_repair_line(repair) for repair in imported.repairs]
    if imported.left_out:
        excluded = imported.spec.exclude or {}
        reasons = ", ".join(f"{case} ({excluded[case]})" for case in imported.left_out[:MAX_NAMED])
        more = len(imported.left_out) - MAX_NAMED
        reasons += f" and {more} more" if more > 0 else ""
        cases = counted(len(imported.left_out), "case")
        lines.append(
            f'left out by "exclude" in the spec, a plan would refuse {cases}: {reasons}; once '
            "their files are mended, delete those lines"
        )
    return lines


def samples(imported: Imported) -> str:
    """Return what the images are made of: "voxels", "pixels" or "samples"."""
    return next((_samples(look) for look in imported.looks if look.shape), "voxels")


def next_command(imported: Imported) -> tuple[str, ...]:
    """Return the words of the command that goes on: a plan, or a check where it would fail."""
    name = "check" if imported.errors else "plan"
    spec = str(imported.spec_path)
    return ("autoseg", name, str(imported.dataset_path), "--spec", spec)


def unknown(imported: Imported) -> list[str]:
    """Return what looking cannot tell, and which field of the spec says it."""
    dataset, spec = imported.dataset, imported.spec
    lines = []
    if any(re.fullmatch(r"class_\d+|object", name) for name in dataset.labels.names):
        lines.append('what the classes are called: rename them in "labels"')
    lines += _doubt_background(imported)
    if spec.labels is None:
        lines.append('"labels" cannot be declared here: the layout tells them')
    if any(name == "image" or name.startswith("channel_") for name in dataset.channels):
        lines.append('what the channels show: rename them in "channels" ("CT" for CT images)')
    if dataset.groups_inferred:
        lines.append(
            "whether the names of the cases tell right which belong together: else declare "
            '"group_by"'
        )
    elif all(case.group == case.id for case in dataset.cases):
        lines.append(
            'which cases belong together (one patient, slide or film): declare "group_by" if any do'
        )
    if dataset.sites_inferred:
        lines.append(
            'whether the folders are sites: declare "site_by": "folder" if so, '
            '"group_by": "folder" if each is a patient'
        )
    missing = [field for field in ("task", "source", "licence") if getattr(spec, field) is None]
    if missing:
        lines.append("for people only: " + ", ".join(f'"{field}"' for field in missing))
    return lines


def _named(names: Sequence[str]) -> str:
    """Return names as text: the first, and the last of many."""
    shown = [name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…" for name in names]
    if len(shown) <= MAX_NAMED + 1:
        return ", ".join(shown)
    return ", ".join(shown[:MAX_NAMED]) + f" ... {shown[-1]}"


def _groups(imported: Imported) -> str:
    cases, spec = imported.dataset.cases, imported.spec
    groups = Counter(case.group for case in cases)
    if len(groups) == len(cases):
        return "each case is its own"
    by = f"by {spec.group_by}" if spec.group_by else "told by the layout"
    by = "by the names of the cases" if imported.dataset.groups_inferred else by
    most = counted(max(groups.values()), "case")
    return f"{len(groups)} of up to {most}, {by}: {_named(list(groups))}"


def _doubt_background(imported: Imported) -> list[str]:
    """Return a line where a class that nobody named covers more than the background."""
    dataset = imported.dataset
    voxels = [look.class_voxels for look in imported.looks if look.class_voxels]
    totals = [sum(counts) for counts in zip(*voxels, strict=True)]
    if not totals or dataset.labels_declared or max(totals) == totals[0]:
        return []
    name = dataset.labels.names[totals.index(max(totals))]
    share = max(totals) / sum(totals)
    return [
        f"whether {name}, {share:.0%} of the {samples(imported)}, is the background: "
        'exchange values in "labels"'
    ]


def _channels(dataset: Dataset, looks: Sequence[Look]) -> str:
    kinds = ", ".join(sorted({look.dtype for look in looks}))
    names = ", ".join(dataset.channels)
    return f"{len(dataset.channels)}: {names}" + (f" ({kinds})" if kinds else "")


def _geometry(looks: Sequence[Look]) -> list[tuple[str, str]]:
    """Return rows about axes, spacing and orientation."""
    codes = Counter(look.orientation for look in looks if look.orientation)
    unit, steps = looks[0].unit, _ranges([look.spacing for look in looks])
    spacing = "none (pixels)" if unit == "pixel" else f"{steps} {unit}"
    rows = [
        ("dimensions", ", ".join(sorted({f"{len(look.shape)}D" for look in looks}))),
        ("shape", f"{_ranges([look.shape for look in looks])} {_samples(looks[0])}"),
        ("spacing", spacing),
    ]
    if codes:
        text = ", ".join(f"{code} ({count} of {len(looks)})" for code, count in codes.most_common())
        rows.append(("orientation", text))
    return rows


def _ranges(rows: Sequence[Sequence[float]]) -> str:
    """Return least and greatest number along each axis: "5 to 10 x 0.7 to 1.9"."""
    if len({len(row) for row in rows}) > 1:
        return "differing numbers of axes"
    parts = []
    for values in zip(*rows, strict=True):
        low, high = f"{min(values):.4g}", f"{max(values):.4g}"
        parts.append(low if low == high else f"{low} to {high}")
    return " x ".join(parts)


def _reading(dataset: Dataset) -> str:
    """Return how the pixels of masks become classes."""
    reading = dataset.reading
    parts = [MASKS[reading.masks]]
    if reading.threshold is not None:
        parts.append(f"foreground from {reading.threshold:g} on")
    if reading.label_map:
        parts.append(", ".join(f"{found} read as {meant}" for found, meant in reading.label_map))
    if reading.masks == "binaries":
        counts = [len(case.labels) for case in dataset.cases]
        few, many = min(counts), max(counts)
        parts.append(
            f"{few} to {many} files a case" if few < many else f"{counted(few, 'file')} a case"
        )
    return "; ".join([*parts, *(FIXES[fix] for fix in reading.fixes)])


def _repair_line(repair: Repair) -> str:
    """Return what a repair does, for which cases, and what the spec says of it."""
    declared = repair.declared
    told = [FIXES[fix] for fix in declared.get("fixes", ())]
    if "threshold" in declared:
        told.append(f"masks are cut at {declared['threshold']:g}")
    told += [
        f"{found} in the masks is read as {meant}"
        for found, meant in declared.get("label_map", {}).items()
    ]
    what = "; ".join(told) or "the spec says how to read the masks"
    where = f"{len(repair.places)}: {_named(repair.places)}"
    return f"put right while reading, {what} (for {where}); the spec says {json.dumps(declared)}"


def _samples(look: Look) -> str:
    return SAMPLES.get(len(look.shape), "voxels")


def _shown_values(dataset: Dataset) -> list[str]:
    """Return how each class is stored: its value, or its colours."""
    colours: dict[int, list[str]] = {}
    for red, green, blue, value in dataset.reading.colours:
        colours.setdefault(value, []).append(f"#{red:02x}{green:02x}{blue:02x}")
    return [", ".join(colours.get(value, [str(value)])) for value in dataset.labels.values]


def _optional(imported: Imported) -> list[tuple[str, str]]:
    """Return rows about what only some data sets have."""
    dataset = imported.dataset
    broken = [look.case.id for look in imported.looks if not look.class_voxels]
    rows = [
        *_counted("sites", dataset, lambda case: case.site),
        *_counted("official split", dataset, lambda case: case.split),
    ]
    empty = [case.id for case in dataset.cases if not case.labels]
    if empty:
        rows.append(("without masks", f"{len(empty)}, read as background: {_named(empty)}"))
    if dataset.excluded:
        reasons = ", ".join(f"{case} ({why})" for case, why in dataset.excluded.items())
        rows.append(("excluded", reasons))
    if len(imported.looks) < len(dataset.cases):
        rows.append(
            ("looked at", f"{counted(len(imported.looks), 'case')} of {len(dataset.cases)}")
        )
    if broken:
        rows.append(("cannot be read", f"{len(broken)}: {_named(broken)}; see autoseg check"))
    return rows


def _counted(
    what: str, dataset: Dataset, key: Callable[[Case], str | None]
) -> list[tuple[str, str]]:
    counts = Counter(value for case in dataset.cases if (value := key(case)) is not None)
    return [(what, ", ".join(f"{n} {name}" for name, n in counts.items()))] if counts else []


def _share_row(
    name: str, value: str, voxels: Sequence[int], total: int
) -> tuple[str, str, str, str]:
    share = f"{sum(voxels) / total:.3%}" if total else ""
    return name, value, share, f"{sum(n > 0 for n in voxels)} of {len(voxels)}"

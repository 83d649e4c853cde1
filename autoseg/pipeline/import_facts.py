"""What an import understood, in words: for the table that is printed and for programs."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.formats.registry import find_format
from autoseg.pipeline.importing import Imported, Look

MAX_NAMED = 3
MAX_NAME = 32
"""Letters of a name or reason that are shown."""
MASKS = {
    "values": "a number for each class",
    "binaries": "binary masks, painted one over the other",
    "colours": "a colour for each class",
    "channels": "a channel for each class",
}


def facts(imported: Imported) -> list[tuple[str, str]]:
    """Return what was understood, as pairs: about what, and how it is."""
    dataset = imported.dataset
    looks = [look for look in imported.looks if look.class_voxels]
    rows = [
        ("layout", f"{dataset.layout}: {find_format(dataset.layout).expects}"),
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
        for index, (name, value) in enumerate(zip(labels.names, labels.values, strict=True))
    ]
    if labels.ignore is not None:
        ignored = [look.ignored_voxels for look in looks]
        rows.append(_share_row("(ignored)", labels.ignore, ignored, total))
    return rows


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
    return f"{len(groups)} of up to {max(groups.values())} cases, {by}: {_named(list(groups))}"


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
        f'whether {name}, {share:.0%} of the voxels, is the background: exchange values in "labels"'
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
    what = "samples" if len(looks[0].shape) == 1 else "voxels"
    rows = [
        ("dimensions", ", ".join(sorted({f"{len(look.shape)}D" for look in looks}))),
        ("shape", f"{_ranges([look.shape for look in looks])} {what}"),
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
        parts.append(f"{few} to {many} files a case" if few < many else f"{few} a case")
    return "; ".join([*parts, *reading.fixes])


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
        rows.append(("looked at", f"the pixels of {len(imported.looks)} cases"))
    if broken:
        rows.append(("cannot be read", f"{len(broken)}: {_named(broken)}; see autoseg check"))
    return rows


def _counted(
    what: str, dataset: Dataset, key: Callable[[Case], str | None]
) -> list[tuple[str, str]]:
    counts = Counter(value for case in dataset.cases if (value := key(case)) is not None)
    return [(what, ", ".join(f"{n} {name}" for name, n in counts.items()))] if counts else []


def _share_row(
    name: str, value: int, voxels: Sequence[int], total: int
) -> tuple[str, str, str, str]:
    share = f"{sum(voxels) / total:.3%}" if total else ""
    return name, str(value), share, f"{sum(n > 0 for n in voxels)} of {len(voxels)}"

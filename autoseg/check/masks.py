"""How masks are stored where that may surprise: as pictures with palettes, alpha or single bits."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from autoseg.check.subject import counted, finding
from autoseg.dataset.dataset import Dataset, Finding
from autoseg.runtime.images import PICTURE_FORMATS
from autoseg.runtime.pictures import storage

NUM_READERS = 4
"""Threads: opening files waits for the disk."""
BROKEN = "broken: "
"""How the reason begins for which `--skip-broken` leaves a case out."""
MEANINGS = {
    "palette": "the numbers of the palette are the classes, not its colours",
    "alpha": "transparency is left aside",
    "1-bit": "black is 0, white is 1",
}


def mask_storage(dataset: Dataset) -> list[Finding]:
    """Return notes about masks whose numbers are not what a viewer shows."""
    names = [name for case in dataset.cases for name in case.labels]
    names = [name for name in names if name.lower().endswith(PICTURE_FORMATS)]
    with ThreadPoolExecutor(NUM_READERS) as pool:
        kinds = list(pool.map(lambda name: storage(dataset.root / name), names))
    found = defaultdict(list)
    for name, kind in zip(names, kinds, strict=True):
        found[kind].append(name)
    return [
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


def reading_notes(dataset: Dataset) -> list[Finding]:
    """Return notes about what is changed while masks are read, and which cases are left out."""
    reading, notes = dataset.reading, []
    if reading.threshold is not None:
        notes.append(f"masks are cut at {reading.threshold:g}: from there on, they are foreground")
    if reading.label_map and reading.masks == "values":
        pairs = ", ".join(f"{found} as {meant}" for found, meant in reading.label_map)
        notes.append(f"label values are read differently: {pairs}")
    if "round_labels" in reading.fixes:
        notes.append("label values are rounded to whole numbers")
    findings = [
        finding("note", text, "masks that are right", "nothing: this is how masks are read")
        for text in notes
    ]
    for case_id, reason in dataset.excluded.items():
        findings.append(
            finding(
                "warning" if reason.startswith(BROKEN) else "note",
                f"left out: {reason}",
                "every case in use",
                "correct its files, then remove it from exclude in the spec",
                (case_id,),
            )
        )
    return findings

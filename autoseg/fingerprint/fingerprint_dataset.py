"""All cases of a data set, measured in parallel and resumably, to one fingerprint."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np

from autoseg.dataset.big import memory_of
from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.dataset.formats.registry import find_format
from autoseg.dataset.problems import error_finding
from autoseg.dataset.splits import listing
from autoseg.errors import AutosegError, DatasetError
from autoseg.fingerprint.copies import copies, near_any, near_copies
from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint
from autoseg.fingerprint.intensities import summarise
from autoseg.fingerprint.measure import Measured
from autoseg.fingerprint.measure_big import measure
from autoseg.fingerprint.measured_file import load_measured, measured_key, save_measured
from autoseg.machine import MemoryShares
from autoseg.record import autoseg_version

MEMORY_SHARE = 0.7
"""Part of the memory allowed that cases may take: the program needs some itself."""
CHANNEL_VOXEL_BYTES = 4
"""Memory for a voxel of one channel while its case is measured."""
LABEL_VOXEL_BYTES = 10
"""Memory for a voxel of the labels: classes, components, masks, places of the foreground."""


def survey_dataset(
    dataset: Dataset,
    folder: Path | None,
    *,
    num_workers: int,
    ram_bytes: int,
    on_case: Callable[[str], None],
) -> tuple[Fingerprint | None, tuple[Finding, ...]]:
    """Return the fingerprint of the cases without errors, and all findings, errors too.

    Each case is read once and its measurements are kept in `folder`, if there is one: a case whose
    files have not changed is not read again. Threads, not processes: reading, decompressing and
    hashing leave Python's lock, and a process would cost more to start than it gives to most data
    sets. There is no fingerprint of cases that do not go together, or without foreground.
    Cases of an official test set are read too, so that what is wrong with them is found, but are
    no part of it: nothing that is planned may depend on them.

    Parameters
    ----------
    ram_bytes
        Memory that all workers together may take.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)

    memory = MemoryShares(max(1, int(MEMORY_SHARE * ram_bytes)))

    def measure(case: Case) -> Measured:
        measured = _measure_once(dataset, case, folder, memory)
        on_case(case.id)
        return measured

    with ThreadPoolExecutor(num_workers) as pool:
        try:
            cases = list(pool.map(measure, dataset.cases))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return join_measured(dataset, cases)


def join_measured(
    dataset: Dataset, cases: Sequence[Measured]
) -> tuple[Fingerprint | None, tuple[Finding, ...]]:
    """Return the fingerprint of measured cases, all or some of a data set, and all findings."""
    findings = [finding for measured in cases for finding in measured.findings]
    sound = [measured for measured in cases if measured.stats is not None]
    stats = [measured.stats for measured in sound if measured.stats is not None]
    common = _common_findings(dataset, stats, [measured.unit for measured in sound])
    common += _tested_copies(dataset, stats)
    trained = {case.id for case in dataset.training_cases}
    sound = [found for found, case in zip(sound, stats, strict=True) if case.case_id in trained]
    stats = [case for case in stats if case.case_id in trained]
    has_foreground = any(sum(case.class_voxels[1:]) for case in stats)
    if common or not has_foreground:
        return None, (*findings, *common)
    fingerprint = Fingerprint(
        autoseg_version=autoseg_version(),
        dataset_name=dataset.name,
        unit=sound[0].unit,
        labels=dataset.labels,
        channels=dataset.channels,
        cases=tuple(stats),
        intensities=tuple(
            summarise([measured.samples[channel] for measured in sound])
            for channel in range(len(dataset.channels))
        ),
        median_relative_size_after_cropping=median(
            math.prod(case.shape_after_crop) / math.prod(case.shape) for case in stats
        ),
    )
    return fingerprint, tuple(findings)


def peak_bytes(dataset: Dataset, case: Case, ram_bytes: int) -> int:
    """Return the estimated peak of memory while a case is measured, by its extent.

    Raises
    ------
    DatasetError
        It cannot be read in parts, and all of it does not fit into `ram_bytes`.
    """
    in_parts = memory_of(dataset, case, ram_bytes)
    if in_parts is not None:
        return in_parts
    try:
        extent = find_format(dataset.layout).read_extent(dataset, case)
    except AutosegError:
        return 0  # reading the file says what is wrong with it
    per_voxel = CHANNEL_VOXEL_BYTES * extent.num_channels + LABEL_VOXEL_BYTES
    return math.prod(extent.shape) * per_voxel


def _measure_once(
    dataset: Dataset, case: Case, folder: Path | None, memory: MemoryShares
) -> Measured:
    """Return a case's measurements, from `folder` if its files are as they were."""
    key = "" if folder is None else measured_key(dataset, case)
    measured = None if folder is None else load_measured(folder, case.id, key)
    if measured is not None:
        return measured
    try:
        needed = peak_bytes(dataset, case, memory.total)
    except DatasetError as error:
        nothing = np.zeros((len(dataset.channels), 0), np.float32)
        return Measured(None, nothing, "pixel", (error_finding(error, case.images, case.id),))
    with memory.claim(needed):
        measured = measure(dataset, case)
    if folder is not None and measured.stats is not None:
        save_measured(folder, case.id, key, measured)
    return measured


def _common_findings(
    dataset: Dataset, stats: Sequence[CaseStats], units: Sequence[str]
) -> list[Finding]:
    """Return what is wrong between cases that are right by themselves."""
    findings: list[Finding] = []
    for what, values in (
        ("number of axes", [str(len(case.shape)) for case in stats]),
        ("spacing in", list(units)),
    ):
        if len(set(values)) > 1:
            findings += _mixture(dataset, what, values, stats)
    trained = {case.id for case in dataset.training_cases}
    has_foreground = any(sum(case.class_voxels[1:]) for case in stats if case.case_id in trained)
    if len(stats) == len(dataset.cases) and not has_foreground:
        names = ", ".join(dataset.labels.names[1:])
        values = ", ".join(str(value) for value in dataset.labels.values[1:])
        findings.append(
            Finding(
                severity="error",
                files=tuple(name for case in dataset.cases for name in case.labels[:1]),
                found=f"no foreground in any of {len(stats)} label files",
                expected=f"voxels of {names} (values {values}) in some cases",
                remedy="check that the labels are annotated, and the declared values",
            )
        )
    return findings


def _tested_copies(dataset: Dataset, stats: Sequence[CaseStats]) -> list[Finding]:
    """Return an error for each image that is in an official test set and outside of it."""
    trained = {case.id for case in dataset.training_cases}
    if len(trained) == len(dataset.cases):
        return []
    by_id = {case.case_id: case for case in stats}
    alike = []
    for ids in near_copies(stats):
        inside = [by_id[case_id] for case_id in ids if case_id not in trained]
        outside = [by_id[case_id] for case_id in ids if case_id in trained]
        alike.append((*near_any(inside, outside), *near_any(outside, inside)))
    same = [ids for ids in copies(stats) if not any(set(ids) <= set(near) for near in alike)]
    return [
        Finding(
            severity="error",
            files=ids,
            found=f"the same or nearly the same image in the test set and outside: {listing(ids)}",
            expected="test cases that nothing is trained on",
            remedy="exclude the copies, in the spec: "
            + json.dumps({"exclude": {case_id: "copy" for case_id in ids if case_id in trained}}),
        )
        for ids in sorted(tuple(sorted(ids)) for ids in (*same, *alike))
        if 0 < len(trained & set(ids)) < len(ids)
    ]


def _mixture(
    dataset: Dataset, what: str, values: Sequence[str], stats: Sequence[CaseStats]
) -> list[Finding]:
    """Return an error for each case that is of another kind than most."""
    counts = Counter(values)
    usual, most = counts.most_common(1)[0]
    files = {case.id: case.images for case in dataset.cases}
    others = f"{most} case{'s' * (most > 1)} ha{'ve' if most > 1 else 's'} {usual}"
    return [
        Finding(
            severity="error",
            files=files[case.case_id],
            case=case.case_id if 2 * most > len(values) else None,
            found=f"{what} {value}, while {others}",
            expected="all cases with the same number of axes, and all or none with a spacing",
            remedy="split the data set, or convert the rarer cases",
        )
        for case, value in zip(stats, values, strict=True)
        if value != usual
    ]

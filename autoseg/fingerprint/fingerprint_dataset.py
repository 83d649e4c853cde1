"""All cases of a data set, measured in parallel and resumably, to one fingerprint."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from autoseg.dataset.case import as_error
from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint
from autoseg.fingerprint.intensities import summarise
from autoseg.fingerprint.measure import Measured, measure_case
from autoseg.fingerprint.measured_file import load_measured, measured_key, save_measured
from autoseg.record import autoseg_version

MEMORY_SHARE = 0.4
"""Part of the memory allowed that cases may take: what they need is told by their compressed size,
which may be twice too low, and the program needs some itself."""
MEMORY_PER_FILE_BYTE = 12
"""Memory for one case, by the size of its compressed images: these expand two- to threefold, and
labels, masks and components take as much again."""


def measure_dataset(
    dataset: Dataset,
    folder: Path,
    *,
    num_workers: int,
    ram_bytes: int,
    on_case: Callable[[str], None],
) -> tuple[Fingerprint, tuple[Finding, ...]]:
    """Return the fingerprint of a data set and what is odd about single cases.

    Each case is read once and its measurements are kept in `folder`: a case whose files have not
    changed is not read again. Threads, not processes: reading, decompressing and hashing leave
    Python's lock, and a process would cost more to start than it gives to most data sets.

    Parameters
    ----------
    ram_bytes
        Memory that all workers together may take.

    Raises
    ------
    DatasetError
        Cases have errors: all of them, of all cases.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def measure(case: Case) -> Measured:
        measured = _measure_once(dataset, case, folder)
        on_case(case.id)
        return measured

    with ThreadPoolExecutor(affordable_workers(dataset, num_workers, ram_bytes)) as pool:
        try:
            cases = list(pool.map(measure, dataset.cases))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    findings = [finding for measured in cases for finding in measured.findings]
    stats = [measured.stats for measured in cases if measured.stats is not None]
    findings += _common_findings(dataset, stats, [m.unit for m in cases if m.stats is not None])
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise as_error(errors)
    fingerprint = Fingerprint(
        autoseg_version=autoseg_version(),
        dataset_name=dataset.name,
        unit="mm" if cases[0].unit == "mm" else "pixel",
        labels=dataset.labels,
        channels=dataset.channels,
        cases=tuple(stats),
        intensities=tuple(
            summarise([measured.samples[channel] for measured in cases])
            for channel in range(len(dataset.channels))
        ),
        median_relative_size_after_cropping=median(
            _product(case.shape_after_crop) / _product(case.shape) for case in stats
        ),
    )
    return fingerprint, tuple(findings)


def affordable_workers(dataset: Dataset, num_workers: int, ram_bytes: int) -> int:
    """Return how many of the largest cases may be measured at once: `num_workers`, or fewer."""
    largest = 1
    for case in dataset.cases:
        paths = [path for path in dataset.image_paths(case) if path.is_file()]
        largest = max(largest, sum(path.stat().st_size for path in paths))
    affordable = int(MEMORY_SHARE * ram_bytes / (MEMORY_PER_FILE_BYTE * largest))
    return max(1, min(num_workers, affordable))


def _measure_once(dataset: Dataset, case: Case, folder: Path) -> Measured:
    """Return a case's measurements, from `folder` if its files are as they were."""
    key = measured_key(dataset, case)
    measured = load_measured(folder, case.id, key)
    if measured is None:
        measured = measure_case(dataset, case)
        if measured.stats is not None:
            save_measured(folder, case.id, key, measured)
    return measured


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for length in shape:
        result *= length
    return result


def _common_findings(
    dataset: Dataset, stats: Sequence[CaseStats], units: Sequence[str]
) -> list[Finding]:
    """Return what is wrong between cases that are right by themselves."""
    findings = []
    for what, values in (
        ("axes", [str(len(case.shape)) for case in stats]),
        ("spacing in", list(units)),
    ):
        if len(set(values)) > 1:
            findings.append(_mixture(what, values, stats))
    has_foreground = any(sum(case.class_voxels[1:]) for case in stats)
    if len(stats) == len(dataset.cases) and not has_foreground:
        names = ", ".join(dataset.labels.names[1:])
        values = ", ".join(str(value) for value in dataset.labels.values[1:])
        findings.append(
            Finding(
                severity="error",
                found=f"no foreground in any of {len(stats)} label files",
                expected=f"voxels of {names} (values {values}) in some cases",
                remedy="check that the labels are annotated, and the declared values",
            )
        )
    return findings


def _mixture(what: str, values: Sequence[str], stats: Sequence[CaseStats]) -> Finding:
    rarest = min(set(values), key=values.count)
    odd = [c.case_id for c, value in zip(stats, values, strict=True) if value == rarest]
    counts = ", ".join(f"{values.count(value)} with {value}" for value in sorted(set(values)))
    return Finding(
        severity="error",
        files=(),
        found=f"cases of different kinds ({what}): {counts}; the rarer are {', '.join(odd[:10])}",
        expected="all cases with the same number of axes, and all or none with a spacing",
        remedy="split the data set, or convert the rarer cases",
    )

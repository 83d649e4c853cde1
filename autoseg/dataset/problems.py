"""Findings that stop: collected over all cases, then told as one error with every remedy."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from autoseg.dataset.dataset import Finding
from autoseg.errors import AutosegError, DatasetError

MAX_LISTED = 200
"""Lines of one error message."""
MAX_IN_GROUP = 20
"""Lines of problems that share a remedy, where there are several remedies."""


class DatasetProblems(DatasetError):
    """All that is wrong with a data set, each problem as a finding.

    Parameters
    ----------
    findings
        The errors, at least one.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        groups = grouped(self.findings)
        found, expected, fix = _alike(self.findings) if len(groups) == 1 else _different(groups)
        super().__init__(found=found, expected=expected, fix=fix)

    def __reduce__(self) -> tuple:
        """Return what pickle needs."""
        return DatasetProblems, (self.findings,)


def as_error(findings: Sequence[Finding]) -> DatasetProblems:
    """Return one error with all findings, those with one remedy together."""
    return DatasetProblems(findings)


def error_finding(
    error: AutosegError,
    files: tuple[str, ...],
    case: str | None = None,
    fix: dict[str, Any] | None = None,
) -> Finding:
    """Return an error as a finding about some files; several problems stay one finding."""
    return Finding(
        severity="error",
        files=files,
        case=case,
        found=error.found,
        expected=error.expected,
        remedy=error.fix,
        fix=fix,
    )


def describe(finding: Finding) -> str:
    """Return a finding's files and what was found, in one line."""
    names = [name for name in finding.files if name not in finding.found]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}: {finding.found}" if names else finding.found


def grouped(findings: Sequence[Finding]) -> list[tuple[Finding, ...]]:
    """Return findings that have severity, expectation and remedy in common, in the order found."""
    groups: dict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.severity, finding.expected, finding.remedy].append(finding)
    return [tuple(group) for group in groups.values()]


def _alike(group: Sequence[Finding]) -> tuple[str, str, str]:
    lines = _lines(group, MAX_LISTED)
    if len(group) > 1:
        lines.insert(0, f"{len(group)} problems:")
    return "\n".join(lines), group[0].expected, group[0].remedy


def _different(groups: Sequence[tuple[Finding, ...]]) -> tuple[str, str, str]:
    """Return all problems in blocks, each with its own expectation and remedy."""
    lines = [f"{sum(len(group) for group in groups)} problems:"]
    for group in groups:
        lines += _lines(group, MAX_IN_GROUP)
        lines += [_indented("expected", group[0].expected), _indented("fix", group[0].remedy)]
    if len(lines) > MAX_LISTED:
        lines = [*lines[:MAX_LISTED], "..."]
    remedy = "what stands under each problem, then run it again"
    if any(finding.fix for group in groups for finding in group):
        remedy += "; `autoseg check --fix` applies what is safe"
    return "\n".join(lines), "a data set without these problems", remedy


def _indented(word: str, text: str) -> str:
    return f"    {word}: " + text.replace("\n", "\n      ")


def _lines(group: Sequence[Finding], most: int) -> list[str]:
    lines = [describe(finding) for finding in group[:most]]
    return [*lines, f"... and {len(group) - most} more"] if len(group) > most else lines

"""Findings that stop: collected over all cases, then told as one error with every remedy."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import Finding
from autoseg.errors import AutosegError, DatasetError

MAX_LISTED = 200
"""Lines of one error message."""
MAX_IN_GROUP = 20
"""Lines of problems that share a remedy, where there are several remedies."""
MAX_ALIKE = 3
"""So many problems in the same words have a line each, more of them one together."""
MAX_NAMED = 10
"""Files in which the same was found that one line names."""
GROUP_FIELD = "group_by in the spec"
"""What a user may have given as an option instead."""


class DatasetProblems(DatasetError):
    """All that is wrong with a data set, each problem as a finding.

    Parameters
    ----------
    findings
        The errors, at least one.
    or_else
        What else helps than what stands under each problem.
    """

    def __init__(self, findings: Sequence[Finding], or_else: str = "") -> None:
        self.findings = tuple(findings)
        self.or_else = or_else
        groups = grouped(self.findings)
        found, expected, fix = _alike(self.findings) if len(groups) == 1 else _different(groups)
        super().__init__(found=found, expected=expected, fix=fix + or_else)

    def __reduce__(self) -> tuple:
        """Return what pickle needs."""
        return DatasetProblems, (self.findings, self.or_else)

    def with_place(self, spec_file: Path | None, *, group_option: bool) -> "DatasetProblems":
        """Return the error with remedies that name what the user gave: see `placed`."""
        findings = placed(self.findings, spec_file, group_option=group_option)
        return DatasetProblems(findings, self.or_else)


def as_error(findings: Sequence[Finding], or_else: str = "") -> DatasetProblems:
    """Return one error with all findings, those with one remedy together."""
    return DatasetProblems(findings, or_else)


def placed(
    findings: Sequence[Finding], spec_file: Path | None, *, group_option: bool
) -> tuple[Finding, ...]:
    """Return findings whose remedies name the spec's file, and --group-by where that was given."""
    changes = {GROUP_FIELD: "--group-by"} if group_option else {}
    if spec_file is not None:
        changes["in the spec"] = f"in {spec_file}"
    placed_findings = []
    for finding in findings:
        remedy = finding.remedy
        for said, meant in changes.items():
            remedy = remedy.replace(said, meant)
        placed_findings.append(finding.revised(remedy=remedy))
    return tuple(placed_findings)


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
    """Return what was found; one line where the same was found in many files."""
    alike: dict[str, list[Finding]] = defaultdict(list)
    for finding in group:
        alike[finding.found].append(finding)
    lines = [line for same in alike.values() for line in _alike_lines(same)]
    return [*lines[:most], f"... and {len(lines) - most} more"] if len(lines) > most else lines


def _alike_lines(same: Sequence[Finding]) -> list[str]:
    if len(same) <= MAX_ALIKE:
        return [describe(finding) for finding in same]
    names = list(dict.fromkeys(name for finding in same for name in finding.files))
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    found = same[0].found
    return [f"{', '.join(names[:MAX_NAMED])}{more}: {found}" if names else found]

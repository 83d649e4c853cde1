"""What does not pair in a folder, as findings about files and cases."""

from pathlib import Path

from autoseg.dataset.dataset import Finding
from autoseg.dataset.formats.format import Layout, Problem


def pairing_findings(root: Path, layout: Layout) -> list[Finding]:
    """Return the problems of a layout as findings; a layout without cases has at least one."""
    nothing = () if layout.cases else (Problem(f"no cases in {root}"),)
    return [
        Finding(
            severity="error",
            files=problem.files,
            case=problem.case_id,
            found=problem.found,
            expected=problem.expected,
            remedy=problem.remedy,
        )
        for problem in layout.problems or nothing
    ]

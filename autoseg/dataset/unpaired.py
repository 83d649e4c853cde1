"""What does not pair in a folder, as findings about files and cases."""

from pathlib import Path

from autoseg.dataset.dataset import Finding
from autoseg.dataset.formats.format import Layout
from autoseg.runtime.cases import CHANNEL_SUFFIX
from autoseg.runtime.images import FORMATS


def pairing_findings(root: Path, layout: Layout) -> list[Finding]:
    """Return the problems of pairing as findings, with their files and cases."""
    findings = []
    for problem in layout.problems or (() if layout.cases else (f"no cases in {root}",)):
        file, _, rest = problem.partition(": ")
        case_id = case_of(problem)
        findings.append(
            Finding(
                severity="error",
                files=(file,) if case_id else (),
                case=case_id,
                found=rest if case_id else problem,
                expected="for each case one image (or one a channel) and one label map of its name",
                remedy="add, rename or remove the files listed, then run it again",
            )
        )
    return findings


def case_of(problem: str) -> str | None:
    """Return the id of the case whose file a problem of pairing begins with, if it does."""
    name = problem.partition(": ")[0].rpartition("/")[2]
    ending = next((e for e in (*FORMATS, ".*") if name.lower().endswith(e)), None)
    if ending is None:
        return None
    stem = name[: -len(ending)]
    match = CHANNEL_SUFFIX.fullmatch(stem)
    return match["case"] if match else stem

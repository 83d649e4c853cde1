"""Everything wrong with a data set, and putting right what is safe: `autoseg check`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from autoseg.check.headers import check_headers
from autoseg.check.masks import reading_notes
from autoseg.dataset.dataset import Dataset, DatasetSpec, Finding
from autoseg.dataset.fixes import with_fixes
from autoseg.dataset.open import list_dataset
from autoseg.dataset.problems import error_finding, placed
from autoseg.dataset.spec import load_spec, spec_json
from autoseg.errors import DatasetError, WorkspaceError
from autoseg.fingerprint.copies import near_copies
from autoseg.machine import usable_memory
from autoseg.pipeline.examining import (
    Examined,
    Survey,
    counted_cases,
    has_too_few,
    make_survey,
    measured,
    measured_findings,
    open_examined,
    without_broken,
)
from autoseg.pipeline.splitting import SplitOptions, choose_splits
from autoseg.workspace import SUFFIX, Workspace, writable_workspace, write_text

RAM_FRACTION = 0.7
"""All our processes together may use this part of the machine's or container's memory."""


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What a user may ask of a check."""

    dataset: Path
    workspace: Path | None = None
    """Keeps what was measured, and what is put right; None: ./<name>.autoseg, if need be."""
    spec: Path | None = None
    group_by: str | None = None
    fix: bool = False
    """Write a spec with the safe remedies into the workspace."""
    skip_broken: bool = False
    """Let that spec leave out cases with errors that nothing else removes."""


@dataclass(frozen=True, kw_only=True)
class SpecChoice:
    """What is declared about a data set, where it stands, and the workspace it belongs to."""

    spec: DatasetSpec
    file: Path | None
    """None: nothing is declared."""
    workspace: Path


@dataclass(frozen=True, kw_only=True)
class CheckOutcome:
    """What a check found and put right."""

    dataset: Dataset | None
    findings: tuple[Finding, ...]
    spec_file: Path | None
    """The spec that holds, wherever it comes from."""
    changes: dict[str, object]
    """Fields of the spec that were set now."""

    @property
    def has_errors(self) -> bool:
        """Whether something stops a plan."""
        return any(finding.severity == "error" for finding in self.findings)


def choose_spec(
    dataset: Path, workspace: Path | None, spec: Path | None, group_by: str | None
) -> SpecChoice:
    """Return the spec that is given, else that of the workspace, else an empty one.

    Raises
    ------
    DatasetError
        The spec cannot be read.
    """
    given = load_spec(spec) if spec is not None else None
    name = (given.name if given else None) or dataset.resolve().name
    root = workspace or Path(f"{name}{SUFFIX}")
    kept = Workspace(root).spec
    if given is None and kept.is_file():
        given, spec = load_spec(kept), kept
    effective = given or DatasetSpec()
    if group_by is not None:
        effective = effective.revised(group_by=group_by)
    return SpecChoice(spec=effective, file=spec, workspace=root)


def check_dataset(
    options: CheckOptions, on_case: Callable[[str, int, int], None] = lambda *_: None
) -> CheckOutcome:
    """Return everything that is wrong with a data set or noteworthy about it.

    With `fix`, the safe remedies are written into the workspace's spec.json, and the data set is
    checked again with it; the user's files are never changed.

    Raises
    ------
    AutosegError
        There is no such folder, the spec cannot be read, or the workspace not be written.
    """
    chosen = choose_spec(options.dataset, options.workspace, options.spec, options.group_by)
    if options.fix and options.workspace is None:
        require_place(options.dataset, chosen.workspace)
    keeps = options.workspace is not None or options.fix
    folder = writable_workspace(chosen.workspace).measured if keeps else None
    survey = make_survey(folder, int(RAM_FRACTION * usable_memory()), on_case)
    examined = _examine(options.dataset, chosen.spec, survey)
    while options.fix:
        spec = with_fixes(examined.spec, examined.findings)
        if spec == examined.spec and options.skip_broken:
            spec = without_broken(examined) or spec
        if spec == examined.spec:
            break
        again = _examine(options.dataset, spec, survey)
        if spec.exclude != examined.spec.exclude and has_too_few(again):
            break
        examined = again
    changes = _changes(chosen.spec, examined.spec)
    file = chosen.file
    if changes:
        file = Workspace(chosen.workspace).spec
        write_text(file, spec_json(examined.spec))
    return CheckOutcome(
        dataset=examined.dataset,
        findings=placed(examined.findings, file, group_option=options.group_by is not None),
        spec_file=file,
        changes=changes,
    )


def check_listing(
    options: CheckOptions, on_case: Callable[[str, int, int], None] = lambda *_: None
) -> CheckOutcome:
    """Return what is wrong with the names and headers of the files, without reading pixels."""
    chosen = choose_spec(options.dataset, options.workspace, options.spec, options.group_by)
    try:
        dataset, findings = list_dataset(options.dataset, chosen.spec, None)
    except DatasetError as error:
        if not options.dataset.is_dir():
            raise
        dataset, findings = None, [error_finding(error, ())]
    if dataset is not None:
        findings += check_headers(dataset, counted_cases(on_case, len(dataset.cases)))
        findings += reading_notes(dataset)
    is_option = options.group_by is not None
    return CheckOutcome(
        dataset=dataset,
        findings=placed(findings, chosen.file, group_option=is_option),
        spec_file=chosen.file,
        changes={},
    )


def _examine(root: Path, spec: DatasetSpec, survey: Survey) -> Examined:
    """Return everything about a data set: errors do not hide what else can be told."""
    splits = SplitOptions()
    examined = measured(open_examined(root, spec, splits), survey)
    dataset, fingerprint = examined.dataset, examined.fingerprint
    findings = list(examined.findings)
    if dataset is not None:
        findings += reading_notes(dataset)
    if dataset is not None and fingerprint is not None:
        alike = near_copies(fingerprint.cases)
        findings += measured_findings(examined, alike)
        try:
            findings += choose_splits(dataset, fingerprint, splits, examined.given, alike)[1]
        except DatasetError as error:
            findings.append(error_finding(error, ()))
    return replace(examined, findings=tuple(findings))


def require_place(dataset: Path, workspace: Path) -> None:
    """Refuse to write into the data set's folder unasked.

    Raises
    ------
    WorkspaceError
        The workspace that nobody named would lie there.
    """
    if workspace.resolve().is_relative_to(dataset.resolve()):
        raise WorkspaceError(
            found=f"{workspace.resolve()} would lie in the data set's folder",
            expected="a place outside: nothing is written beside your data unasked",
            fix="name a workspace with -w, or run the command in another folder",
        )


def _changes(before: DatasetSpec, after: DatasetSpec) -> dict[str, object]:
    """Return the fields of a spec that differ, as they are now."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return {name: value for name, value in new.items() if value != old[name]}

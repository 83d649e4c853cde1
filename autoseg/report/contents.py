"""What a workspace holds, as far as it has come: everything the report is made from."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from autoseg.dataset.dataset import Dataset, Finding, Findings
from autoseg.ensemble.choose import ALL, Ensemble
from autoseg.ensemble.postprocessing import PostprocessingChoice
from autoseg.errors import WorkspaceError
from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.plan.plan import Plan
from autoseg.plan.search import SearchSummary
from autoseg.record import Record
from autoseg.runtime.manifest import MANIFEST, Manifest, load_manifest
from autoseg.train.records import FoldResult, RunSettings
from autoseg.workspace import FoldFolder, Workspace

Content = Mapping[str, object]
R = TypeVar("R", bound=Record)
Planned = TypeVar("Planned", RunSettings, FoldResult, Ensemble, PostprocessingChoice)
SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class FoldContents:
    """One fold: what training has written so far."""

    configuration: str
    fold: str
    folder: FoldFolder
    settings: RunSettings | None
    result: FoldResult | None
    metrics: tuple[Content, ...]
    events: tuple[Content, ...] = ()
    """What went wrong, what was changed on the way."""

    @property
    def troubles(self) -> tuple[tuple[str, str], ...]:
        """What went wrong, in words, and what helps."""
        lost = "the run went back to step {to_step}, with {lr_factor:g} times the learning rate"
        return tuple(
            (str(line["found"]), str(line["fix"]))
            if line["event"] == "trouble"
            else (str(line["found"]), lost.format(**line))
            for line in self.events
            if line.get("event") in ("trouble", "rolled back")
        )


@dataclass(frozen=True)
class Archive:
    """The zipped model."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A workspace's files; None or empty where a step has not been done."""

    workspace: Workspace
    dataset: Dataset | None
    findings: tuple[Finding, ...]
    fingerprint: Fingerprint | None
    plan: Plan | None
    folds: tuple[FoldContents, ...]
    dropped: tuple[tuple[str, str], ...]
    """Configuration and fold: those that the budget was too short for, still without a result."""
    ensemble: Ensemble | None
    postprocessing: PostprocessingChoice | None
    search: SearchSummary | None
    run: Content
    manifest: Manifest | None
    archive: Archive | None


def read_contents(workspace: Workspace) -> Contents:
    """Return everything that a workspace holds; results of another plan are left out.

    Raises
    ------
    WorkspaceError
        There is nothing to report: no plan, no data set.
    """
    dataset = _load(Dataset, workspace.dataset)
    fingerprint = _load(Fingerprint, workspace.fingerprint)
    plan = _load(Plan, workspace.plan)
    if dataset is None and fingerprint is None and plan is None:
        raise WorkspaceError(
            found=f"nothing to report in {workspace.root}",
            expected="a workspace with at least a plan",
            fix="run `autoseg plan DATASET` first, or name another workspace with -w",
        )
    manifest = _load_manifest(workspace.model, plan)
    findings = _load(Findings, workspace.findings)
    ordered = sorted(
        findings.findings if findings else (), key=lambda item: SEVERITIES.index(item.severity)
    )
    folds = _read_folds(workspace, plan) if plan else ()
    return Contents(
        workspace=workspace,
        dataset=dataset,
        findings=tuple(ordered),
        fingerprint=fingerprint,
        plan=plan,
        folds=folds,
        dropped=_read_dropped(workspace, plan, folds) if plan else (),
        ensemble=_of_plan(_load(Ensemble, workspace.ensemble), plan),
        postprocessing=_of_plan(_load(PostprocessingChoice, workspace.postprocessing), plan),
        search=_search_of(_load(SearchSummary, workspace.search_summary), plan),
        run=_load_json(workspace.run),
        manifest=manifest,
        archive=_describe(workspace.model_zip) if manifest else None,
    )


def _read_folds(workspace: Workspace, plan: Plan) -> tuple[FoldContents, ...]:
    """Return the folds that training has begun, in the plan's order."""
    found = []
    for configuration in plan.configurations:
        for fold in (*map(str, range(plan.num_folds)), ALL):
            folder = workspace.fold(configuration.name, fold)
            if folder.root.is_dir():
                item = FoldContents(
                    configuration=configuration.name,
                    fold=fold,
                    folder=folder,
                    settings=_of_plan(_load(RunSettings, folder.settings), plan),
                    result=_of_plan(_load(FoldResult, folder.result), plan),
                    metrics=_read_lines(folder.metrics),
                    events=_read_lines(folder.events),
                )
                if item.settings or item.result or item.metrics:
                    found.append(item)
    return tuple(found)


def _read_dropped(
    workspace: Workspace, plan: Plan, folds: Sequence[FoldContents]
) -> tuple[tuple[str, str], ...]:
    """Return configuration and fold of what was dropped and has not been trained since."""
    done = {(item.configuration, item.fold) for item in folds if item.result}
    dropped = {
        (str(line.get("configuration")), str(line.get("fold")))
        for line in _read_lines(workspace.events)
        if line.get("event") == "dropped"
    }
    return tuple(
        (item.name, fold)
        for item in plan.configurations
        for fold in (*map(str, range(plan.num_folds)), ALL)
        if (item.name, fold) in dropped - done
    )


def _load(kind: type[R], path: Path) -> R | None:
    """Return a record if its file is there."""
    return kind.load(path) if path.is_file() else None


def _of_plan(record: Planned | None, plan: Plan | None) -> Planned | None:
    """Return a record if it belongs to this plan."""
    return record if record and plan and record.plan_digest == plan.digest() else None


def _search_of(summary: SearchSummary | None, plan: Plan | None) -> SearchSummary | None:
    """Return a search if it led to this plan, or begins with it."""
    return summary if summary and plan and summary.is_of(plan) else None


def _load_manifest(model: Path, plan: Plan | None) -> Manifest | None:
    """Return the manifest of the exported model, if there is one of this plan."""
    if plan is None or not (model / MANIFEST).is_file():
        return None
    manifest = load_manifest(model)
    return manifest if manifest.plan_digest == plan.digest() else None


def _load_json(path: Path) -> Content:
    """Return a JSON object, empty where there is none: the report shows what it finds."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_lines(path: Path) -> tuple[Content, ...]:
    """Return the lines of a log; one that is being written is left out."""
    lines = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            lines.append(content)
    return tuple(lines)


def _describe(path: Path) -> Archive | None:
    """Return name, size and hash of the zipped model."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Archive(path.name, path.stat().st_size, digest)

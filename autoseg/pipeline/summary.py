"""What a run came to, for the command line: files and out-of-fold scores."""

import hashlib
from pathlib import Path

from autoseg.ensemble.choose import Ensemble
from autoseg.ensemble.postprocessing import PostprocessingChoice
from autoseg.evaluate.statistics import summarise
from autoseg.pipeline.finishing import load_results
from autoseg.plan.consistency import load_plan
from autoseg.runtime.manifest import load_manifest
from autoseg.workspace import Workspace


def summarise_run(workspace: Workspace) -> dict:
    """Return scores by fold, the choices, and where model and report are, fit for JSON."""
    plan = load_plan(workspace.plan)
    names = plan.labels.names[1:]
    folds = []
    for result in load_results(workspace, plan):
        summary = summarise(result.scores, seed=plan.seed) if result.scores else None
        folds.append(
            {
                "configuration": result.configuration,
                "fold": result.fold,
                "cases": len(result.scores),
                "steps": result.num_steps,
                "train_seconds": result.train_seconds,
                "summary": None if summary is None else summary.model_dump(mode="json"),
            }
        )
    content: dict = {"workspace": str(workspace.root), "classes": list(names), "folds": folds}
    if workspace.ensemble.exists():
        content["ensemble"] = Ensemble.load(workspace.ensemble).model_dump(mode="json")
    if workspace.postprocessing.exists():
        choice = PostprocessingChoice.load(workspace.postprocessing)
        content["postprocessing"] = choice.model_dump(mode="json")
    if workspace.model_zip.exists():
        content["model"] = str(workspace.model)
        content["zip"] = _file_facts(workspace.model_zip)
        content["has_real_images"] = has_real_images(workspace)
    if workspace.report.exists():
        content["report"] = str(workspace.report)
    return content


def has_real_images(workspace: Workspace) -> bool:
    """Return whether the artifact holds an image of the data set (patient data)."""
    verification = load_manifest(workspace.model).verification
    return verification is not None and verification.kind == "real"


def _file_facts(path: Path) -> dict:
    """Return name, size and SHA-256 of a file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": digest}

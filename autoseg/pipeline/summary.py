"""What a run came to, for the command line: files and out-of-fold scores."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from autoseg.ensemble.choose import Ensemble
from autoseg.ensemble.postprocessing import PostprocessingChoice
from autoseg.evaluate.statistics import summarise
from autoseg.pipeline.finishing import load_results
from autoseg.plan.consistency import load_plan
from autoseg.report.results import plateau_words
from autoseg.runtime.manifest import load_manifest
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace


def summarise_run(workspace: Workspace) -> dict:
    """Return scores by fold, the choices, and where model and report are, fit for JSON."""
    plan = load_plan(workspace.plan)
    names = plan.labels.names[1:]
    folds = []
    results = load_results(workspace, plan)
    for result in results:
        summary = summarise(result.scores, seed=plan.seed) if result.scores else None
        folds.append(
            {
                "configuration": result.configuration,
                "fold": result.fold,
                "cases": len(result.scores),
                "steps": result.num_steps,
                "train_seconds": result.train_seconds,
                "plateau": plateau_words(result, planned_steps=None),
                "summary": None if summary is None else summary.model_dump(mode="json"),
            }
        )
    content: dict = {
        "workspace": str(workspace.root),
        "classes": list(names),
        "regions": [region.name for region in plan.labels.regions],
        "folds": folds,
    }
    if workspace.ensemble.exists():
        chosen = Ensemble.load(workspace.ensemble)
        content["ensemble"] = chosen.model_dump(mode="json")
        content["ensemble"]["summary"] = _out_of_fold(chosen, results, plan.seed)
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


def _out_of_fold(ensemble: Ensemble, results: Sequence[FoldResult], seed: int) -> dict | None:
    """Return the scores of all cases that the model's folds had not seen; None without any.

    Of several configurations those of the best alone.
    """
    best = ensemble.members[0]
    used = [
        item
        for item in results
        if item.configuration == best.configuration and item.fold in best.folds
    ]
    scores = [score for item in used for score in item.scores]
    return summarise(scores, seed).model_dump(mode="json") if scores else None


def has_real_images(workspace: Workspace) -> bool:
    """Return whether the artifact holds an image of the data set (patient data)."""
    verification = load_manifest(workspace.model).verification
    return verification is not None and verification.kind == "real"


def _file_facts(path: Path) -> dict:
    """Return name, size and SHA-256 of a file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": digest}

"""After training: choose the ensemble, export and verify it, write the report."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from autoseg.dataset.dataset import Dataset
from autoseg.ensemble.choose import Ensemble, choose_ensemble
from autoseg.ensemble.offsets import choose_offsets
from autoseg.ensemble.postprocessing import PostprocessingChoice, choose_postprocessing
from autoseg.ensemble.stages import with_stages
from autoseg.ensemble.stored import Source
from autoseg.ensemble.weights import choose_weights
from autoseg.errors import WorkspaceError
from autoseg.pipeline.sharing import Finished, note_finished
from autoseg.plan.plan import Plan
from autoseg.record import autoseg_version
from autoseg.report.render import render_report
from autoseg.runtime.manifest import MANIFEST
from autoseg.train.job import Listeners
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace, write_text

OnEvent = Callable[[Mapping[str, object]], None]
NOBODY = Listeners(lambda _: None, lambda: False)


def load_results(workspace: Workspace, plan: Plan) -> list[FoldResult]:
    """Return the results of all folds that were trained with this plan, in order.

    Raises
    ------
    WorkspaceError
        No fold is trained.
    """
    digest = plan.digest()
    paths = sorted(workspace.training.glob("*/fold_*/result.json"))
    results = [FoldResult.load(path) for path in paths]
    results = [result for result in results if result.plan_digest == digest]
    if not results:
        raise WorkspaceError(
            found=f"no trained fold of this plan in {workspace.root}",
            expected="at least one",
            fix="run `autoseg train` first",
        )
    return results


def choose(
    plan: Plan, dataset: Dataset, workspace: Workspace, listeners: Listeners = NOBODY
) -> None:
    """Choose what needs no training on out-of-fold predictions, one after the other; write it.

    Configurations and their weights, how they predict, thresholds, and which objects are removed.
    How they predict changes none of the others, which are made on predictions as planned.

    Raises
    ------
    Interrupted
        The user has asked to stop between two cases; the former choices stay.
    """
    from autoseg.ensemble.predicting import choose_predicting

    source = Source(plan, dataset, workspace, listeners)
    _tell(listeners, "configurations and weights")
    ensemble = choose_weights(
        source, choose_ensemble(plan, workspace, load_results(workspace, plan))
    )
    _tell(listeners, "mirroring and tile overlap")
    ensemble = choose_predicting(source, ensemble)
    _tell(listeners, "thresholds")
    offsets, tried = choose_offsets(source, ensemble.members)
    _tell(listeners, "objects to remove")
    choice = choose_postprocessing(source, ensemble, offsets, tried)
    write_text(workspace.ensemble, ensemble.to_json())
    write_text(workspace.postprocessing, choice.to_json())


def _tell(listeners: Listeners, part: str) -> None:
    listeners.on_progress({"event": "step", "name": f"choose: {part}"})


def export(
    plan: Plan, dataset: Dataset, workspace: Workspace, *, verification_case: str, on_event: OnEvent
) -> bool:
    """Write the verified artifact model/ and model.zip, unless they are of the same inputs.

    Returns
    -------
    bool
        Whether they were written.
    """
    from autoseg.export.export import export_model

    inputs = _export_inputs(plan, workspace, verification_case)
    if _is_current(workspace, inputs):
        return False
    export_model(
        plan,
        dataset,
        workspace,
        Ensemble.load(workspace.ensemble),
        PostprocessingChoice.load(workspace.postprocessing),
        verification_case=verification_case,
        on_part=lambda part: on_event({"event": "step", "name": f"export: {part}"}),
    )
    write_text(workspace.exported_from, inputs + "\n")
    return True


def finish(
    plan: Plan,
    dataset: Dataset,
    workspace: Workspace,
    *,
    verification_case: str,
    images: bool,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
) -> None:
    """Do what comes after training; the export only when its inputs have changed.

    Raises
    ------
    Interrupted
        `should_stop` answered yes between two steps.
    """
    listeners = Listeners(on_event, should_stop)
    seconds: dict[str, float] = {}
    with _timed(seconds, "ensemble", on_event):
        choose(plan, dataset, workspace, listeners)
    listeners.stop_if_asked("the export")
    with _timed(seconds, "export", on_event):
        is_new = export(
            plan, dataset, workspace, verification_case=verification_case, on_event=on_event
        )
    listeners.stop_if_asked("the report")
    with _timed(seconds, "report", on_event):
        render_report(workspace, images=images)
    if is_new:
        members = with_stages(plan, Ensemble.load(workspace.ensemble))
        folds = tuple((item.configuration, fold) for item in members for fold in item.folds)
        record = Finished(plan_digest=plan.digest(), folds=folds, seconds=seconds)
        note_finished(workspace, record)


@contextmanager
def _timed(seconds: dict[str, float], name: str, on_event: OnEvent) -> Iterator[None]:
    """Say that a step begins, and keep what it took."""
    on_event({"event": "step", "name": name})
    start = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - start, 1)


def _export_inputs(plan: Plan, workspace: Workspace, verification_case: str) -> str:
    """Return a digest of everything that the artifact is made from."""
    digest = hashlib.sha256(f"{autoseg_version()} {verification_case}".encode())
    digest.update(plan.digest().encode())
    ensemble = Ensemble.load(workspace.ensemble)
    weights = [
        workspace.fold(member.configuration, fold).final
        for member in with_stages(plan, ensemble)
        for fold in member.folds
    ]
    for path in (workspace.ensemble, workspace.postprocessing, *weights):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_current(workspace: Workspace, inputs: str) -> bool:
    """Return whether an earlier call has exported from the same inputs, and all is still there."""
    mark = workspace.exported_from
    if not (workspace.model_zip.exists() and (workspace.model / MANIFEST).exists()):
        return False
    return mark.exists() and mark.read_text(encoding="utf-8").strip() == inputs

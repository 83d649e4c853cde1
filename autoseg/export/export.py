"""From trained folds to a verified artifact: model/ and model.zip."""

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from autoseg.dataset.dataset import Dataset
from autoseg.ensemble.choose import Ensemble
from autoseg.ensemble.postprocessing import PostprocessingChoice
from autoseg.export.bundle import copy_runtime, fresh_folder, put_in_place, write_manifest
from autoseg.export.card import model_card
from autoseg.export.members import (
    Sources,
    describe_member,
    load_sources,
    prove_member,
    write_member,
)
from autoseg.export.parity import reference_network
from autoseg.export.verification import check_agreement, write_expected, write_image_files
from autoseg.plan.plan import Plan
from autoseg.record import Record, autoseg_version
from autoseg.runtime.manifest import Configuration, Manifest, Verification
from autoseg.runtime.model import Model, TileNetwork
from autoseg.workspace import Workspace

CARD = "model_card.md"

OnPart = Callable[[str], None]
"""Told which part of the export begins."""


class ExportSummary(Record):
    """What was exported."""

    model: Path
    zip_bytes: int
    zip_sha256: str
    configurations: tuple[str, ...]
    label_agreement: float
    """Least agreement of an exported network with the training framework, on real cases."""
    has_real_images: bool
    """Whether the artifact holds an image of the data set."""
    seconds: float


def export_model(
    plan: Plan,
    dataset: Dataset,
    workspace: Workspace,
    ensemble: Ensemble,
    postprocessing: PostprocessingChoice,
    *,
    verification_case: str = "synthetic",
    on_part: OnPart = lambda _: None,
) -> ExportSummary:
    """Write the artifact of an ensemble, once it has proved to agree with the training framework.

    Parameters
    ----------
    verification_case
        "synthetic", "none", or the id of a case, whose images the artifact then holds.
    on_part
        Told which part begins; the parts take seconds to minutes.

    Raises
    ------
    ExportError
        An export disagrees, a trained fold is missing, or the disk is full. The former artifact
        stays as it was.
    """
    start = time.perf_counter()
    sources = load_sources(plan, dataset, workspace, ensemble, postprocessing)
    with fresh_folder(workspace) as folder:
        manifest = _write_networks(folder, sources, on_part)
        on_part("verify")
        manifest = replace(
            manifest, verification=_verify(folder, manifest, sources, verification_case)
        )
        _write_texts(folder, manifest, sources)
        on_part("zip")
        digest = put_in_place(folder, workspace)
    checks = [check for item in manifest.configurations for check in item.parity]
    case = manifest.verification
    return ExportSummary(
        model=workspace.model,
        zip_bytes=workspace.model_zip.stat().st_size,
        zip_sha256=digest,
        configurations=tuple(item.name for item in manifest.configurations),
        label_agreement=min(check.label_agreement for check in checks),
        has_real_images=case is not None and case.kind == "real",
        seconds=time.perf_counter() - start,
    )


def _write_networks(folder: Path, sources: Sources, on_part: OnPart) -> Manifest:
    """Write and prove all networks; return the manifest with what is known so far."""
    manifest = _describe(sources)
    written, proved = [], []
    for item in manifest.configurations:
        on_part(f"write {item.name} as TorchScript and ONNX")
        further = manifest.num_inputs(item) - len(manifest.channels)
        written.append(write_member(folder, item, sources.folds[item.name], further))
    manifest = write_manifest(folder, replace(manifest, configurations=tuple(written)))
    for item in written:
        on_part(f"compare {item.name} with the trained network, measure its speed")
        proved.append(prove_member(folder, manifest, item, sources))
    return write_manifest(folder, replace(manifest, configurations=tuple(proved)))


def _describe(sources: Sources) -> Manifest:
    plan, dataset = sources.plan, sources.dataset
    return Manifest(
        autoseg_version=autoseg_version(),
        name=dataset.name,
        planner=plan.planner,
        plan_digest=plan.digest(),
        fingerprint_digest=plan.fingerprint_digest,
        seed=plan.seed,
        unit=plan.unit,
        channels=dataset.channels,
        channel_files=dataset.channel_files,
        file_ending=dataset.file_ending,
        labels=plan.labels,
        configurations=tuple(describe_member(sources, member) for member in sources.members),
        postprocessing=sources.postprocessing.steps,
        verification=None,
        offsets=sources.postprocessing.offsets,
        smallest=sources.postprocessing.smallest,
    )


def _verify(folder: Path, manifest: Manifest, sources: Sources, choice: str) -> Verification | None:
    """Write the verification case and return what the artifact gives for it."""
    if choice == "none":
        return None
    configuration = sources.plan.configuration(manifest.configurations[0].name)
    images = write_image_files(
        folder, sources.dataset, choice, plan=sources.plan, configuration=configuration
    )
    expected = write_expected(folder, images, Model(folder, _open_reference(sources)))
    case = Verification(
        kind="synthetic" if choice == "synthetic" else "real",
        images=images,
        expected=expected,
        label_agreement=1.0,
    )
    write_manifest(folder, replace(manifest, verification=case))
    return replace(case, label_agreement=check_agreement(Model(folder).verify() or 0.0))


def _open_reference(sources: Sources) -> Callable[[Path, Manifest, Configuration], TileNetwork]:
    """Return what opens the training framework's networks instead of the exported ones."""
    return lambda _folder, _manifest, item: reference_network(sources.folds[item.name], item)


def _write_texts(folder: Path, manifest: Manifest, sources: Sources) -> None:
    """Write everything else that an artifact holds, the manifest last."""
    copy_runtime(folder)
    shutil.copyfile(sources.workspace.fingerprint, folder / sources.workspace.fingerprint.name)
    card = model_card(
        manifest,
        sources.plan,
        num_cases=len(sources.dataset.training_cases),
        fingerprint=sources.fingerprint,
        ensemble=sources.ensemble,
        postprocessing=sources.postprocessing,
    )
    (folder / CARD).write_text(card, encoding="utf-8")
    write_manifest(folder, manifest)

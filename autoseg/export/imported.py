"""Models that nnU-Net has trained, as artifacts of ours."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from hashlib import file_digest
from math import ceil
from pathlib import Path
from uuid import uuid4

from torch import nn

from autoseg.errors import ExportError
from autoseg.export import parity
from autoseg.export.backend import opener
from autoseg.export.bundle import copy_runtime, write_manifest
from autoseg.export.card import LIMITS, files_text, parity_table, plain, table
from autoseg.export.members import FULL_PRECISION, write_member
from autoseg.export.timing import measure_timing
from autoseg.export.verification import (
    check_agreement,
    synthetic_image,
    write_expected,
    write_synthetic,
)
from autoseg.infer.predict import load_network
from autoseg.record import autoseg_version
from autoseg.runtime.manifest import Configuration, Manifest, Verification
from autoseg.runtime.model import Model
from autoseg.runtime.tiles import tile_starts
from autoseg.train.nnunet import FINGERPRINT, PLANS, NnunetModel

CARD = "model_card.md"
SEED = 0
"""Of the synthetic image that the artifact is verified on."""


def import_model(model: NnunetModel, output: Path, *, overwrite: bool) -> Manifest:
    """Write nnU-Net's folds as an artifact, once its files have proved to agree with them.

    Parameters
    ----------
    output
        Folder of the artifact.
    overwrite
        Replace the artifact that is there.

    Raises
    ------
    ExportError
        An export disagrees, or `output` exists or cannot be written; what was there stays.
    """
    _refuse_existing(output, overwrite=overwrite)
    folds = [
        load_network(model.plan.network, fold.weights).requires_grad_(requires_grad=False)
        for fold in model.folds
    ]
    folder = output.with_name(f".{output.name}.{uuid4().hex[:8]}.tmp")
    try:
        folder.mkdir(parents=True)
        manifest = _write(folder, model, folds)
        if output.exists():
            shutil.rmtree(output)
        folder.rename(output)
    except OSError as error:
        raise ExportError(
            found=f"{output} cannot be written: {error.strerror or error}",
            expected="a folder that can be made, with enough free space",
            fix="free space, or choose another -o",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return manifest


def _refuse_existing(output: Path, *, overwrite: bool) -> None:
    is_artifact = (output / "manifest.json").is_file()
    if not output.exists() or (overwrite and is_artifact):
        return
    raise ExportError(
        found=f"{output} exists" + ("" if is_artifact else ", and is no model"),
        expected="a new folder",
        fix="choose another -o" + (", or add --overwrite" if is_artifact else ""),
    )


def _write(folder: Path, model: NnunetModel, folds: Sequence[nn.Module]) -> Manifest:
    """Write everything that an artifact holds, the manifest last."""
    item = write_member(folder, describe_configuration(model), folds)
    manifest = write_manifest(folder, describe_model(model, item))
    image = synthetic_image(item, SEED, model.plan.unit)
    samples = [parity.draw_sample(image, item, folds)]
    checks, timings = [], []
    for backend in FULL_PRECISION:
        # Reduced precision is not offered: who imports a model wants that model's labels.
        network = opener(backend)(folder, manifest, item)
        check = parity.compare(samples, item, network, backend)
        parity.require_parity(check, item.name)
        checks.append(replace(check, cases="synthetic"))
        timings.append(measure_timing(folder, manifest, item, backend))
    item = replace(item, parity=tuple(checks), timings=tuple(timings))
    manifest = write_manifest(folder, replace(manifest, configurations=(item,)))
    images = write_synthetic(folder, image, model.plan.file_ending)
    reference = Model(folder, lambda *_: parity.reference_network(folds, item))
    expected = write_expected(folder, images, reference)
    case = Verification(kind="synthetic", images=images, expected=expected, label_agreement=1.0)
    write_manifest(folder, replace(manifest, verification=case))
    agreement = check_agreement(Model(folder).verify() or 0.0)
    manifest = replace(manifest, verification=replace(case, label_agreement=agreement))
    copy_runtime(folder)
    (folder / CARD).write_text(model_card(manifest, model), encoding="utf-8")
    return write_manifest(folder, manifest)


def describe_configuration(model: NnunetModel) -> Configuration:
    """Return what the manifest says about how images become logits, before it is exported."""
    plan = model.plan
    return Configuration(
        name=plan.configuration,
        weight=1.0,
        folds=tuple(fold.name for fold in model.folds),
        recipe=plan.recipe,
        patch_size=plan.patch_size,
        tiles_per_case=_tiles_per_case(model),
        input="normalised",
        spatial="fixed",
        spatial_multiple=plan.network.total_strides,
        onnx=f"{plan.configuration}.onnx",
        torchscript=f"{plan.configuration}.torchscript.pt",
        parity=(),
        timings=(),
        decision=plan.decision,
        tile_centre="upper",
    )


def _tiles_per_case(model: NnunetModel) -> float:
    """Return how many tiles the median training case takes, without mirroring."""
    plan = model.plan
    shape = [ceil(size) for size in plan.median_shape[-len(plan.recipe.transpose) :]]
    tile = (1,) * (len(shape) - len(plan.patch_size)) + plan.patch_size
    filled = [max(n, p) for n, p in zip(shape, tile, strict=True)]
    return float(len(tile_starts(filled, tile, plan.recipe.overlap)))


def describe_model(model: NnunetModel, item: Configuration) -> Manifest:
    """Return the manifest of an imported model of one configuration."""
    plan = model.plan
    return Manifest(
        autoseg_version=autoseg_version(),
        name=plan.dataset_name,
        planner=f"nnU-Net: {plan.plans_name}, {model.trainer}",
        plan_digest=_digest(model.folder / PLANS),
        fingerprint_digest=_digest(model.folder / FINGERPRINT),
        seed=SEED,
        unit=plan.unit,
        channels=plan.channels,
        channel_files="suffix",
        file_ending=plan.file_ending,
        labels=plan.labels,
        configurations=(item,),
        postprocessing=(),
        verification=None,
    )


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file; of older models the fingerprint is missing."""
    if not path.is_file():
        return "none"
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def model_card(manifest: Manifest, model: NnunetModel) -> str:
    """Return the model card of an imported model as Markdown."""
    item = manifest.configurations[0]
    labels = zip(manifest.labels.names, manifest.labels.values, strict=True)
    channels = [(i, c.name, c.scheme) for i, c in enumerate(item.recipe.channels)]
    sources = [(fold.name, fold.path.name, fold.sha256) for fold in model.folds]
    sections = [
        f"# {plain(manifest.name)}\n",
        f"Segmentation of {manifest.dimensions}D images, trained by nnU-Net "
        f"({plain(model.trainer)}, plans `{model.plan.plans_name}`, configuration `{item.name}`), "
        f"imported by autoseg {manifest.autoseg_version}. The logits of "
        f"{len(item.folds)} fold(s) are averaged. Nothing is known here about how well it does: "
        "see nnU-Net's own cross-validation.\n",
        "## What it takes and gives\n",
        table(("channel", "name", "normalisation"), channels),
        files_text(manifest),
        table(("class", "value in the label files"), list(labels)),
        "## What it was made from\n",
        table(("fold", "checkpoint", "SHA-256"), sources),
        "nnU-Net's own post-processing, if there was one, is not applied.\n",
        "## What it was verified on\n",
        parity_table(item),
        "## Limits\n",
        LIMITS,
        "## Use\n",
        "```sh\npip install -r requirements.txt\npython predict.py INPUT... OUT\n```\n",
    ]
    return "\n".join(sections)

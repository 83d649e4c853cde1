"""A folder that nnU-Net has trained in, read without running anything in it."""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor

from autoseg.errors import TrainingError, nearest
from autoseg.network.nnunet_weights import our_weights
from autoseg.network.weight_files import MoreThanDataError, first_line, load_torch
from autoseg.plan.import_nnunet import ImportedPlan, read_plans

PLANS, DATASET = "plans.json", "dataset.json"
FINGERPRINT = "dataset_fingerprint.json"
CHECKPOINT = "checkpoint_final.pth"
FOLD = "fold_"
RESAVE = (
    "if you trust the file, save its weights alone with nnU-Net's own Python: python -c "
    "\"import torch; c = torch.load('checkpoint_final.pth', weights_only=False); "
    "torch.save({'network_weights': c['network_weights'], 'trainer_name': c['trainer_name'], "
    "'init_args': {'configuration': c['init_args']['configuration']}, "
    "'inference_allowed_mirroring_axes': c['inference_allowed_mirroring_axes']}, "
    "'checkpoint_final.pth')\""
)
MAX_PROBLEMS = 8
"""Tensors that a message names."""
ZIP_ERRORS = (OSError, BadZipFile, EOFError, RuntimeError, zlib.error)
"""What `zipfile` raises for damaged files, and for those with a password or unknown compression."""


@dataclass(frozen=True, kw_only=True)
class NnunetFold:
    """One checkpoint."""

    name: str
    """Of the fold: "0", or "all"."""
    path: Path
    sha256: str
    weights: dict[str, Tensor]
    """Under our names."""


@dataclass(frozen=True, kw_only=True)
class NnunetModel:
    """Trained folds of one configuration."""

    plan: ImportedPlan
    trainer: str
    folds: tuple[NnunetFold, ...]
    folder: Path


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Yield the folder with the plans and folds of one trained configuration.

    Parameters
    ----------
    path
        Such a folder, one of its checkpoints, a folder above it, or an exported zip.

    Raises
    ------
    TrainingError
        There is none, or several.
    """
    if path.suffix == ".zip":
        with TemporaryDirectory(prefix="autoseg-") as folder:
            _unpack(path, Path(folder))
            yield _only(Path(folder), path)
        return
    yield _only(path.parent.parent if path.is_file() else path, path)


def is_nnunet(path: Path) -> bool:
    """Return whether a path looks like what nnU-Net has trained or exported."""
    if path.suffix == ".zip":
        try:
            with ZipFile(path) as archive:
                return any(Path(name).name == PLANS for name in archive.namelist())
        except (OSError, BadZipFile):
            return False
    return path.suffix == ".pth" or (path.is_dir() and bool(_trained(path)))


def load_nnunet(
    folder: Path, *, folds: Sequence[str] | None = None, checkpoint: str = CHECKPOINT
) -> NnunetModel:
    """Return the trained folds in a folder with plans.json, their weights under our names.

    Parameters
    ----------
    folds
        Names of folds; None: all that have such a checkpoint.

    Raises
    ------
    PlanError
        What was planned cannot be reproduced.
    TrainingError
        A file is missing or damaged, or the weights are not those of the planned network.
    """
    plans, dataset = _read_json(folder / PLANS), _read_json(folder / DATASET)
    names = _fold_names(folder, checkpoint, folds)
    paths = [folder / f"{FOLD}{name}" / checkpoint for name in names]
    contents = [_read_checkpoint(path) for path in paths]
    first = contents[0]
    configuration = first.get("init_args", {}).get("configuration") or folder.name.split("__")[-1]
    plan = read_plans(plans, dataset, configuration, first.get("inference_allowed_mirroring_axes"))
    return NnunetModel(
        plan=plan,
        trainer=str(first.get("trainer_name", "unknown")),
        folder=folder,
        folds=tuple(
            _fold(name, path, content, plan)
            for name, path, content in zip(names, paths, contents, strict=True)
        ),
    )


def _fold(name: str, path: Path, content: Mapping[str, Any], plan: ImportedPlan) -> NnunetFold:
    weights, problems = our_weights(content["network_weights"], plan.network)
    if problems:
        shown = problems[:MAX_PROBLEMS]
        rest = len(problems) - len(shown)
        raise TrainingError(
            found=f"{path} does not fit {PLANS}:\n"
            + "\n".join([*shown, *([f"and {rest} more"] if rest else [])]),
            expected=f"every tensor of the network that {PLANS} describes, and no other: a trainer "
            "that changes the network cannot be imported",
            fix=f"take the {PLANS} that the checkpoint was trained with; or predict with nnU-Net",
        )
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    return NnunetFold(name=name, path=path, sha256=digest, weights=weights)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content: tensors, numbers and texts, nothing that runs."""
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            content = load_torch(path)
    except MoreThanDataError as error:
        raise TrainingError(
            found=f"{path}: {error}",
            expected="a checkpoint as nnU-Net 2 writes it",
            fix=RESAVE.replace(CHECKPOINT, str(path)),
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, first_line(error)) from None
    if not isinstance(content, dict) or "network_weights" not in content:
        raise _unreadable(path, "no network_weights in it")
    return content


def _numpy_numbers() -> list[Any]:
    """Return what numpy's numbers need to be unpickled: its scalar and dtype types."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OV"]
    return [
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),  # as numpy 1 wrote it
        np.dtype,
        *dict.fromkeys(kinds),
    ]


def _unreadable(path: Path, reason: str) -> TrainingError:
    return TrainingError(
        found=f"{path} cannot be read: {reason}",
        expected="a checkpoint as nnU-Net 2 writes it",
        fix="copy the file again from where it was trained",
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise TrainingError(
            found=f"{path} cannot be read: {getattr(error, 'strerror', None) or error}",
            expected=f"the {path.name} that nnU-Net writes beside its folds",
            fix="copy it from the folder that nnU-Net trained in",
        ) from None


def _fold_names(folder: Path, checkpoint: str, wanted: Sequence[str] | None) -> list[str]:
    known = sorted(path.parent.name[len(FOLD) :] for path in folder.glob(f"{FOLD}*/{checkpoint}"))
    missing = [name for name in wanted or () if name not in known]
    if known and not missing:
        return list(dict.fromkeys(wanted or known))
    others = sorted({path.name for path in folder.glob(f"{FOLD}*/*.pth")} - {checkpoint})
    found = f"fold {', '.join(missing)}" if missing else f"no {FOLD}*/{checkpoint}"
    raise TrainingError(
        found=f"{found} in {folder}" + (f", but {', '.join(others)}" if others else ""),
        expected=f"one of folds {', '.join(known)}" if known else f"a fold with {checkpoint}",
        fix="correct --folds"
        if known
        else f"name a checkpoint that is there with --checkpoint{nearest(checkpoint, others)}",
    )


def _trained(folder: Path) -> list[Path]:
    """Return the folders, this one or below, with plans and folds."""
    below = (
        path.parent
        for pattern in (PLANS, f"*/{PLANS}", f"*/*/{PLANS}")
        for path in folder.glob(pattern)
    )
    return sorted(path for path in below if any(path.glob(f"{FOLD}*")))


def _only(folder: Path, named: Path) -> Path:
    found = _trained(folder)
    if len(found) == 1:
        return found[0]
    shown = ", ".join(str(path.relative_to(folder)) for path in found)
    raise TrainingError(
        found=f"{named} holds {len(found)} trained configurations: {shown}"
        if found
        else f"no {PLANS} with {FOLD}* folders beside it in {named}",
        expected="the folder of one: nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION",
        fix="unzip it and name one of them" if named.suffix == ".zip" else "name one such folder",
    )


def _unpack(path: Path, folder: Path) -> None:
    """Unpack plans and checkpoints; zipfile keeps every name inside the folder."""
    try:
        with ZipFile(path) as archive:
            for name in archive.namelist():
                if Path(name).suffix in (".json", ".pth"):
                    archive.extract(name, folder)
    except ZIP_ERRORS as error:
        raise TrainingError(
            found=f"{path} cannot be unpacked: {first_line(error)}",
            expected="a zip as nnUNetv2_export_model_to_zip writes it",
            fix="copy the file again, or export the model again",
        ) from None

"""Checkpoints: written at once or not at all, two kept, read without running anything in them."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import torch
from torch import Tensor

from autoseg.errors import WorkspaceError
from autoseg.record import Record
from autoseg.train.loop import Learner
from autoseg.workspace import FoldFolder

SCHEMA_VERSION = 1


class Standing(Record):
    """Where a run stands."""

    schema_version: Literal[1] = 1
    plan_digest: str
    step: int
    """Steps done."""
    elapsed_s: float
    """Active seconds until here."""


def save_checkpoint(folder: FoldFolder, learner: Learner, standing: Standing) -> None:
    """Write the newest checkpoint and keep the one before it.

    Raises
    ------
    WorkspaceError
        The disk is full or the folder cannot be written; the checkpoints that were there remain.
    """
    content = {
        "standing": standing.model_dump(),
        "model": learner.model.state_dict(),
        "averaged": learner.ema.model.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "scaler": learner.scaler.state_dict(),
        "random": torch.get_rng_state(),
    }
    temporary = _write(folder.last, content)
    if folder.last.exists():
        folder.last.replace(folder.previous)
    temporary.replace(folder.last)


def restore_checkpoint(folder: FoldFolder, learner: Learner, plan_digest: str) -> Standing | None:
    """Take over the newest checkpoint that can be read; None if there is none.

    Raises
    ------
    WorkspaceError
        There are checkpoints but none can be read, or they belong to another plan.
    """
    paths = [path for path in (folder.last, folder.previous) if path.exists()]
    for path in paths:
        content = _read(path)
        if content is None:
            continue
        standing = Standing.model_validate(content["standing"])
        if standing.plan_digest != plan_digest:
            raise _foreign(path)
        learner.model.load_state_dict(content["model"])
        learner.ema.model.load_state_dict(content["averaged"])
        learner.optimizer.load_state_dict(content["optimizer"])
        learner.scaler.load_state_dict(content["scaler"])
        torch.set_rng_state(content["random"])
        return standing
    if paths:
        raise _unreadable(paths[0])
    return None


def save_weights(path: Path, weights: Mapping[str, Tensor], standing: Standing) -> None:
    """Write the weights that training ends with (see `load_weights`).

    Raises
    ------
    WorkspaceError
        The disk is full or the folder cannot be written; nothing is left behind.
    """
    content = {"standing": standing.model_dump(), "weights": dict(weights)}
    _write(path, content).replace(path)


def load_weights(path: Path, plan_digest: str) -> tuple[dict[str, Tensor], Standing]:
    """Return the weights in a fold's final.pt, on the CPU, and where training stood.

    Raises
    ------
    WorkspaceError
        The file is missing, unreadable, or belongs to another plan.
    """
    content = _read(path) if path.exists() else None
    if content is None:
        raise _unreadable(path)
    standing = Standing.model_validate(content["standing"])
    if standing.plan_digest != plan_digest:
        raise _foreign(path)
    return content["weights"], standing


def _write(path: Path, content: dict[str, Any]) -> Path:
    """Write beside `path` and return the temporary file, complete and on the disk."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        temporary.unlink(missing_ok=True)
        raise WorkspaceError(
            found=f"{path} cannot be written: {getattr(error, 'strerror', None) or error}",
            expected="a writable folder with enough free space",
            fix="free space, then run the same command again: it goes on from the last checkpoint",
        ) from error
    return temporary


def _read(path: Path) -> dict[str, Any] | None:
    """Return a file's content on the CPU; None if it is damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None


def _unreadable(path: Path) -> WorkspaceError:
    return WorkspaceError(
        found=f"{path} is missing or cannot be read",
        expected="weights as training wrote them",
        fix=f"delete the folder {path.parent} and run `autoseg train` again",
    )


def _foreign(path: Path) -> WorkspaceError:
    return WorkspaceError(
        found=f"{path}, which was trained with another plan than the workspace's plan.json",
        expected="weights of this plan",
        fix="undo the change to plan.json, or run `autoseg plan --replan` and train again",
    )

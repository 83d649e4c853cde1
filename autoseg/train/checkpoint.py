"""Checkpoints: written at once or not at all, two kept, read without running anything in them."""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4
from zipfile import ZipFile

import torch
from torch import Tensor, nn

from autoseg.errors import WorkspaceError
from autoseg.record import Record
from autoseg.train.loop import Learner
from autoseg.train.random_state import random_state, set_random_state
from autoseg.train.rates import ReductionState
from autoseg.workspace import FoldFolder

LOG = logging.getLogger("autoseg")


class Standing(Record):
    """Where a run stands."""

    schema_version: Literal[1] = 1
    plan_digest: str
    step: int
    """Steps done."""
    elapsed_s: float
    """Active seconds until here."""
    reductions: ReductionState = ReductionState()


def save_checkpoint(
    folder: FoldFolder, learner: Learner, standing: Standing, **entries: object
) -> None:
    """Write the newest checkpoint and keep the one before it; `entries` are for other readers.

    Raises
    ------
    WorkspaceError
        The disk is full or the folder cannot be written; the checkpoints that were there remain.
    """
    draws = random_state(_device(learner))
    content = {
        "standing": standing.model_dump(),
        "model": learner.model.state_dict(),
        "averaged": learner.ema.model.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "scaler": learner.scaler.state_dict(),
        "random": draws[0],
        "device_random": list(draws[1:]),
        **entries,
    }
    with _written(folder.last, content) as temporary:
        if folder.last.exists():
            folder.last.replace(folder.previous)
        temporary.replace(folder.last)


def has_finite_weights(averaged: nn.Module) -> bool:
    """Return whether all averaged weights, and so all that they were averaged from, are numbers.

    Waits for the device.
    """
    values = [value for value in averaged.state_dict().values() if value.is_floating_point()]
    return bool(torch.stack([torch.isfinite(value).all() for value in values]).all())


def copy_checkpoint(source: Path, target: Path) -> None:
    """Write a copy of a checkpoint, at once or not at all.

    Raises
    ------
    WorkspaceError
        The disk is full or the folder cannot be written; `target` stays as it was.
    """
    with _replacing(target) as temporary:
        shutil.copyfile(source, temporary)
        temporary.replace(target)


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
        if content is not None:
            if content["standing"].plan_digest != plan_digest:
                raise _foreign(path)
            if _take_over(learner, content):
                return content["standing"]
        LOG.warning("%s is damaged", path)
    if paths:
        raise _unreadable(paths[0])
    return None


def _take_over(learner: Learner, content: dict[str, Any]) -> bool:
    """Return whether the learner could take over the whole content."""
    try:
        learner.model.load_state_dict(content["model"])
        learner.ema.model.load_state_dict(content["averaged"])
        learner.optimizer.load_state_dict(content["optimizer"])
        learner.scaler.load_state_dict(content["scaler"])
        draws = (content["random"], *content.get("device_random", ()))
        set_random_state(draws, _device(learner))
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError):
        return False
    return True


def _device(learner: Learner) -> torch.device:
    return next(learner.model.parameters()).device


def refuse_foreign(folder: FoldFolder, plan_digest: str) -> None:
    """Raise a WorkspaceError if there are weights of another plan; they would be lost."""
    for path in (folder.final, folder.last, folder.previous):
        content = _read(path) if path.exists() else None
        if content is not None and content["standing"].plan_digest != plan_digest:
            raise _foreign(path)


def remove_rests(folder: FoldFolder) -> None:
    """Remove what a process that was killed has left half written; no other may be at work."""
    for path in folder.root.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def save_weights(path: Path, weights: Mapping[str, Tensor], standing: Standing) -> None:
    """Write the weights that training ends with (see `load_weights`).

    Raises
    ------
    WorkspaceError
        The disk is full or the folder cannot be written; nothing is left behind.
    """
    content = {"standing": standing.model_dump(), "weights": dict(weights)}
    with _written(path, content) as temporary:
        temporary.replace(path)


def load_weights(path: Path, plan_digest: str) -> tuple[dict[str, Tensor], Standing]:
    """Return the weights in a fold's final.pt, on the CPU, and where training stood.

    Raises
    ------
    WorkspaceError
        The file is missing, unreadable, or belongs to another plan.
    """
    content = _read(path) if path.exists() else None
    if content is None or "weights" not in content:
        raise _unreadable(path)
    if content["standing"].plan_digest != plan_digest:
        raise _foreign(path)
    return content["weights"], content["standing"]


@contextmanager
def _written(path: Path, content: dict[str, Any]) -> Iterator[Path]:
    """Yield a file beside `path`, complete and on the disk, that the body renames."""
    with _replacing(path) as temporary:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        yield temporary


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield the name of a file beside `path` that the body writes and renames."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise WorkspaceError(
            found=f"{path} cannot be written: {getattr(error, 'strerror', None) or error}",
            expected="a writable folder with enough free space",
            fix="free space, then run the same command again: it goes on from the last checkpoint",
        ) from error


def _read(path: Path) -> dict[str, Any] | None:
    """Return a file's content on the CPU, its "standing" as a record; None if it is damaged."""
    try:
        with ZipFile(path) as file:
            if file.testzip() is not None:  # torch does not compare the checksums
                return None
        content = torch.load(path, map_location="cpu", weights_only=True)
        return {**content, "standing": Standing.model_validate(content["standing"])}
    except Exception:  # whatever a damaged file makes of those who read it
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

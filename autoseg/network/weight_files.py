"""Weights in files: read without running anything in them, matched to a network, kept by digest."""

import hashlib
import importlib
import io
import math
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autoseg.errors import AutosegError
from autoseg.record import Backbone

WRAPPERS = ("state_dict", "model", "state_dict_ema", "model_ema")
"""Entries under which programs that train store the weights in a file."""

Weights = dict[str, Tensor]


class MoreThanDataError(ValueError):
    """A file holds something that could run."""


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and values, whatever file holds them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def weights_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """Return weights as the content of a file that `load_kept` reads."""
    buffer = io.BytesIO()
    torch.save({name: tensor.detach().clone() for name, tensor in weights.items()}, buffer)
    return buffer.getvalue()


def load_kept(path: Path, backbone: Backbone) -> Weights:
    """Return the weights that planning kept for an encoder.

    Raises
    ------
    AutosegError
        The file is missing, damaged or of other weights.
    """
    try:
        weights = read_tensors(path)
        if weights_digest(weights) == backbone.weights:
            return weights
        found = f"{path} holds other weights of {backbone.model} than the plan says"
    except (OSError, ValueError) as error:
        found = f"the weights of {backbone.model} cannot be read: {error}"
    raise AutosegError(
        found=found,
        expected="the weights that `autoseg plan` has put there",
        fix="run the same `autoseg plan` again; it writes the file anew",
    )


def matched(stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Weights:
    """Return a tensor for every wanted name: by its name, or else all of them by their order.

    Names differ between programs that share an architecture; their order seldom does. What is
    found in neither way is filled with NaN.
    """
    if not any(_fits(stored.get(name), tensor) for name, tensor in wanted.items()):
        pairs = list(zip(stored.values(), wanted.values(), strict=False))
        if len(stored) == len(wanted) and all(_fits(found, like) for found, like in pairs):
            stored = dict(zip(wanted, stored.values(), strict=True))
    found = {name: stored.get(name) for name in wanted}
    return {
        name: tensor.clone() if _fits(tensor, like) and tensor is not None else _unknown(like)
        for (name, like), tensor in zip(wanted.items(), found.values(), strict=True)
    }


def _fits(tensor: Tensor | None, like: Tensor) -> bool:
    return tensor is not None and tensor.shape == like.shape


def _unknown(like: Tensor) -> Tensor:
    """Return NaN where there are such numbers; counters of batches, which nothing uses, are 0."""
    return torch.full_like(like, math.nan) if like.is_floating_point() else torch.zeros_like(like)


def read_tensors(path: Path) -> Weights:
    """Return the tensors of a file by name.

    Raises
    ------
    ValueError
        It holds something else, or something that could run.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content = load_torch(path)
    except ValueError as error:
        raise ValueError(f"{path} is no file of weights alone: {error}") from error
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = content if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(item, Tensor) for item in tensors.values()):
        raise ValueError(f"{path} holds no tensors by name")
    return dict(tensors)


def load_torch(path: Path) -> Any:  # noqa: ANN401
    """Return what a file of torch holds, on the CPU.

    Raises
    ------
    MoreThanDataError
        It holds more; nothing in it is run.
    ValueError
        It is damaged, or no such file.
    OSError
        It cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles, for which torch may take other files
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # other files fail in any way, as pickles that make no sense
        if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
            raise MoreThanDataError("it holds more than tensors, numbers and texts") from error
        raise ValueError("it is damaged, or was not saved by torch") from error


def _read_safetensors(path: Path) -> Weights:
    package = importlib.import_module("safetensors.torch")  # comes with timm
    try:
        return package.load_file(path)
    except Exception as error:  # a class of its own, without a public base
        raise ValueError(f"{path} is damaged: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Return what an error says, or its class where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

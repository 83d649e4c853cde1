"""A module as a TorchScript file, for callers that load nothing newer."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import torch
from torch import nn

from autoseg.export.onnx import make_input

SOURCES = ".debug_pkl"
"""Ending of the entries that name the source files of this machine."""


def write_torchscript(
    module: nn.Module, path: Path, *, num_channels: int, patch_size: Sequence[int]
) -> None:
    """Write the module, traced with one tile."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing is deprecated upstream, and warns about shapes that are constants of the network.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, make_input(1, num_channels, patch_size), check_trace=False)
        torch.jit.save(traced, buffer)
    with ZipFile(buffer) as source, ZipFile(path, "w", ZIP_STORED) as target:
        for entry in source.infolist():
            if not entry.filename.endswith(SOURCES):
                target.writestr(ZipInfo(entry.filename), source.read(entry))

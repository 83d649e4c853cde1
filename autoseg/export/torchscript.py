"""A module as a TorchScript file, for callers that load nothing newer."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from autoseg.export.onnx import make_input


def write_torchscript(
    module: nn.Module, path: Path, *, num_channels: int, patch_size: Sequence[int]
) -> None:
    """Write the module, traced with one tile."""
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing is deprecated upstream, and warns about shapes that are constants of the network.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, make_input(1, num_channels, patch_size), check_trace=False)
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
    path.write_bytes(buffer.getbuffer())

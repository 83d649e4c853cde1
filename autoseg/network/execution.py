"""How a network is executed on one machine: device, precision and memory layout."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from autoseg.network.unet import UNet

Precision = Literal["fp32", "bf16", "fp16"]

REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Types of reduced precision; convolutions run in them, weights and losses stay in float32."""

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Memory layouts by the number of axes of (B, C, *S); 1D has none."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where and in which precision a network runs."""

    device: str
    """As torch names it: "cpu", "cuda", "cuda:1", "mps"."""
    precision: Precision
    channels_last: bool = False
    checkpointing: bool = False
    """Training computes encoder stages and decoder blocks again in the backward pass: less memory,
    more time, the same gradients."""
    compiled: bool = False
    """Training compiles the network before its first step; predicting does not, its patches and
    batches have many shapes."""

    @property
    def kind(self) -> str:
        """The kind of device, without its number."""
        return torch.device(self.device).type

    def autocast(self) -> AbstractContextManager:
        """Return the context in which the network is called."""
        return torch.autocast(
            self.kind, REDUCED.get(self.precision), enabled=self.precision in REDUCED
        )

    def place(self, model: nn.Module) -> nn.Module:
        """Move a network to the device and layout; the same network comes back."""
        model.to(self.device)
        if isinstance(model, UNet):
            model.checkpointing = self.checkpointing
        if self.channels_last:
            for parameter in model.parameters():
                layout = CHANNELS_LAST.get(parameter.ndim)
                if layout is not None:
                    parameter.data = parameter.data.contiguous(memory_format=layout)
        return model

    def images(self, images: Tensor) -> Tensor:
        """Return images (B, C, *S) on the device, in the layout."""
        images = self.send(images)
        layout = CHANNELS_LAST.get(images.ndim) if self.channels_last else None
        return images if layout is None else images.contiguous(memory_format=layout)

    def send(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the device; from pinned memory the copy does not wait for it."""
        if self.kind == "cuda" and tensor.device.type == "cpu":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

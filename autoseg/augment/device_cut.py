"""Boxes of cases that lie on a device, cut there: what `autoseg.augment.padding` reads.

Letters in shapes: C channels, D axes of the image, S axes of the box.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, final

import numpy as np
import torch
from torch import Tensor

from autoseg.augment.device_intensity import Send
from autoseg.augment.padding import mirrored
from autoseg.augment.spatial import Box
from autoseg.runtime.resample import IGNORE


class WholeCase(Protocol):
    """A case that lies on a device, unless its memory has been needed since."""

    def arrays(self) -> tuple[Tensor, Tensor]:
        """Return image (C, *D) and labels (*D): on the device, or else in the machine's memory."""
        ...


@final
@dataclass(frozen=True)
class Cut:
    """A box of a case that may overhang it."""

    case: WholeCase
    box: Box
    """Along all axes of the image."""
    size: tuple[int, ...]
    """(*S), along the network's axes: without the leading ones, of which one slice is cut."""
    padding: Literal["mirror", "zero"]

    def apply(self, send: Send) -> tuple[Tensor, Tensor]:
        """Return image (C, *S) float32 and labels (*S) of the box; they may be views of the case.

        Parameters
        ----------
        send
            Copies a tensor to the device, without waiting for it.
        """
        whole, labels = self.case.arrays()
        labels = _filled(labels, self.box, IGNORE)
        if self.padding == "zero":
            image = _filled(whole, ((0, len(whole)), *self.box), 0)
        else:
            image = _mirrored(whole, self.box, send)
        return send(image.float().reshape(-1, *self.size)), send(labels.reshape(self.size))


def _mirrored(image: Tensor, box: Box, send: Send) -> Tensor:
    """Return a box (C, *D) of an image (C, *D) whose ends are mirrors."""
    positions = [
        mirrored(np.arange(low, high), n)
        for (low, high), n in zip(box, image.shape[1:], strict=True)
    ]
    inner = [slice(int(p.min()), int(p.max()) + 1) for p in positions]
    values = image[(slice(None), *inner)]
    for axis, (position, part, limits) in enumerate(zip(positions, inner, box, strict=True), 1):
        if part != slice(*limits):
            index = torch.from_numpy(position - part.start)
            index = index if values.device.type == "cpu" else send(index)
            values = values.index_select(axis, index)
    return values


def _filled(values: Tensor, box: Box, fill: int) -> Tensor:
    """Return a box of values, `fill` where it overhangs."""
    inside = tuple(
        slice(max(low, 0), max(min(high, n), 0, low))
        for (low, high), n in zip(box, values.shape, strict=True)
    )
    if all(part == slice(*limits) for part, limits in zip(inside, box, strict=True)):
        return values[inside]
    filled = values.new_full([high - low for low, high in box], fill)
    target = tuple(
        slice(part.start - low, part.stop - low) for part, (low, _) in zip(inside, box, strict=True)
    )
    filled[target] = values[inside]
    return filled

"""The changes of a whole training batch on the training device.

Workers draw and read as for themselves (`autoseg.augment.augment`), but pack what they read in a
few buffers instead of changing it; the device unpacks and changes. Nothing here waits for a device.

Images and labels equal the processor's but for the order of sums; the values of noise are the
device's own, of the same distribution and as reproducible.

Letters in shapes: B batch, C channels, P patch axes, S axes of a source box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.augment.augment import Augmentation, Sample
from autoseg.augment.device_cut import Cut
from autoseg.augment.device_intensity import Send, change_intensities
from autoseg.augment.device_warp import WarpTables, warp_tables
from autoseg.augment.mixing import Donor, Piece


@final
@dataclass(frozen=True)
class CutSample:
    """One sample of a batch whose case lies on the device."""

    augmentation: Augmentation
    cut: Cut
    donors: tuple[Donor | None, ...] = ()
    """One for each of the augmentation's `mixes`."""


@final
@dataclass(frozen=True)
class Packed:
    """A batch before its changes; it can be applied again and again."""

    voxels: Tensor
    """(n,) float32, images of the samples that are not cut on the device, then of all pieces of
    donors, one after another."""
    labels: Tensor
    """(n,) int16, in the same order; those of a previous stage after the sample's own."""
    masks: Tensor
    """(n,) bool, of the pieces."""
    shapes: tuple[tuple[int, ...], ...]
    """(C, *S) of each image in `voxels`."""
    cuts: tuple[Cut | None, ...]
    """Of each sample that is cut on the device."""
    augmentations: tuple[Augmentation, ...]
    warps: tuple[WarpTables | None, ...]
    pieces: tuple[tuple[int, tuple[slice, ...]], ...]
    """To which sample each piece belongs, and where in its patch."""
    patch_size: tuple[int, ...]
    masked_channels: tuple[int, ...]
    stages: tuple[int, ...] = ()
    """(2,) where the labels (2, *S) of each sample come with what a previous stage found."""

    def apply(self, send: Send) -> tuple[Tensor, Tensor]:
        """Return images (B, C, *P) float32 and labels (B, *P) int16, changed on a device.

        With those of a previous stage, labels (B, 2, *P).

        Parameters
        ----------
        send
            Copies a tensor to that device, without waiting for it.
        """
        images, labels = self._patches(send)
        outside = [(channel, images[:, channel] == 0) for channel in self.masked_channels]
        change_intensities(images, [item.transforms for item in self.augmentations], send)
        for channel, is_outside in outside:
            images[:, channel].masked_fill_(is_outside, 0)
        for item, image, mask in zip(self.augmentations, images, labels, strict=True):
            for channel in item.missing:
                image[channel].fill_(torch.nan)
            _swap_and_mirror(item, image, mask)
        return images, labels

    def _patches(self, send: Send) -> tuple[Tensor, Tensor]:
        """Return images and labels, warped, with what they take of donors."""
        sent, known = send(self.voxels), send(self.labels)
        packed = iter(
            (voxels.view(shape), labels.view(*self.stages, *shape[1:]))
            for voxels, labels, shape in zip(
                sent.split([_size(shape) for shape in self.shapes]),
                known.split([_size((*self.stages, *shape[1:])) for shape in self.shapes]),
                self.shapes,
                strict=True,
            )
        )
        sources = [next(packed) if cut is None else cut.apply(send) for cut in self.cuts]
        images = sent.new_empty((len(sources), len(sources[0][0]), *self.patch_size))
        labels = known.new_empty((len(sources), *self.stages, *self.patch_size))
        for index, (warp, (image, mask)) in enumerate(zip(self.warps, sources, strict=True)):
            if warp is not None:
                image, mask = warp.sent(send).apply(image, mask)
            images[index], labels[index] = image, mask
        self._paste(images, labels, list(packed), send)
        return images, labels

    def _paste(
        self,
        images: Tensor,
        labels: Tensor,
        donors: Sequence[tuple[Tensor, Tensor]],
        send: Send,
    ) -> None:
        """Put each piece into its patch."""
        sizes = [image[0].numel() for image, _ in donors]
        masks = send(self.masks).split(sizes) if donors else ()
        for (index, box), (image, known), flat in zip(self.pieces, donors, masks, strict=True):
            mask = flat.view(image.shape[1:])
            target, target_labels = images[index][(..., *box)], labels[index][(..., *box)]
            target.copy_(torch.where(mask, image, target))
            target_labels.copy_(torch.where(mask, known, target_labels))


def pack(
    samples: Sequence[Sample | CutSample],
    patch_size: Sequence[int],
    *,
    masked_channels: Sequence[int],
    kind: str,
) -> Packed:
    """Return a batch as it is read, for changes on a device.

    Parameters
    ----------
    samples
        Drawn, and read where the device does not cut them. Labels of a previous stage are changed.
    patch_size
        (*P).
    masked_channels
        Channels in which zero means outside the image's nonzero region, and stays zero.
    kind
        Of the device. For CUDA the buffers lie in pinned memory, so that copies do not wait.
    """
    pieces = [
        (index, mix.cut(donor))
        for index, sample in enumerate(samples)
        for mix, donor in zip(sample.augmentation.mixes, sample.donors, strict=True)
        if donor is not None
    ]
    read = [item for item in samples if isinstance(item, Sample)]
    for item in read:
        item.augmentation.change_previous(item.labels)
    parts = [*read, *(piece for _, piece in pieces)]
    return Packed(
        voxels=_joined([part.image for part in parts], torch.float32, kind),
        labels=_joined([part.labels for part in parts], torch.int16, kind),
        masks=_joined([_mask(piece) for _, piece in pieces], torch.bool, kind),
        shapes=tuple(part.image.shape for part in parts),
        cuts=tuple(item.cut if isinstance(item, CutSample) else None for item in samples),
        augmentations=tuple(sample.augmentation for sample in samples),
        warps=tuple(warp_tables(sample.augmentation.warp, patch_size) for sample in samples),
        pieces=tuple((index, piece.box) for index, piece in pieces),
        patch_size=tuple(patch_size),
        masked_channels=tuple(masked_channels),
        stages=read[0].labels.shape[: read[0].labels.ndim - len(patch_size)] if read else (),
    )


def _swap_and_mirror(drawn: Augmentation, image: Tensor, labels: Tensor) -> None:
    """Reverse the drawn axes of an image (C, *P) and its labels, and swap paired classes."""
    for side in drawn.sides:
        before = labels.clone()
        for first, second in side.pairs:
            labels.masked_fill_(before == first, second)
            labels.masked_fill_(before == second, first)
    axes = [axis - (image.ndim - 1) for axis in drawn.mirrored_axes]
    if axes:
        image.copy_(image.flip(axes))
        labels.copy_(labels.flip(axes))


def _joined(arrays: Sequence[NDArray], dtype: torch.dtype, kind: str) -> Tensor:
    """Return the values of arrays one after another."""
    total = sum(array.size for array in arrays)
    joined = torch.empty(total, dtype=dtype, pin_memory=kind == "cuda")
    filled = joined.numpy()
    first = 0
    for array in arrays:
        filled[first : first + array.size].reshape(array.shape)[...] = array
        first += array.size
    return joined


def _mask(piece: Piece) -> NDArray[np.bool_]:
    """Return the voxels (*box) that a piece takes."""
    return np.ones(piece.image.shape[1:], np.bool_) if piece.mask is None else piece.mask


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape))

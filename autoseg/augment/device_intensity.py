"""The changes of intensity of `autoseg.augment.intensity` by torch, a whole batch at once.

The same formulas on any device. What one change does to several channels of several patches is one
operation on the rows of a table; parameters are copied there without waiting for the device.

Letters in shapes: B patches, C channels, P axes of the patch, R rows: channels that are changed.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.augment.intensity import (
    TINY,
    Blur,
    Brightness,
    Contrast,
    Gamma,
    LowResolution,
    Noise,
    Transform,
    blur_kernel,
    linear_positions,
    nearest_positions,
)
from autoseg.augment.padding import mirrored

Send = Callable[[Tensor], Tensor]
"""Returns a tensor on the device, without waiting for it."""


def change_intensities(images: Tensor, drawn: Sequence[Sequence[Transform]], send: Send) -> None:
    """Change images (B, C, *P) in place, each by its own transforms in their order.

    Parameters
    ----------
    images
        Contiguous.
    drawn
        The transforms of each image.
    send
        Copies parameters to the device of `images`.
    """
    waiting = [list(transforms) for transforms in drawn]
    unknown = {type(item) for row in waiting for item in row} - {Noise, *CHANGES}
    if unknown:
        raise ValueError(f"no form for devices: {unknown}")
    while any(waiting):  # once, unless a patch is changed in another order than the usual
        _add_noise(images, _firsts(waiting, Noise))
        for kind, change in CHANGES.items():
            _change_rows(images, _firsts(waiting, kind), change, send)


def _firsts(waiting: Sequence[list[Transform]], kind: type) -> dict[int, Any]:
    """Take the transforms of a kind away that are the next of their image."""
    return {
        index: row.pop(0) for index, row in enumerate(waiting) if row and isinstance(row[0], kind)
    }


def _add_noise(images: Tensor, drawn: Mapping[int, Noise]) -> None:
    """Add normal noise; its values are the device's own for the seed, not the processor's."""
    for index, noise in drawn.items():
        generator = torch.Generator(images.device).manual_seed(noise.seed)
        values = torch.randn(images[index].shape, generator=generator, device=images.device)
        images[index].add_(values, alpha=noise.std)


class _Change(NamedTuple):
    """How a kind of transform changes single channels."""

    parameters: Callable[[Any], Sequence[Any]]
    """Of each channel; an empty one leaves it as it is."""
    apply: Callable[[Tensor, Sequence[Any], Send], Tensor]
    """From rows (R, *P), which it may change, and their parameters, the new rows."""


def _change_rows(
    images: Tensor, drawn: Mapping[int, Transform], change: _Change, send: Send
) -> None:
    """Change the channels which one kind of transform is about."""
    found = {
        index * images.shape[1] + channel: parameter
        for index, transform in drawn.items()
        for channel, parameter in enumerate(change.parameters(transform))
        if parameter != ()
    }
    if not found:
        return
    rows = send(torch.tensor(list(found)))
    table = images.view(-1, *images.shape[2:])  # (B C, *P)
    changed = change.apply(table.index_select(0, rows), list(found.values()), send)
    table.index_copy_(0, rows, changed)


def _scaled(rows: Tensor, factors: Sequence[float], send: Send) -> Tensor:
    return rows.mul_(_column(factors, rows, send))


def _contrasted(rows: Tensor, factors: Sequence[float], send: Send) -> Tensor:
    mean, lowest, highest = _mean(rows), *_range(rows)
    rows.sub_(mean).mul_(_column(factors, rows, send)).add_(mean)
    return rows.clamp_(lowest, highest)


def _curved(rows: Tensor, curves: Sequence[tuple[float, int]], send: Send) -> Tensor:
    exponents, signs = (_column(values, rows, send) for values in zip(*curves, strict=True))
    mean = _mean(rows)
    spread = _deviation(rows - mean)
    lowest, highest = _range(rows)
    rows.sub_(torch.where(signs > 0, lowest, highest))
    rows.mul_(signs / (highest - lowest).clamp_min(TINY)).pow_(exponents)
    rows.sub_(_mean(rows))
    return rows.mul_(signs * spread / _deviation(rows).clamp_min(TINY)).add_(mean)


def _blurred(rows: Tensor, sigmas: Sequence[Sequence[float]], send: Send) -> Tensor:
    """Correlate each row with its own kernels, the shorter ones filled up with zeros."""
    for axis in range(1, rows.ndim):
        kernels = [blur_kernel(sigma[axis - 1]) for sigma in sigmas]
        reach, n = max(len(kernel) for kernel in kernels) // 2, rows.shape[axis]
        wide = rows.index_select(axis, send(_tensor(mirrored(np.arange(-reach, n + reach), n))))
        filled = [np.pad(kernel, reach - len(kernel) // 2) for kernel in kernels]
        weights = [_column(values, rows, send) for values in np.stack(filled, axis=1)[: reach + 1]]
        rows.mul_(weights[reach])
        for offset in range(reach):
            pair = wide.narrow(axis, offset, n) + wide.narrow(axis, 2 * reach - offset, n)
            rows.addcmul_(pair, weights[offset])
    return rows


def _coarsened(rows: Tensor, scales: Sequence[Sequence[float]], send: Send) -> Tensor:
    """Make each row smaller and larger again, one axis after the other.

    Neither concerns another axis, so both are done at once: along an axis each voxel lies between
    two of those that the smaller row keeps.
    """
    for axis in range(1, rows.ndim):
        n = rows.shape[axis]
        sizes = [round(n * scale[axis - 1]) for scale in scales]
        if all(size == n for size in sizes):
            continue
        tables = [_kept_positions(n, size) for size in sizes]
        low, high, weight = (
            _lines(np.stack(lines), axis, rows, send) for lines in zip(*tables, strict=True)
        )
        below = rows.gather(axis, low.expand_as(rows))
        rows = torch.lerp(below, rows.gather(axis, high.expand_as(rows)), weight)
    return rows


def _kept_positions(
    n: int, size: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return between which of the `size` of `n` voxels that are kept each voxel lies."""
    kept = nearest_positions(n, size)
    low, high, weight = linear_positions(size, n)
    return kept[low], kept[high], weight


CHANGES = MappingProxyType(
    {
        Blur: _Change(lambda transform: transform.sigmas, _blurred),
        Brightness: _Change(lambda transform: transform.factors, _scaled),
        Contrast: _Change(lambda transform: transform.factors, _contrasted),
        LowResolution: _Change(lambda transform: transform.scales, _coarsened),
        Gamma: _Change(
            lambda transform: [(exponent, transform.sign) for exponent in transform.exponents],
            _curved,
        ),
    }
)
"""In the order in which they are drawn, noise before them."""


def _column(values: Sequence[float] | NDArray[np.floating], rows: Tensor, send: Send) -> Tensor:
    """Return one value for each row, as an array that can be multiplied with rows (R, *P)."""
    column = send(torch.as_tensor(values, dtype=torch.float32))
    return column.view(-1, *(1,) * (rows.ndim - 1))


def _lines(values: NDArray, axis: int, rows: Tensor, send: Send) -> Tensor:
    """Return (R, n) as an array of as many axes as `rows` that varies along one of them."""
    shape = [n if index in (0, axis) else 1 for index, n in enumerate(rows.shape)]
    return send(_tensor(values)).view(shape)


def _tensor(values: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def _axes(rows: Tensor) -> tuple[int, ...]:
    return tuple(range(1, rows.ndim))


def _mean(rows: Tensor) -> Tensor:
    return rows.mean(_axes(rows), keepdim=True)


def _range(rows: Tensor) -> tuple[Tensor, Tensor]:
    return rows.amin(_axes(rows), keepdim=True), rows.amax(_axes(rows), keepdim=True)


def _deviation(centred: Tensor) -> Tensor:
    """Return the standard deviation, of n - 1, of rows whose means are 0."""
    count = max(centred[0].numel() - 1, 1)
    return centred.square().sum(_axes(centred), keepdim=True).div_(count).sqrt_()

"""Tiles of an image through a network: several at once, and those without content only once.

Letters in shapes: B tiles in a batch, C channels, K classes, P axes of the network (the patch).
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .row_window import RowSource

Network: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(B, C, *P) -> (B, K, *P) logits; P is smaller by a margin at each side if the tiling says so."""

Job: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""First voxel of a tile, and the axes of the patch along which it is mirrored."""

MAX_KEPT_BYTES = 1 << 26
"""Logits of a tile without content are kept up to this size; larger ones are computed again."""


@dataclass(frozen=True)
class _Waiting:
    """A tile whose turn has not come."""

    job: Job
    values: tuple[float, ...] | None
    """Of a tile without content, one a channel."""
    logits: NDArray[np.float32] | None
    """None: the network has to see it, unless it is skipped."""
    skipped: bool = False


def predict_tiles(
    full: NDArray | RowSource,
    jobs: Iterable[Job],
    network: Network,
    *,
    patch_size: Sequence[int],
    batch_size: int,
    labels: NDArray[np.integer] | None = None,
    skipped: Container[tuple[int, ...]] = (),
) -> Iterator[tuple[Job, NDArray[np.float32] | None]]:
    """Yield jobs in their order with the logits (K, *P) of the tiles as mirrored.

    Where all channels of a tile are constant it looks like every other tile of these constants,
    mirrored or not: the surroundings of what was scanned consist of them, and the network is
    asked once.

    Parameters
    ----------
    labels
        With the axes of an image in `full`: the network gets them as the last channel.
    skipped
        First voxels of tiles that are not looked at: None in place of their logits.
    """
    waiting: list[_Waiting] = []
    tiles: list[NDArray] = []
    kept: dict[tuple[float, ...], NDArray[np.float32]] = {}
    for job in jobs:
        if job[0] in skipped:
            waiting.append(_Waiting(job, None, None, skipped=True))
            continue
        tile = _read(full, job, patch_size)
        if labels is not None:
            tile = np.concatenate([tile, _read(labels[None], job, patch_size)], dtype=np.float32)
        values = _only_values(tile)
        known = None if values is None else kept.get(values)
        waiting.append(_Waiting(job, values, known))
        if known is None:
            tiles.append(tile)
        if len(tiles) == batch_size:
            yield from _run(waiting, tiles, network, kept)
            waiting, tiles = [], []
    yield from _run(waiting, tiles, network, kept)


def _read(full: NDArray | RowSource, job: Job, patch_size: Sequence[int]) -> NDArray:
    """Return a view of what the network sees for a job: (C, *P).

    A tile begins in `full` where it begins in the image, because both lack or have its margins.
    """
    start, flip = job
    read = (1,) * (full.ndim - 1 - len(patch_size)) + tuple(patch_size)
    place = tuple(slice(first, first + size) for first, size in zip(start, read, strict=True))
    tile = full[(slice(None), *place)].reshape(-1, *patch_size)
    return np.flip(tile, tuple(axis + 1 for axis in flip))


def _only_values(tile: NDArray) -> tuple[float, ...] | None:
    """Return the value of each channel of a tile (C, *P) if there is only one, else None."""
    values = tuple(float(channel.flat[0]) for channel in tile)
    for channel, value in zip(tile, values, strict=True):
        # Row by row: a tile with content is told by the first.
        for part in channel if channel.ndim > 1 else (channel,):
            if (part != value).any():
                return None
    return values


def _run(
    waiting: Sequence[_Waiting],
    tiles: Sequence[NDArray],
    network: Network,
    kept: dict[tuple[float, ...], NDArray[np.float32]],
) -> Iterator[tuple[Job, NDArray[np.float32] | None]]:
    results = iter(network(_stack(tiles)) if tiles else ())
    for item in waiting:
        if item.skipped:
            yield item.job, None
            continue
        logits = next(results) if item.logits is None else item.logits
        if item.logits is None and item.values is not None and logits.nbytes <= MAX_KEPT_BYTES:
            kept.clear()
            kept[item.values] = logits.copy()
        yield item.job, logits


def _stack(tiles: Sequence[NDArray]) -> NDArray[np.float32]:
    batch = np.empty((len(tiles), *tiles[0].shape), dtype=np.float32)
    for index, tile in enumerate(tiles):
        batch[index] = tile
    return batch

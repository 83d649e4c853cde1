"""Sliding-window prediction: a network that takes patches, made to take a whole image.

Letters in shapes: C channels, K classes, R rows of the image's first axis, S' axes of the prepared
image. Leading image axes that the network lacks are gone through slice by slice.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .batches import Job, predict_tiles
from .batches import Network as Network
from .cascade import Previous
from .row_window import RowSource
from .scratch import IN_MEMORY, Scratch
from .sums import Area, Rows, Sums, Weights
from .tiles import Centre, fill_up, tile_starts

MIN_VOXELS = 1 << 20
"""Sums of at least this many voxels a class are held: small images are blended in one piece."""
FLOAT = 4
"""Bytes of a sum."""
MAX_WORK = 1.5
"""Tiles at the border of two bands are computed for both: at most so many times the work."""

_Tile: TypeAlias = tuple[Job, NDArray[np.float32] | None]
"""What is asked for, and its logits (K, *P) unless it is skipped."""

Split: TypeAlias = Callable[[int], Sequence[tuple[int, int]]]
"""From a number of bands to the range of each along the image's second axis. They may overlap; each
begins after the one before it."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How an image is cut into tiles, and how often each is predicted."""

    overlap: float
    """Fraction of a tile shared with the next one."""
    padding: Literal["mirror", "zero"]
    """How an image smaller than the patch is filled up."""
    pad_values: tuple[float, ...]
    """What `zero` fills in, one value a channel: 0 for normalised input, the mean for raw input."""
    mirror_axes: tuple[int, ...]
    """Axes of the patch along which mirrored tiles are predicted too; empty for none."""
    batch_size: int
    """Most tiles that the network gets at once."""
    margins: tuple[int, ...] = ()
    """Voxels of a patch that the network sees at each side but does not predict, per axis; the
    image is filled up by them. Empty for none."""
    centre: Centre = "middle"
    """Where a tile counts most."""


def blend(
    array: NDArray,
    network: Network,
    patch_size: Sequence[int],
    *,
    tiling: Tiling,
    previous: Previous | None = None,
) -> NDArray[np.float32]:
    """Return logits (K, *S') of a whole prepared image (C, *S').

    Overlapping tiles are averaged with Gaussian weights, mirrored versions equally. For `previous`
    see `blend_rows`.
    """
    out = None
    for rows in blend_rows(array, network, patch_size, tiling=tiling, previous=previous):
        if rows.values.shape[1:] == array.shape[1:]:
            return np.ascontiguousarray(rows.values)
        if out is None:
            out = np.empty((len(rows.values), *array.shape[1:]), dtype=np.float32)
        out[:, rows.start : rows.stop] = rows.values
    assert out is not None  # there is always a tile
    return out


def blend_rows(
    array: NDArray,
    network: Network,
    patch_size: Sequence[int],
    *,
    tiling: Tiling,
    scratch: Scratch = IN_MEMORY,
    previous: Previous | None = None,
    split: Split | None = None,
) -> Iterator[Rows]:
    """Yield what `blend` returns from the first row to the last, as rows are finished.

    Memory does not grow with the first axis: sums of `row_depth` rows are held, in `scratch`. What
    is yielded holds until the next is asked for.

    Parameters
    ----------
    previous
        What the previous stage found: the network gets tiles (B, C+1, *P) whose last channel are
        its labels, 0 where the image is filled up. Tiles that it does not call for count as
        background with certainty.
    split
        Given, the rows of one band come after those of another where memory for sums of whole rows
        does not suffice, and bands are not too much work.
    """
    grid = _lay_out(array, patch_size, tiling, previous)

    def run(starts: Sequence[tuple[int, ...]]) -> Iterator[_Tile]:
        return predict_tiles(
            grid.full,
            itertools.product(starts, grid.flips),
            network,
            patch_size=patch_size,
            batch_size=tiling.batch_size,
            labels=grid.labels,
            skipped=grid.skipped,
        )

    tiles = run(grid.starts)
    first = next(tiles)  # tells how many classes there are, and how much memory the network takes
    count = len(grid.background if first[1] is None else first[1])
    areas = _choose_areas(grid, count, split, scratch)
    if len(areas) > 1:
        batches = (run(_starts_in(area, grid)) for area in areas)
    else:
        batches = iter([_joined([first], tiles)])
    del first, tiles  # a batch of many classes is as large as the sums
    values = scratch.zeros((count, *_largest(areas, grid)), np.float32)
    weigh = Weights(grid.shape, grid.tile, tiling.overlap, tiling.centre, num_flips=len(grid.flips))
    for index, (area, batch) in enumerate(zip(areas, batches, strict=True)):
        if index:
            values[...] = 0
        yield from _blend_area(batch, Sums(values, grid.image, area, scratch), weigh, grid)


def _joined(first: list[_Tile], others: Iterator[_Tile]) -> Iterator[_Tile]:
    """Yield all of them; nothing of `first` is kept (`itertools.chain` would)."""
    yield first.pop()
    yield from others


def _blend_area(
    tiles: Iterable[_Tile],
    sums: Sums,
    weigh: Weights,
    grid: "_Grid",
) -> Iterator[Rows]:
    for (start, flip), logits in tiles:
        if start[0] + grid.tile[0] > sums.stop:
            yield sums.rows(start[0])
            sums.move_to(start[0])
        if logits is None:
            sums.add_constants(grid.background, start, grid.tile, weigh(start))
            continue
        upright = np.flip(logits, tuple(axis + 1 for axis in flip)).reshape(-1, *grid.tile)
        sums.add(upright, start, weigh(start))
        del logits, upright  # before the next batch is computed
    yield sums.rows(grid.shape[0])


@dataclass(frozen=True)
class _Grid:
    """An image, filled up and cut into tiles."""

    full: NDArray | RowSource
    """(C, *S) what the network sees."""
    shape: tuple[int, ...]
    """What the tiles cover."""
    tile: tuple[int, ...]
    image: tuple[slice, ...]
    """Where the image lies in what the tiles cover."""
    starts: list[tuple[int, ...]]
    """First voxel of each tile."""
    flips: list[tuple[int, ...]]
    labels: NDArray[np.integer] | None
    """Of the previous stage, filled up."""
    skipped: frozenset[tuple[int, ...]]
    """First voxels of tiles that are background."""
    background: tuple[float, ...]
    """Their logits (K,)."""


def _lay_out(
    array: NDArray, patch_size: Sequence[int], tiling: Tiling, previous: Previous | None
) -> _Grid:
    axes = array.ndim - 1
    tile = tile_shape(axes, patch_size, tiling)
    margins = (0,) * (axes - len(patch_size)) + (tiling.margins or (0,) * len(patch_size))
    fill = array.filled_up if isinstance(array, RowSource) else partial(fill_up, array)
    full, offset = fill(tile, padding=tiling.padding, values=tiling.pad_values, margins=margins)
    shape = tuple(n - 2 * margin for n, margin in zip(full.shape[1:], margins, strict=True))
    before = [at - margin for at, margin in zip(offset, margins, strict=True)]
    starts = tile_starts(shape, tile, tiling.overlap)
    labels, skipped, background = None, frozenset(), ()
    if previous is not None:
        labels = fill_up(previous.labels[None], tile, padding="zero", values=(0,), margins=margins)
        labels, background = labels[0][0], previous.background
        skipped = _uncalled(previous, starts, tile, before)
    return _Grid(
        full=full,
        shape=shape,
        tile=tile,
        image=tuple(slice(o, o + n) for o, n in zip(before, array.shape[1:], strict=True)),
        starts=starts,
        flips=_subsets(tiling.mirror_axes),
        labels=labels,
        skipped=skipped,
        background=background,
    )


def _choose_areas(grid: _Grid, count: int, split: Split | None, scratch: Scratch) -> list[Area]:
    """Return the areas that are gone through one after the other: the whole, or bands of it."""
    looked_at = [[tuple(slice(0, size) for size in grid.shape[1:])]]

    def sizes() -> Iterator[int]:
        yield count * math.prod(_largest(looked_at[0], grid)) * FLOAT
        for areas in _bands(grid, split) if split is not None else ():
            looked_at.append(areas)
            yield count * math.prod(_largest(areas, grid)) * FLOAT

    return looked_at[scratch.choose(sizes())]


def _bands(grid: _Grid, split: Split) -> Iterator[list[Area]]:
    """Yield an image in 2, 3, ... bands, as many as are not too much work."""
    offset, others = grid.image[1].start, [slice(0, size) for size in grid.shape[2:]]
    columns = {start[1] for start in grid.starts}
    for number in range(2, len(columns) + 1):
        bands = [slice(low + offset, high + offset) for low, high in split(number)]
        work = sum(_meets(start, band, grid) for band in bands for start in columns)
        if work > MAX_WORK * len(columns):
            return
        yield [(band, *others) for band in bands]


def _meets(start: int, columns: slice, grid: _Grid) -> bool:
    """Return whether tiles that begin at a column see others."""
    return start < columns.stop and columns.start < start + grid.tile[1]


def _starts_in(area: Area, grid: _Grid) -> list[tuple[int, ...]]:
    """Return the first voxels of the tiles that a band takes."""
    return [start for start in grid.starts if _meets(start[1], area[0], grid)]


def _largest(areas: Sequence[Area], grid: _Grid) -> tuple[int, ...]:
    """Return the shape (R, ...) of the sums of the largest area."""
    depth = row_depth(grid.shape, grid.tile)
    sizes = zip(*([part.stop - part.start for part in area] for area in areas), strict=True)
    return (depth, *(max(size) for size in sizes))


def _uncalled(
    previous: Previous,
    starts: Sequence[tuple[int, ...]],
    tile: Sequence[int],
    before: Sequence[int],
) -> frozenset[tuple[int, ...]]:
    """Return the first voxels of tiles for which nothing calls; the image begins at `before`."""
    found = set()
    for start in starts:
        first = [at - offset for at, offset in zip(start, before, strict=True)]
        last = [at + size for at, size in zip(first, tile, strict=True)]
        if not previous.calls_for(first, last):
            found.add(start)
    return frozenset(found)


def tile_shape(num_axes: int, patch_size: Sequence[int], tiling: Tiling) -> tuple[int, ...]:
    """Return what the network predicts at once, with as many axes as the image."""
    margins = tiling.margins or (0,) * len(patch_size)
    output = (size - 2 * margin for size, margin in zip(patch_size, margins, strict=True))
    return (*(1,) * (num_axes - len(patch_size)), *output)


def row_depth(shape: Sequence[int], tile: Sequence[int]) -> int:
    """Return of how many rows sums are held, for an image (*S') and tiles with as many axes."""
    return min(shape[0], max(tile[0], MIN_VOXELS // math.prod(shape[1:])))


def _subsets(axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    sizes = range(len(axes) + 1)
    return [subset for size in sizes for subset in itertools.combinations(axes, size)]

"""What predicting an image row by row takes, known beforehand.

Letters in shapes: C channels, S axes of the image, S' of the prepared array.
"""

import math
from dataclasses import dataclass

import numpy as np

from .big_pictures import CUT_BYTES
from .blend import tile_shape
from .manifest import Configuration, Manifest
from .memory import COMPONENT_BYTES, FLOAT, Demand, label_bytes, num_outputs, share_of
from .model import BALANCED, Effort, make_tiling
from .normalise import given_constants
from .prepare import recipe_change
from .prepare_blocks import SLAB_VOXELS as PASS_VALUES
from .restore import SLAB_VOXELS
from .row_window import PIECE_VALUES
from .stream_components import SLAB_VOXELS as COMPONENT_SLAB
from .stream_files import WAITING_BYTES
from .stream_prepare import Levels, choose_level
from .tiff_write import TILE
from .voxels import Voxels

REACH = 16
"""Voxels at each side that a spline reads; see `resample.NEGLIGIBLE`."""
DECODING = 3
"""Copies of what is decoded at once: compressed, as the decoder has it, and as numbers."""


def expected_stream(manifest: Manifest, levels: Levels, effort: Effort = BALANCED) -> Demand:
    """Return what a model takes to predict an image (*S) row by row."""
    image, configurations = levels[0], manifest.configurations
    shape, spacing = image.shape, image.geometry.spacing
    shares = [share_of(item, manifest, shape, spacing, effort) for item in configurations]
    windows = [_windows(levels, item, manifest, effort) for item in configurations]
    row, voxels = math.prod(shape[1:]), math.prod(shape)
    slab = min(max(SLAB_VOXELS, row), voxels)
    several = sum(item.weight > 0 for item in configurations) > 1
    steps = manifest.postprocessing or manifest.smallest
    told = max((item.labels for item in windows), default=0)
    return Demand(
        image=sum(item.raw for item in windows),
        prepared=sum(item.prepared for item in windows),
        preparing=max(item.reading for item in windows),
        labels=slab * 2 * label_bytes(manifest) + _waiting(image, label_bytes(manifest)) + told,
        telling=max(item.telling for item in shares),
        tiles=max(item.tiles for item in shares),
        sums=max(item.sums for item in shares),
        slabs=max(item.slabs for item in shares) + max(item.reading for item in windows),
        chances=voxels * num_outputs(manifest) * FLOAT if several else 0,
        components=min(max(COMPONENT_SLAB, row), voxels) * COMPONENT_BYTES if steps else 0,
    )


def _waiting(image: Voxels, voxel_bytes: int) -> int:
    """Return the bytes of labels that wait for the rest of a file's tiles, or a store's chunks."""
    lines, width = math.prod(image.shape[-2:-1]), image.shape[-1]
    row = math.prod(image.shape[1:]) * voxel_bytes
    chunks = min(image.part_shape[0] * row, max(row, WAITING_BYTES))
    return max(min(TILE, lines) * width * voxel_bytes, chunks)


@dataclass(frozen=True, kw_only=True)
class _Windows:
    """Bytes of what one configuration has of an image at a time."""

    raw: int
    prepared: int
    reading: int
    """Of what is decoded, or looked through for constants, at once."""
    labels: int
    """Of the stage before, on this one's grid."""


def _windows(levels: Levels, item: Configuration, manifest: Manifest, effort: Effort) -> _Windows:
    image, recipe = levels[0], item.recipe
    level, channels = choose_level(levels, recipe), levels[0].num_channels
    old = [level.shape[axis] for axis in recipe.transpose]
    whole = [image.shape[axis] for axis in recipe.transpose]
    new = recipe_change(whole, image.geometry.spacing, recipe).new_shape
    tiling = make_tiling(item, np.zeros(channels, np.float32), effort)
    margin = 2 * tiling.margins[0] if len(tiling.margins) == len(old) else 0
    depth = min(new[0], tile_shape(len(old), item.patch_size, tiling)[0] + margin)
    step = min(level.part_shape[recipe.transpose[0]], old[0])
    row = channels * math.prod(old[1:])
    changes = tuple(old) != tuple(new)
    piece = max(1, PIECE_VALUES // (channels * math.prod(new[1:])))
    needed = math.ceil(min(piece, depth) * old[0] / new[0]) + 2 * REACH if changes else depth
    open_constants = any(given_constants(channel) is None for channel in recipe.channels)
    looked = max(1, PASS_VALUES // row) if open_constants or changes else 1
    held = min(old[0], max(needed, looked) + 2 * step)
    size = level.dtype.itemsize
    resampling = 2 * min(piece, depth) * channels * math.prod(new[1:]) * FLOAT if changes else 0
    decoded = DECODING * max(CUT_BYTES, min(held, max(step, PIECE_VALUES // row)) * row * size)
    told = math.prod(new) * label_bytes(manifest) if item.previous is not None else 0
    return _Windows(
        raw=held * row * size,
        prepared=(depth + 1) * channels * math.prod(new[1:]) * FLOAT if changes else 0,
        reading=decoded + resampling,
        labels=told,
    )

"""An artifact as a function from an image to its labels.

Letters in shapes: B tiles in a batch, C channels, K classes, P axes of the patch, S axes of the
image.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from .blend import Network, Rows, Tiling, blend, blend_rows
from .checks import check_image, check_range, check_unit
from .images import Image, read_image, read_labels, smallest_type
from .manifest import INPUTS, Configuration, Manifest, check_file, load_manifest
from .missing import mark_missing, with_places
from .postprocess import apply_steps, remove_small
from .prepare import Prepared, prepare
from .processors import usable_cpus
from .recipe import Recipe
from .restore import SLAB_VOXELS, add_probabilities, decide_labels, restore_rows
from .scratch import IN_MEMORY, Scratch

BATCH_VOXELS = 1 << 16
"""Small tiles go through the network together up to this many voxels: each call costs something."""


class TileNetwork(Protocol):
    """The exported graph: tiles with their constants in, logits out."""

    def __call__(
        self, tile: NDArray[np.float32], mean: NDArray[np.float32], std: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return logits (B, K, *P) of (B, C, *P), (B, C) and (B, C)."""
        ...


OpenNetwork = Callable[[Path, Manifest, Configuration], TileNetwork]
"""From an artifact's folder to the network of one of its configurations."""


@dataclass(frozen=True)
class Effort:
    """How much is computed for each image."""

    max_overlap: float
    """Tiles overlap as planned, but at most this much."""
    mirroring: Literal["never", "planned", "always"]
    """Whether predictions of mirrored tiles are averaged."""

    def mirror_axes(self, recipe: Recipe) -> tuple[int, ...]:
        """Return the axes of the patch along which tiles are mirrored."""
        mirrored = {"never": False, "planned": recipe.test_time_mirroring, "always": True}
        return recipe.mirror_axes if mirrored[self.mirroring] else ()


FAST = Effort(0.25, "never")
BALANCED = Effort(1.0, "planned")
ACCURATE = Effort(1.0, "always")
EFFORTS = {"fast": FAST, "balanced": BALANCED, "accurate": ACCURATE}


@dataclass(frozen=True)
class Prediction:
    """Labels (*S) in the user's values, and probabilities (K, *S) if asked for."""

    labels: NDArray[np.integer]
    probabilities: NDArray[np.float16] | None


def open_onnx(
    folder: Path, manifest: Manifest, configuration: Configuration, num_threads: int = 0
) -> TileNetwork:
    """Return the ONNX network of a configuration on the CPU; 0 threads are all processors."""
    import onnxruntime

    path = check_file(folder, manifest, configuration.onnx)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or usable_cpus()
    # An arena keeps the peak of every tile for good; without it memory goes back after each.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(tile: NDArray, mean: NDArray, std: NDArray) -> NDArray[np.float32]:
        feed = dict(zip(INPUTS, (tile, mean, std), strict=True))
        return np.asarray(session.run([configuration.output], feed)[0])

    return run


class Model:
    """An artifact, ready to predict.

    Parameters
    ----------
    folder
        The artifact: the folder `model` of a workspace, or an unzipped model.zip.
    open_network
        How the networks are opened; onnxruntime by default.
    """

    def __init__(self, folder: Path, open_network: OpenNetwork = open_onnx) -> None:
        self.folder = folder
        self.manifest = load_manifest(folder)
        self.networks = tuple(
            open_network(folder, self.manifest, item) for item in self.manifest.configurations
        )

    def prepare(self, image: Image, missing: Sequence[int] = ()) -> list[Prepared]:
        """Return an image as each configuration takes it; it need not hold `missing` channels.

        Raises
        ------
        AutosegError
            Wrong number of axes or channels, values that are not finite, another unit of time, or
            0 to 1 where a pretrained encoder knows 0 to 255.
        """
        if missing:
            image = with_places(image, missing, len(self.manifest.channels))
        check_image(image, len(self.manifest.channels), self.manifest.dimensions)
        check_unit(image, self.manifest.unit)
        for item in self.manifest.configurations:
            check_range(image, item.recipe.channels)
        spacing = image.geometry.spacing
        recipes = [item.recipe for item in self.manifest.configurations]
        parts = [prepare(image.array, spacing, recipe) for recipe in recipes]
        return [mark_missing(part, missing) for part in parts] if missing else parts

    def predict_image(
        self,
        image: Image,
        effort: Effort = BALANCED,
        *,
        probabilities: bool = False,
        scratch: Scratch = IN_MEMORY,
    ) -> Prediction:
        """Return the labels of an image on its own grid."""
        parts = self.prepare(image)
        return self.predict_prepared(parts, effort, probabilities=probabilities, scratch=scratch)

    def predict_prepared(
        self,
        parts: list[Prepared],
        effort: Effort,
        *,
        probabilities: bool,
        scratch: Scratch = IN_MEMORY,
    ) -> Prediction:
        """Return the labels of an image that `prepare` returned; empties `parts` on the way."""
        decision, offsets = self.manifest.configurations[0].decision, self.manifest.offsets
        voxel_size = parts[0].voxel_size
        if len(parts) == 1:
            placement = parts[0].placement
            stream = self._rows(0, parts, effort, scratch)
            classes, chances = restore_rows(
                stream, placement, decision, offsets, scratch=scratch, probabilities=probabilities
            )
        else:
            total = self._combine(parts, effort, scratch)
            classes = decide_labels(total, decision, offsets)
            chances = _half(total, scratch) if probabilities else None
            del total
        classes = apply_steps(classes, self.manifest.postprocessing)
        classes = remove_small(classes, self.manifest.smallest, voxel_size)
        return Prediction(_in_values(classes, self.manifest.labels.values), chances)

    def _rows(
        self, index: int, parts: list[Prepared], effort: Effort, scratch: Scratch
    ) -> Iterator[Rows]:
        """Yield the logits of a configuration for the first of `parts`, which is taken out."""
        configuration = self.manifest.configurations[index]
        part = parts.pop(0)
        network, tiling = tile_runner(part, configuration, self.networks[index], effort)
        yield from blend_rows(
            part.array, network, configuration.patch_size, tiling=tiling, scratch=scratch
        )

    def _combine(
        self, parts: list[Prepared], effort: Effort, scratch: Scratch
    ) -> NDArray[np.float32]:
        """Return the weighted mean of all configurations' probabilities, on the image's grid."""
        total = None
        for index, configuration in enumerate(self.manifest.configurations):
            placement = parts[0].placement
            total = add_probabilities(
                total,
                self._rows(index, parts, effort, scratch),
                placement,
                configuration.decision,
                weight=configuration.weight,
                scratch=scratch,
            )
        assert total is not None  # a manifest has at least one configuration
        return total

    def verify(self) -> float | None:
        """Return the label agreement with the artifact's verification case; None without one."""
        case = self.manifest.verification
        if case is None:
            return None
        paths = [check_file(self.folder, self.manifest, name) for name in case.images]
        expected = read_labels(check_file(self.folder, self.manifest, case.expected)).array[0]
        labels = self.predict_image(read_image(paths), BALANCED).labels
        return float((labels == expected).mean())


def _half(chances: NDArray[np.float32], scratch: Scratch) -> NDArray[np.float16]:
    out = scratch.zeros(chances.shape, np.float16)
    for target, values in zip(out, chances, strict=True):
        target[...] = values
        scratch.forget()
    return out


def _in_values(classes: NDArray[np.integer], values: Sequence[int]) -> NDArray[np.integer]:
    """Return the values in the user's files of class indices (*S)."""
    table = np.asarray(values)
    table = table.astype(smallest_type(table))
    out = np.empty(classes.shape, dtype=table.dtype)
    depth = max(1, SLAB_VOXELS // max(1, math.prod(out.shape[1:])))
    for start in range(0, len(out), depth):  # an index takes eight bytes
        rows = slice(start, start + depth)
        out[rows] = table[classes[rows]]
    return out


def make_tiling(
    configuration: Configuration, mean: NDArray[np.float32], effort: Effort = BALANCED
) -> Tiling:
    """Return how an image with channel means `mean` is cut into tiles."""
    recipe = configuration.recipe
    return Tiling(
        overlap=min(recipe.overlap, effort.max_overlap),
        padding=recipe.padding,
        pad_values=tuple(float(value) for value in mean),
        mirror_axes=effort.mirror_axes(recipe),
        batch_size=max(1, BATCH_VOXELS // math.prod(configuration.patch_size)),
        margins=configuration.output_margin,
        centre=configuration.tile_centre,
    )


def tile_runner(
    part: Prepared, configuration: Configuration, network: TileNetwork, effort: Effort
) -> tuple[Network, Tiling]:
    """Return a function from tiles of a prepared image to logits, and how to cut the tiles."""

    def run(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        mean, std = (np.tile(item, (len(tiles), 1)) for item in (part.mean, part.std))
        return network(tiles, mean, std)

    return run, make_tiling(configuration, part.mean, effort)


def predict_logits(
    part: Prepared, configuration: Configuration, network: TileNetwork, effort: Effort = BALANCED
) -> NDArray[np.float32]:
    """Return blended logits (K, *S') of a prepared image."""
    run, tiling = tile_runner(part, configuration, network, effort)
    return blend(part.array, run, configuration.patch_size, tiling=tiling)

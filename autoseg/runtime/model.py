"""An artifact as a function from an image to its labels.

Letters in shapes: B tiles in a batch, C channels, K classes, P axes of the patch, S axes of the
image.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from .blend import Network, Rows, Tiling, blend, blend_rows
from .cascade import find_previous, with_one_hot
from .checks import check_image, check_range, check_unit
from .images import Image, read_image, read_labels, smallest_type
from .manifest import INPUTS, Configuration, Manifest, check_file, load_manifest
from .missing import mark_missing, with_places
from .postprocess import apply_steps, remove_small
from .prepare import Prepared, prepare
from .processors import usable_cpus
from .recipe import Recipe
from .restore import (
    MAX_UINT8_CLASSES,
    add_probabilities,
    box_of,
    decide_labels,
    decide_slabs,
    restore_rows,
    slab_rows,
)
from .row_window import RowSource
from .scratch import IN_MEMORY, Scratch
from .slabs import split_columns

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
        passes = Passes(self, parts, effort, scratch)
        *others, _ = self.manifest.configurations
        if not any(item.weight for item in others):
            for _ in others:
                passes.find()
            placement = parts[0].placement
            classes, chances = restore_rows(
                passes.rows(),
                placement,
                decision,
                offsets,
                scratch=scratch,
                probabilities=probabilities,
            )
        else:
            total = passes.combine()
            classes = decide_labels(total, decision, offsets, scratch=scratch)
            chances = _half(total, scratch) if probabilities else None
            del total
        classes = apply_steps(classes, self.manifest.postprocessing)
        classes = remove_small(classes, self.manifest.smallest, voxel_size)
        return Prediction(_in_values(classes, self.manifest.labels.values), chances)

    def verify(self) -> float | None:
        """Return the label agreement with the artifact's verification case; None without one."""
        case = self.manifest.verification
        if case is None:
            return None
        paths = [check_file(self.folder, self.manifest, name) for name in case.images]
        expected = read_labels(check_file(self.folder, self.manifest, case.expected)).array[0]
        labels = self.predict_image(read_image(paths), BALANCED).labels
        return float((labels == expected).mean())


class Passes:
    """The configurations of a model over one image, one after the other, in the manifest's order.

    Parameters
    ----------
    parts
        The image as each takes it; emptied on the way.
    """

    def __init__(
        self, model: Model, parts: list[Prepared], effort: Effort, scratch: Scratch
    ) -> None:
        self._left = list(zip(model.manifest.configurations, model.networks, strict=True))
        self._num_classes = len(model.manifest.labels.values)
        self._parts = parts
        self._effort = effort
        self._scratch = scratch
        self._found: dict[str, NDArray[np.integer]] = {}
        """Class indices (*S) that configurations still to come are to see, by who found them."""

    def rows(self) -> Iterator[Rows]:
        """Yield the logits of the next configuration."""
        configuration, open_network = self._left.pop(0)
        part = self._parts.pop(0)
        if configuration.previous is not None:
            part = self._told(part, configuration, configuration.previous)
        network, tiling = tile_runner(part, configuration, open_network, self._effort)
        in_rows = isinstance(part.array, RowSource)  # each band would read all of the file
        yield from blend_rows(
            part.array,
            network,
            configuration.patch_size,
            tiling=tiling,
            scratch=self._scratch,
            previous=part.previous,
            split=None if in_rows else partial(split_columns, part.placement),
        )

    def _told(self, part: Prepared, configuration: Configuration, previous: str) -> Prepared:
        """Return a prepared image with what the previous stage found in it."""
        labels = self._found[previous]
        if not self._is_followed(previous):
            del self._found[previous]
        return replace(
            part,
            previous=find_previous(
                labels,
                part.placement,
                configuration.recipe,
                part.spacing,
                num_classes=self._num_classes,
                margin=configuration.region_margin,
                scratch=self._scratch,
            ),
        )

    def _is_followed(self, name: str) -> bool:
        return any(item.previous == name for item, _ in self._left)

    def find(self, labels: NDArray | None = None) -> None:
        """Run the next configuration for those that follow it alone.

        Parameters
        ----------
        labels
            (*S) background, which the classes found are written to; None: an array in memory.
        """
        name, placement = self._left[0][0].name, self._parts[0].placement
        if labels is None:
            labels, _ = restore_rows(self.rows(), placement, scratch=self._scratch)
        else:
            box, kind = box_of(labels, placement), labels.dtype.type
            for place, found in decide_slabs(self.rows(), placement, kind, scratch=self._scratch):
                box[place] = found
        self._found[name] = labels

    def combine(self) -> NDArray[np.float32]:
        """Return the weighted mean of all configurations' probabilities (K, *S)."""
        total = None
        while self._left:
            configuration, placement = self._left[0][0], self._parts[0].placement
            if configuration.weight == 0:
                self.find()
                continue
            if self._is_followed(configuration.name):
                kind = np.uint8 if self._num_classes <= MAX_UINT8_CLASSES else np.uint16
                self._found[configuration.name] = np.zeros(placement.image_shape, kind)
            total = add_probabilities(
                total,
                self.rows(),
                placement,
                configuration.decision,
                weight=configuration.weight,
                labels=self._found.get(configuration.name),
                scratch=self._scratch,
            )
        assert total is not None  # weights sum to 1
        return total


def _half(chances: NDArray[np.float32], scratch: Scratch) -> NDArray[np.float16]:
    out = scratch.zeros(chances.shape, np.float16)
    for target, values in zip(out, chances, strict=True):
        for rows in slab_rows(target.shape):
            target[rows] = values[rows]
            scratch.forget()
    return out


def _in_values(classes: NDArray[np.integer], values: Sequence[int]) -> NDArray[np.integer]:
    """Return the values in the user's files of class indices (*S)."""
    table = values_table(values)
    out = np.empty(classes.shape, dtype=table.dtype)
    for rows in slab_rows(out.shape):  # an index takes eight bytes
        out[rows] = table[classes[rows]]
    return out


def values_table(values: Sequence[int]) -> NDArray[np.integer]:
    """Return (K,): the value in the user's files of each class."""
    table = np.asarray(values)
    return table.astype(smallest_type(table))


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
    """Return a function from tiles of a prepared image to logits, and how to cut the tiles.

    The tiles hold the labels of the previous stage, where there is one, as last channel.
    """
    previous, mean, std = part.previous, part.mean, part.std
    if previous is not None:
        further = np.zeros(previous.num_classes - 1, np.float32)
        mean, std = np.append(mean, further), np.append(std, further + 1)

    def run(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        if previous is not None:
            tiles = with_one_hot(tiles, previous.num_classes)
        return network(tiles, *(np.tile(item, (len(tiles), 1)) for item in (mean, std)))

    return run, make_tiling(configuration, part.mean, effort)


def predict_logits(
    part: Prepared, configuration: Configuration, network: TileNetwork, effort: Effort = BALANCED
) -> NDArray[np.float32]:
    """Return blended logits (K, *S') of a prepared image."""
    run, tiling = tile_runner(part, configuration, network, effort)
    return blend(part.array, run, configuration.patch_size, tiling=tiling, previous=part.previous)

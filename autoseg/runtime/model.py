"""An artifact as a function from an image to its labels.

Letters in shapes: B tiles in a batch, C channels, K classes, P axes of the patch, S axes of the
image.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from .blend import Tiling, blend
from .checks import check_image, check_range, check_unit
from .images import Image, read_image, read_labels, smallest_type
from .manifest import INPUTS, Configuration, Manifest, check_file, load_manifest
from .missing import mark_missing, with_places
from .postprocess import apply_steps
from .prepare import Prepared, prepare
from .processors import usable_cpus
from .recipe import Recipe
from .restore import decide_labels, restore_labels, restore_probabilities

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
        self, image: Image, effort: Effort = BALANCED, *, probabilities: bool = False
    ) -> Prediction:
        """Return the labels of an image on its own grid."""
        return self.predict_prepared(self.prepare(image), effort, probabilities=probabilities)

    def predict_prepared(
        self, parts: list[Prepared], effort: Effort, *, probabilities: bool
    ) -> Prediction:
        """Return the labels of an image that `prepare` returned; empties `parts` on the way."""
        configurations = self.manifest.configurations
        chances, decision = None, configurations[0].decision
        if len(configurations) == 1:
            part = parts.pop()
            logits = predict_logits(part, configurations[0], self.networks[0], effort)
            classes = restore_labels(logits, part.placement, decision)
            if probabilities:
                chances = restore_probabilities(logits, part.placement, decision)
        else:
            chances = self._combine(parts, effort)
            classes = decide_labels(chances, decision)
        classes = apply_steps(classes, self.manifest.postprocessing)
        values = np.asarray(self.manifest.labels.values)
        labels = values.astype(smallest_type(values))[classes]
        return Prediction(labels, _half(chances) if probabilities else None)

    def _combine(self, parts: list[Prepared], effort: Effort) -> NDArray[np.floating]:
        """Return the weighted mean of all configurations' probabilities, on the image's grid."""
        total = None
        for configuration, network in zip(self.manifest.configurations, self.networks, strict=True):
            part = parts.pop(0)
            logits = predict_logits(part, configuration, network, effort)
            chances = restore_probabilities(logits, part.placement, configuration.decision)
            if total is None:
                total = np.zeros(chances.shape, dtype=np.float32)
            for target, values in zip(total, chances, strict=True):
                target += configuration.weight * values
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


def _half(chances: NDArray[np.floating] | None) -> NDArray[np.float16] | None:
    return None if chances is None else chances.astype(np.float16, copy=False)


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


def predict_logits(
    part: Prepared, configuration: Configuration, network: TileNetwork, effort: Effort = BALANCED
) -> NDArray[np.float32]:
    """Return blended logits (K, *S') of a prepared image."""

    def run(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        mean, std = (np.tile(item, (len(tiles), 1)) for item in (part.mean, part.std))
        return network(tiles, mean, std)

    tiling = make_tiling(configuration, part.mean, effort)
    return blend(part.array, run, configuration.patch_size, tiling=tiling)

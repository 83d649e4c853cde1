"""A model without a graph, for tests of images that are read row by row, and such images.

Letters in shapes: S axes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.runtime.manifest import Configuration, Manifest, describe_file
from autoseg.runtime.model import Model, TileNetwork
from autoseg.runtime.recipe import Channel, Labels, Recipe

SHAPE = (150, 110)
ZSCORES = tuple(Channel(name=name, scheme="zscore") for name in ("red", "green", "blue"))


def make_model(
    folder: Path,
    *,
    channels: tuple[Channel, ...] = ZSCORES,
    recipe: dict[str, Any] | None = None,
    configurations: tuple[dict[str, Any], ...] = ({},),
    **changes: Any,  # noqa: ANN401
) -> Model:
    """Return a model of three classes whose networks look at the voxels around each.

    Parameters
    ----------
    recipe
        What differs in the recipe of all configurations, as of pictures that are not resampled.
    configurations
        What differs in each configuration.
    changes
        What differs in the manifest.
    """
    folder.mkdir(exist_ok=True)
    plain = make_recipe(channels, **(recipe or {}))
    items = [
        _configuration(f"net{index}", plain, item, weight=1 / len(configurations))
        for index, item in enumerate(configurations)
    ]
    stored = [name for item in items for name in (item.onnx, item.torchscript)]
    for name in stored:
        (folder / name).touch()
    manifest = Manifest(
        autoseg_version="0",
        name="made up",
        planner="auto",
        plan_digest="0",
        fingerprint_digest="0",
        seed=0,
        unit="pixel",
        channels=tuple(channel.name for channel in channels),
        channel_files="single",
        file_ending=".tif",
        labels=Labels(names=("background", "a", "b"), values=(0, 7, 300)),
        configurations=tuple(items),
        postprocessing=(),
        verification=None,
        files=tuple(describe_file(folder, name) for name in stored),
    )
    content = replace(manifest, **changes).to_json()
    (folder / "manifest.json").write_text(content, encoding="utf-8")
    return Model(folder, lambda _, __, item: _network(item.output_margin))


def make_recipe(
    channels: tuple[Channel, ...] = ZSCORES,
    **steps: Any,  # noqa: ANN401
) -> Recipe:
    """Return a recipe for pictures that are not resampled, but for `steps`."""
    usual: dict[str, Any] = {
        "spacing": (1.0, 1.0),
        "order": "resample-normalise",
        "spline_order": 3,
        "coarse_ratio": 3.0,
        "padding": "mirror",
        "overlap": 0.5,
        "mirror_axes": (),
        "test_time_mirroring": False,
    }
    usual |= steps
    usual.setdefault("transpose", tuple(range(len(usual["spacing"]))))
    return Recipe(channels=channels, **usual)


def _configuration(
    name: str, recipe: Recipe, changes: dict[str, Any], *, weight: float
) -> Configuration:
    axes = len(recipe.spacing)
    usual = {
        "name": name,
        "weight": weight,
        "folds": ("0",),
        "recipe": recipe,
        "patch_size": (32,) * axes,
        "tiles_per_case": 8.0,
        "input": "raw",
        "spatial": "dynamic",
        "spatial_multiple": (1,) * axes,
        "onnx": f"{name}.onnx",
        "torchscript": f"{name}.pt",
        "parity": (),
        "timings": (),
    }
    return Configuration(**(usual | changes))


def _network(margins: tuple[int, ...]) -> TileNetwork:
    def run(
        tile: NDArray[np.float32], mean: NDArray[np.float32], std: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        lines = (slice(None), slice(None), *(None,) * (tile.ndim - 2))
        normal = (tile - mean[lines]) / std[lines]
        smooth = np.array(normal)
        for axis in range(2, tile.ndim):
            ndimage.uniform_filter1d(smooth, 5, axis, output=smooth, mode="nearest")
        first, last = smooth[:, 0], smooth[:, -1]
        if smooth.shape[1] == 1:
            last = -last
        logits = np.stack([np.full_like(first, 0.05), first, last], axis=1)  # (B, K, *S)
        inside = (slice(margin, -margin or None) for margin in margins)
        return logits[(slice(None), slice(None), *inside)]

    return run


def draw(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> NDArray[np.uint8]:
    """Return (*S, 3) pixels with blobs and a black border, which is cut off."""
    noise = np.random.default_rng(seed).normal(size=(*shape, 3))
    smooth = ndimage.gaussian_filter(noise, (*(4,) * len(shape), 0))
    array = (128 + 600 * smooth).clip(1, 255).astype(np.uint8)
    array[:3], array[:, -5:] = 0, 0
    return array

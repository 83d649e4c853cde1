"""Small data sets made by code, learnable within seconds: spheres (3D) and rings (2D).

Letters in shapes: C channels, S spatial axes (ZYX or YX).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.runtime.images import Geometry, Image, write_image, write_labels
from autoseg.seeds import stream

Layout = Literal["nnunet", "folders"]

NOISE = 12.0
"""Deviation of the noise; neighbouring classes differ by `CONTRAST`."""
CONTRAST = 60.0
BACKGROUND = 40.0
NUM_TRIES = 50
"""Draws of a place before shapes may overlap."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """How cases look and are stored."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    num_classes: int = 2
    """Classes including the background."""
    num_channels: int = 1
    layout: Layout = "nnunet"
    ending: str = ".nii.gz"


Draw = Callable[[np.random.Generator, Style], NDArray[np.uint8]]


def write_spheres(
    root: Path,
    *,
    num_cases: int,
    seed: int,
    shape: tuple[int, ...] = (24, 32, 28),
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    num_classes: int = 2,
    layout: Layout = "nnunet",
    ending: str = ".nii.gz",
) -> Path:
    """Write volumes with one ball a class, brighter the higher its class, and return `root`.

    Balls are round in millimetres, so that an anisotropic spacing flattens them.
    """
    style = Style(
        shape=shape, spacing=spacing, num_classes=num_classes, layout=layout, ending=ending
    )
    return write_dataset(root, draw_balls, num_cases=num_cases, seed=seed, style=style)


def write_rings(
    root: Path,
    *,
    num_cases: int,
    seed: int,
    shape: tuple[int, ...] = (64, 72),
    num_classes: int = 2,
    num_channels: int = 1,
    layout: Layout = "folders",
    ending: str = ".png",
) -> Path:
    """Write pictures (grey, or colour with three channels) with one ring a class, return `root`."""
    style = Style(
        shape=shape,
        spacing=(1.0,) * len(shape),
        num_classes=num_classes,
        num_channels=num_channels,
        layout=layout,
        ending=ending,
    )
    return write_dataset(root, draw_rings, num_cases=num_cases, seed=seed, style=style)


def write_dataset(root: Path, draw: Draw, *, num_cases: int, seed: int, style: Style) -> Path:
    """Write `num_cases` cases whose labels `draw` draws, and return `root`."""
    for index in range(num_cases):
        rng = stream(seed, "synthetic", index)
        _write_case(root, f"case_{index:03d}", draw(rng, style), rng, style)
    _write_description(root, num_cases, style)
    return root


def draw_balls(rng: np.random.Generator, style: Style) -> NDArray[np.uint8]:
    """Return (*S) labels: one ball a class, inside the image, apart if there is room."""
    return _draw_apart(rng, style, lambda distance: distance < 1)


def draw_rings(rng: np.random.Generator, style: Style) -> NDArray[np.uint8]:
    """Return (*S) labels: one ring a class, inside the image, apart if there is room."""
    return _draw_apart(rng, style, lambda distance: (distance < 1.2) & (distance > 0.6))


def _draw_apart(
    rng: np.random.Generator, style: Style, inside: Callable[[NDArray], NDArray]
) -> NDArray[np.uint8]:
    labels = np.zeros(style.shape, np.uint8)
    for value in range(1, style.num_classes):
        shape = inside(_draw_distance(rng, style))
        for _ in range(NUM_TRIES):
            if not labels[shape].any():
                break
            shape = inside(_draw_distance(rng, style))
        labels[shape] = value
    return labels


def paint(rng: np.random.Generator, labels: NDArray, num_channels: int) -> NDArray[np.float32]:
    """Return (C, *S) intensities for (*S) labels: one level a class, noise, a gain of the case."""
    channels = []
    for channel in range(num_channels):
        contrast = CONTRAST / (1 + channel)
        gain = rng.uniform(0.9, 1.1)
        levels = BACKGROUND + contrast * labels.astype(np.float32)
        channels.append(gain * levels + rng.normal(0, NOISE, labels.shape))
    return np.clip(np.stack(channels), 1, None).astype(np.float32)


def _draw_distance(rng: np.random.Generator, style: Style) -> NDArray:
    """Return (*S) distances from a drawn centre in units of a drawn radius."""
    lengths = np.multiply(style.shape, style.spacing)
    radius = float(lengths.min()) * rng.uniform(0.16, 0.24)
    centre = [rng.uniform(1.2 * radius, length - 1.2 * radius) for length in lengths]
    axes = np.ogrid[tuple(slice(n) for n in style.shape)]
    squares = np.zeros(style.shape)
    for axis, step, middle in zip(axes, style.spacing, centre, strict=True):
        squares = squares + ((axis + 0.5) * step - middle) ** 2
    return np.sqrt(squares) / radius


def _write_case(
    root: Path, case_id: str, labels: NDArray, rng: np.random.Generator, style: Style
) -> None:
    is_volume = style.ending.startswith((".nii", ".nrrd", ".mh"))
    geometry = Geometry(style.spacing, unit="mm" if is_volume else "pixel")
    image = paint(rng, labels, style.num_channels)
    if not is_volume:
        image = np.clip(image, 0, 255).astype(np.uint8)
    images, masks = ("imagesTr", "labelsTr") if style.layout == "nnunet" else ("images", "masks")
    write_labels(root / masks / f"{case_id}{style.ending}", labels, geometry)
    if style.layout == "folders" and (style.num_channels == 1 or not is_volume):
        write_image(root / images / f"{case_id}{style.ending}", Image(image, geometry))
        return
    for channel, array in enumerate(image):
        name = f"{case_id}_{channel:04d}{style.ending}"
        write_image(root / images / name, Image(array[None], geometry))


def _write_description(root: Path, num_cases: int, style: Style) -> None:
    """Write dataset.json of an nnU-Net raw folder; plain folders have none."""
    if style.layout == "folders":
        return
    names = ["background", *(f"class_{value}" for value in range(1, style.num_classes))]
    description = {
        "channel_names": {str(c): f"channel_{c}" for c in range(style.num_channels)},
        "labels": {name: value for value, name in enumerate(names)},
        "numTraining": num_cases,
        "file_ending": style.ending,
    }
    text = json.dumps(description, indent=2, sort_keys=True) + "\n"
    (root / "dataset.json").write_text(text, encoding="utf-8")

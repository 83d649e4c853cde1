"""The case that travels in an artifact, so that anybody can check that it still works.

Letters in shapes: C channels, S axes of the image.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.files import read_image_files
from autoseg.dataset.formats.registry import find_format
from autoseg.errors import ExportError
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.runtime.images import (
    PICTURE_FORMATS,
    Geometry,
    Image,
    Unit,
    file_ending,
    read_image,
    write_image,
    write_labels,
)
from autoseg.runtime.manifest import Configuration
from autoseg.runtime.model import Model
from autoseg.runtime.normalise import pretrained_constants
from autoseg.runtime.recipe import Channel
from autoseg.seeds import stream

FOLDER = "verification"
MAX_AXIS = 64
MIN_AGREEMENT = 0.999
NUM_SLICES = 3
"""Along axes that the network lacks."""
ENDINGS = {2: ".csv", 3: ".mha", 4: ".nii.gz"}
"""Formats that keep everything, by the axes of an image with its channels."""
LEVEL, SPREAD = 100.0, 40.0
RANGE = (0.0, 255.0)
"""Intensities where the plan fixes none."""


def write_image_files(
    folder: Path, dataset: Dataset, choice: str, *, plan: Plan, configuration: ConfigurationPlan
) -> tuple[str, ...]:
    """Write the images of the verification case and return their names in the artifact.

    Parameters
    ----------
    choice
        "synthetic", or the id of a case, whose files are copied.

    Raises
    ------
    ExportError
        The data set has no such case.
    """
    if choice == "synthetic":
        image = synthetic_image(configuration, plan.seed, plan.unit)
        return write_synthetic(folder, image, dataset.file_ending)
    (folder / FOLDER).mkdir()
    case = next((case for case in dataset.cases if case.id == choice), None)
    if case is None:
        raise ExportError(
            found=f"--verification-case {choice}",
            expected=f"synthetic, none, or the id of a case of {dataset.name}",
            fix="correct --verification-case",
        )
    found = find_format(dataset.layout)
    if found.read_image is not read_image_files:
        return _write_volume(folder, found.read_image(dataset, case))
    names = []
    for index, path in enumerate(dataset.image_paths(case)):
        # A header in one file and voxels in another cannot be renamed apart: written anew.
        ending = file_ending(path)
        name = f"{FOLDER}/image_{index:04d}{'.mha' if ending == '.mhd' else ending}"
        if ending == ".mhd":
            write_image(folder / name, read_image([path]))
        else:
            shutil.copyfile(path, folder / name)
        names.append(name)
    return tuple(names)


def _write_volume(folder: Path, image: Image) -> tuple[str, ...]:
    """Write one file with all channels, for images that are no plain files."""
    name = f"{FOLDER}/image_0000{ENDINGS[image.array.ndim]}"
    write_image(folder / name, image)
    return (name,)


def write_synthetic(folder: Path, image: Image, file_ending: str) -> tuple[str, ...]:
    """Write one file a channel, pictures where the data set has pictures."""
    (folder / FOLDER).mkdir()
    is_picture = file_ending in PICTURE_FORMATS and image.array.ndim == 3
    ending = ".png" if is_picture else ENDINGS[image.array.ndim]
    array = image.array.clip(0, 255).astype(np.uint8) if is_picture else image.array
    names = tuple(f"{FOLDER}/image_{index:04d}{ending}" for index in range(len(array)))
    for name, channel in zip(names, array, strict=True):
        write_image(folder / name, Image(channel[None], image.geometry))
    return names


def synthetic_image(
    configuration: ConfigurationPlan | Configuration, seed: int, unit: Unit
) -> Image:
    """Return smooth noise with a ball in it, in the range that each channel's plan expects."""
    recipe = configuration.recipe
    slices = len(recipe.transpose) - len(configuration.patch_size)
    prepared = [NUM_SLICES] * slices + [min(size, MAX_AXIS) for size in configuration.patch_size]
    spacings = [1.0] * slices + list(recipe.spacing)
    order = [recipe.transpose.index(axis) for axis in range(len(prepared))]
    shape = tuple(prepared[axis] for axis in order)
    geometry = Geometry(tuple(spacings[axis] for axis in order), unit=unit)
    channels = [
        _draw_channel(shape, channel, stream(seed, "verification", index))
        for index, channel in enumerate(recipe.channels)
    ]
    return Image(np.stack(channels), geometry)


def _draw_channel(
    shape: Sequence[int], channel: Channel, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Return (*S) whole numbers."""
    axes = np.indices(shape, sparse=True)
    scaled = [(2 * index + 1) / size - 1 for index, size in zip(axes, shape, strict=True)]
    ball = sum(offset**2 for offset in scaled) < 0.3
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    noise /= max(float(noise.std()), 1e-6)
    level = LEVEL if channel.mean is None else channel.mean
    spread = SPREAD if channel.std is None else channel.std
    if channel.scheme == "pretrained":
        level, spread = pretrained_constants(channel, RANGE)
    values = level + spread * (0.5 * noise + ball)
    return np.rint(values).clip(-32768, 32767).astype(np.int16)


def write_expected(folder: Path, names: Sequence[str], model: Model) -> str:
    """Write the labels that a model predicts for the images and return the file's name."""
    paths = [folder / name for name in names]
    image = read_image(paths)
    ending = file_ending(paths[0])
    expected = f"{FOLDER}/expected{'.png' if ending in PICTURE_FORMATS else ending}"
    write_labels(folder / expected, model.predict_image(image).labels, image.geometry)
    return expected


def check_agreement(agreement: float) -> float:
    """Return the agreement of an artifact with the expected labels if it is enough.

    Raises
    ------
    ExportError
        The artifact does not give the expected labels.
    """
    if agreement >= MIN_AGREEMENT:
        return agreement
    raise ExportError(
        found=f"the exported model gives {agreement:.4%} of the expected labels of its own case",
        expected=f"at least {MIN_AGREEMENT:.1%}",
        fix="choose another --verification-case; if that does not help, report it as a fault",
    )

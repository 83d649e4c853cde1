"""A trained model as a Python object: an array or files in, labels out.

Everything happens in the calling process: no others are started, so it needs no `__main__` guard
and runs in notebooks, threads and services.
Letters in shapes: C channels, K classes, S axes of the image.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.export.backend import find_artifact, open_for, parse_effort
from autoseg.infer.zarr_stores import ZarrStores
from autoseg.runtime.geometry import Geometry
from autoseg.runtime.governor import Memory, Room
from autoseg.runtime.images import Image, read_image, write_labels
from autoseg.runtime.model import BALANCED, Effort, Model
from autoseg.runtime.runner import PredictOptions, predict_case

Files: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""One file, or one a channel."""
EXPECTED_IMAGES = 10
"""A backend is chosen as if so many images were to come: a process that loads a model keeps it."""


@dataclass(frozen=True)
class Result:
    """What a model says about an image."""

    labels: NDArray[np.integer]
    """(*S) the values of the data set's files, on the grid of the image."""
    probabilities: NDArray[np.float16] | None
    """(K, *S) one an output of the model, where they were asked for."""
    meta: Geometry
    """Spacing, origin and direction of the image, which are those of the labels."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the labels to a file whose ending names its format.

        Raises
        ------
        AutosegError
            The format is unknown, or the file cannot be written.
        """
        write_labels(Path(path), self.labels, self.meta)


class Predictor:
    """A model that is loaded; `load` makes it. Calls from several threads wait for each other."""

    def __init__(self, model: Model, effort: Effort = BALANCED, ram: int | None = None) -> None:
        self._model = model
        self._effort = effort
        self._ram = ram
        self._lock = threading.Lock()

    @property
    def labels(self) -> dict[int, str]:
        """The name of each value in `Result.labels`."""
        labels = self._model.manifest.labels
        return dict(zip(labels.values, labels.names, strict=True))

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels of an image, in their order."""
        return self._model.manifest.channels

    @overload
    def predict(
        self,
        image: NDArray | Files,
        *,
        spacing: Sequence[float] | None = None,
        probabilities: bool = False,
        output: None = None,
    ) -> Result: ...

    @overload
    def predict(
        self,
        image: Files,
        *,
        spacing: None = None,
        probabilities: bool = False,
        output: str | os.PathLike[str],
    ) -> Path: ...

    def predict(
        self,
        image: NDArray | Files,
        *,
        spacing: Sequence[float] | None = None,
        probabilities: bool = False,
        output: str | os.PathLike[str] | None = None,
    ) -> Result | Path:
        """Return the labels of one image; or write them, and return their file.

        Parameters
        ----------
        image
            An array (*S) or (C, *S), axes ZYX or YX; a file; or one file a channel, in the order
            of `channels`.
        spacing
            Of an array: the distance of its voxels along each axis, in the unit of the training
            images. Needed unless that is pixels; files know theirs.
        probabilities
            Return or write them, too.
        output
            Of an image in files: the label file to write, or a folder for a file of the image's
            name. The image need not fit into memory; what is there is replaced.

        Raises
        ------
        AutosegError
            The image is not one that the model takes, or needs more memory than there may be; or
            `output` cannot be written.
        """
        if output is not None:
            paths = _paths(image, spacing)
            options = PredictOptions(
                effort=self._effort, probabilities=probabilities, ram=self._ram, stores=ZarrStores()
            )
            with self._lock:
                return predict_case(self._model, paths, Path(output), options)
        return self._result(image, spacing, probabilities=probabilities)

    def _result(
        self, image: NDArray | Files, spacing: Sequence[float] | None, *, probabilities: bool
    ) -> Result:
        manifest = self._model.manifest
        with self._lock:
            room = Room.of(self._ram)
            memory = Memory(manifest, room, self._effort, probabilities=probabilities)
            if not isinstance(image, np.ndarray):
                demand = memory.demand(_paths(image, spacing))
                if demand is not None:
                    memory.refuse(demand)  # before it is read
            given = self._image(image, spacing)
            demand = None
            if len(given.shape) == manifest.dimensions:  # else `prepare` tells
                demand = memory.expect(given.shape, given.geometry.spacing, given.array.itemsize)
                memory.refuse(demand)
            parts = self._model.prepare(given)
            geometry = given.geometry
            del given  # of a file, nobody needs the voxels any more
            prediction = self._model.predict_prepared(
                parts,
                self._effort,
                probabilities=probabilities,
                scratch=memory.governor(demand, None),
            )
        return Result(prediction.labels, prediction.probabilities, geometry)

    def _image(self, image: NDArray | Files, spacing: Sequence[float] | None) -> Image:
        if not isinstance(image, np.ndarray):
            return read_image(_paths(image, spacing))
        manifest = self._model.manifest
        if spacing is None and manifest.unit != "pixel":
            raise AutosegError(
                found="an array without spacing",
                expected=f"the distance of voxels along each axis, in {manifest.unit}",
                fix=f"call predict(array, spacing=({', '.join(['1.0'] * manifest.dimensions)},)) "
                "with the true distances",
            )
        array = image[None] if image.ndim == manifest.dimensions else image
        spacing = (1.0,) * manifest.dimensions if spacing is None else spacing
        if len(spacing) != manifest.dimensions:
            raise AutosegError(
                found=f"a spacing of {len(spacing)} numbers",
                expected=f"{manifest.dimensions}, one an axis",
                fix="give one number for each axis of the image, channels not counted",
            )
        return Image(array, Geometry(tuple(map(float, spacing)), unit=manifest.unit))


def _paths(image: NDArray | Files, spacing: Sequence[float] | None) -> list[Path]:
    """Return the files of an image."""
    if isinstance(image, np.ndarray):
        raise ValueError("output is for files: save the labels of an array with Result.save")
    if spacing is not None:
        raise ValueError("spacing is for arrays: files know theirs")
    paths = [image] if isinstance(image, str | os.PathLike) else image
    return [Path(path) for path in paths]


def load(
    model: str | os.PathLike[str],
    *,
    device: str = "auto",
    backend: str = "auto",
    effort: str = "balanced",
    ram: int | None = None,
) -> Predictor:
    """Return a trained model, ready to predict.

    Parameters
    ----------
    model
        A workspace, the folder of an exported model, or model.zip.
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    backend
        "auto", "onnx" or "torch".
    effort
        "fast", "balanced" or "accurate".
    ram
        Bytes that this process may take; None: most of what the machine or container has. Where an
        image needs more, large arrays go to temporary files.

    Raises
    ------
    AutosegError
        There is no model, a word is unknown, or the machine lacks the device.
    """
    chosen = parse_effort(effort, mirroring=True)
    with find_artifact(Path(model)) as folder:
        opened, _ = open_for(
            folder, backend, device=device, num_cases=EXPECTED_IMAGES, effort=chosen
        )
    return Predictor(opened, chosen, ram)

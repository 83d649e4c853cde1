"""Files of probabilities: beside the labels, written without another copy where the format allows.

Letters in shapes: K classes, S axes of the image.
"""

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .geometry import Geometry
from .images import NIFTI_FORMATS, VOLUME_FORMATS, file_ending, format_of, write_whole
from .scratch import IN_MEMORY, Scratch


def probabilities_path(labels: Path, dimensions: int) -> Path:
    """Return the file beside the labels of an image: 2D formats hold no probabilities."""
    ending = file_ending(labels)
    stem = labels.name[: -len(ending)]
    is_volume = dimensions == 3 and ending in VOLUME_FORMATS
    return labels.with_name(stem + ("_probabilities" + ending if is_volume else ".npz"))


def is_written_in_pieces(path: Path) -> bool:
    """Return whether no copy of all probabilities is made to write them to a file."""
    return path.suffix == ".npz" or file_ending(path) in NIFTI_FORMATS


def write_probabilities(
    path: Path,
    probabilities: NDArray[np.float16],
    geometry: Geometry,
    scratch: Scratch = IN_MEMORY,
) -> None:
    """Write (K, *S) probabilities: a volume with K channels, or an array "probabilities" (.npz).

    No volume format has half precision: values are stored in single, and keep their rounding. The
    probabilities lie in `scratch`.
    """
    if path.suffix == ".npz":
        write_whole(path, lambda temporary: _write_array(temporary, probabilities, scratch))
        return
    form = format_of(path)
    write_whole(path, lambda temporary: form.write(temporary, probabilities, geometry, scratch))


def _write_array(path: Path, array: NDArray, scratch: Scratch) -> None:
    """Write (K, *S) as NumPy's `savez_compressed` does, one of the K after the other."""
    form = np.lib.format
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("probabilities.npy", "w", force_zip64=True) as file,
    ):
        form.write_array_header_1_0(file, form.header_data_from_array_1_0(array))
        for part in array:
            file.write(np.ascontiguousarray(part).view(np.uint8).data)
            scratch.forget()

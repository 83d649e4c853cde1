"""Volume formats other than NIfTI (NRRD, MetaImage), by SimpleITK.

Letters in shapes: C channels, S spatial axes (ZYX or YX). SimpleITK's XYZ is reversed here.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import AutosegError
from .geometry import Extent, Geometry, Image
from .scratch import IN_MEMORY, Scratch

if TYPE_CHECKING:
    import SimpleITK as sitk

SLAB_VALUES = 1 << 22
"""Numbers that are converted at once: arrays of 16 MiB."""


def read(path: Path) -> Image:
    """Return a volume; a fourth axis or the components of a voxel are its channels."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)  # (*S), (C, *S) for four axes, (*S, C) for components
    if image.GetNumberOfComponentsPerPixel() > 1 and image.GetDimension() <= 3:
        array = np.ascontiguousarray(np.moveaxis(array, -1, 0))  # (C, *S)
    elif image.GetDimension() <= 3:
        array = array[None]  # (1, *S)
    if not 3 <= array.ndim <= 4 or array.dtype.kind not in "iuf":
        raise AutosegError(
            found=f"{path}: {image.GetDimension()} axes of {image.GetPixelIDTypeAsString()}",
            expected="two or three axes of numbers, or four of which the last is channels",
            fix="split the file into one file a time point or channel",
        )
    return Image(array, _geometry(path, image, array.ndim - 1))


def read_extent(path: Path) -> Extent:
    """Return how large a volume or picture is, from the header of its file."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size = reader.GetSize()
    channels = reader.GetNumberOfComponents() * math.prod(size[3:])
    like = sitk.Image((1,) * len(size), reader.GetPixelID())
    return Extent(
        channels,
        size[:3][::-1],  # XYZ -> ZYX
        reader.GetSpacing()[:3][::-1],
        voxel_bytes=like.GetSizeOfPixelComponent(),
    )


def _geometry(path: Path, image: "sitk.Image", dimensions: int) -> Geometry:
    size = image.GetDimension()
    direction = np.asarray(image.GetDirection()).reshape(size, size)[:dimensions, :dimensions]
    spacing = tuple(float(s) for s in image.GetSpacing()[:dimensions][::-1])  # XYZ -> ZYX
    if not all(np.isfinite(s) and s > 0 for s in spacing):
        raise AutosegError(
            found=f"{path}: spacing {spacing}",
            expected="a positive distance of voxels along every axis",
            fix="correct the header of the file",
        )
    return Geometry(
        spacing,
        tuple(float(o) for o in image.GetOrigin()[:dimensions]),
        tuple(float(d) for d in direction.ravel()),
    )


def write(path: Path, array: NDArray, geometry: Geometry, scratch: Scratch = IN_MEMORY) -> None:
    """Write (*S) or (C, *S) numbers; channels become the components of a voxel.

    Half precision, which these formats lack, is written as single. The array lies in `scratch`.
    """
    import SimpleITK as sitk

    has_channels = array.ndim > len(geometry.spacing)
    if has_channels and array.dtype == np.float16:
        image = _in_single(array, scratch)
    else:
        voxels = np.moveaxis(array, 0, -1) if has_channels else array  # (*S) or (*S, C)
        image = sitk.GetImageFromArray(voxels, isVector=has_channels)
    image.SetSpacing(geometry.spacing[::-1])  # ZYX -> XYZ
    if geometry.origin:
        image.SetOrigin(geometry.origin)
    if geometry.direction:
        image.SetDirection(geometry.direction)
    sitk.WriteImage(image, str(path), useCompression=True)


def _in_single(array: NDArray[np.float16], scratch: Scratch) -> "sitk.Image":
    """Return an image of (C, *S) numbers, filled slab by slab: no other copy is made of them."""
    import SimpleITK as sitk

    count, *shape = array.shape
    image = sitk.Image(shape[::-1], sitk.sitkVectorFloat32, count)  # ZYX -> XYZ
    depth = max(1, SLAB_VALUES // max(1, count * math.prod(shape[1:])))
    for start in range(0, shape[0], depth):
        rows = slice(start, min(start + depth, shape[0]))
        part = np.moveaxis(array[:, rows].astype(np.float32), 0, -1)  # (*S, C)
        voxels = sitk.GetImageFromArray(part, isVector=True)
        image[(*(slice(None),) * (len(shape) - 1), rows)] = voxels
        scratch.forget()
    return image

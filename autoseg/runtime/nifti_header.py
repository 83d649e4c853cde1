"""Headers of NIfTI files: the fields that matter, and the geometry they declare.

NIfTI's world axes are RAS, ours (ITK's) LPS: the first two change their sign here.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import AutosegError
from .geometry import Geometry

KINDS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
KINDS |= {1024: "i8", 1280: "u8", 128: "3u1", 2304: "4u1"}
"""NIfTI's numbers for voxel types; the last two are colours."""
MILLIMETRES = {1: 1000.0, 3: 0.001}
"""Length of NIfTI's units metre and micrometre; all other codes count as mm."""
SIZE = 348
SIZE_2 = 540
"""Size of a header of version 2."""
VOXEL_OFFSET = 352
RAS_TO_LPS = np.array([[-1.0], [-1.0], [1.0]])

FIELDS_1 = (
    ("dims", 40, "8h"),
    ("code", 70, "h"),
    ("pixdim", 76, "8f"),
    ("offset", 108, "f"),
    ("scale", 112, "2f"),
    ("units", 123, "B"),
    ("forms", 252, "2h"),
    ("quaternion", 256, "6f"),
    ("matrix", 280, "12f"),
)
FIELDS_2 = (
    ("dims", 16, "8q"),
    ("code", 12, "h"),
    ("pixdim", 104, "8d"),
    ("offset", 168, "q"),
    ("scale", 176, "2d"),
    ("units", 500, "i"),
    ("forms", 344, "2i"),
    ("quaternion", 352, "6d"),
    ("matrix", 400, "12d"),
)
"""Name, position and `struct` format of the fields, by version."""


@dataclass(frozen=True)
class Header:
    """What a file says about its voxels."""

    byte_order: Literal["<", ">"]
    shape: tuple[int, ...]
    """Spatial axes, ZYX or YX."""
    num_channels: int
    code: int
    """Type of the voxels, see `KINDS`."""
    offset: int
    """Position of the first voxel, bytes."""
    slope: float | None
    """None: the voxels are not scaled."""
    intercept: float
    geometry: Geometry


def required_size(head: bytes) -> int:
    """Return how many bytes a header has that begins with `head`."""
    sizes = (struct.unpack_from(order + "i", head)[0] for order in "<>")
    return SIZE_2 if SIZE_2 in sizes else SIZE


def parse(path: Path, head: bytes) -> Header:
    """Return the header in the first bytes of a file.

    Raises
    ------
    AutosegError
        It is none, or declares something that is no image of two or three axes.
    """
    order = _byte_order(head)
    if order is None:
        raise _refusal(path, "no NIfTI header at its beginning", "a NIfTI file")
    table = FIELDS_2 if required_size(head) == SIZE_2 else FIELDS_1
    fields = {name: struct.unpack_from(order + form, head, at) for name, at, form in table}
    shape, num_channels = _axes(path, fields["dims"])
    code, slope = fields["code"][0], fields["scale"][0]
    if code not in KINDS or (num_channels > 1 and KINDS[code][0] in "34"):
        raise _refusal(path, f"voxels of NIfTI type {code}", "real numbers or colours")
    return Header(
        byte_order=order,
        shape=shape,
        num_channels=num_channels,
        code=code,
        offset=max(int(fields["offset"][0]), required_size(head) + 4),
        slope=slope if np.isfinite(slope) and slope != 0 else None,
        intercept=fields["scale"][1] if np.isfinite(fields["scale"][1]) else 0.0,
        geometry=_geometry(path, fields, len(shape)),
    )


def _byte_order(head: bytes) -> Literal["<", ">"] | None:
    if struct.unpack_from("<i", head)[0] in (SIZE, SIZE_2):
        return "<"
    return ">" if struct.unpack_from(">i", head)[0] in (SIZE, SIZE_2) else None


def _refusal(path: Path, found: str, expected: str) -> AutosegError:
    return AutosegError(
        found=f"{path}: {found}",
        expected=expected,
        fix="export the file again, or correct its header",
    )


def _axes(path: Path, dims: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Return the spatial axes (ZYX or YX) and the number of channels (axes T and U)."""
    lengths = dims[1 : 1 + dims[0]]
    extra = [n for n in lengths[3:] if n != 1]
    if not 2 <= dims[0] <= 7 or len(extra) > 1 or min(lengths) < 1:
        raise _refusal(
            path, f"axes of lengths {lengths}", "two or three axes, and one of channels at most"
        )
    return tuple(int(n) for n in lengths[:3][::-1]), int(extra[0]) if extra else 1


def _geometry(path: Path, fields: dict[str, tuple], dimensions: int) -> Geometry:
    scale = MILLIMETRES.get(fields["units"][0] & 7, 1.0)
    lengths = fields["dims"][1 : 1 + dimensions]
    # A single slice often has no distance to the next: one, as in other readers.
    steps = [
        1.0 if p == 0 and n == 1 else abs(_shortest(p)) * scale
        for p, n in zip(fields["pixdim"][1:], lengths, strict=False)
    ]
    if not all(np.isfinite(step) and step > 0 for step in steps):
        raise _refusal(path, f"spacing {tuple(steps)}", "a positive distance along every axis")
    matrix = _world_matrix(fields)
    if matrix is None:
        return Geometry(tuple(steps[::-1]))
    matrix = matrix * RAS_TO_LPS
    lengths_mm = np.linalg.norm(matrix[:, :3], axis=0)
    direction = (matrix[:, :3] / lengths_mm)[:dimensions, :dimensions]
    origin = (matrix[:, 3] * scale)[:dimensions]
    return Geometry(tuple(steps[::-1]), _numbers(origin), _numbers(direction))


def _shortest(value: float) -> float:
    """Return the shortest decimal that single precision stores as `value`: 0.7, not 0.699999988."""
    return float(str(np.float32(value)))


def _numbers(array: NDArray) -> tuple[float, ...]:
    return tuple(float(value) + 0.0 for value in array.ravel())  # + 0.0: no negative zeros


def _world_matrix(fields: dict[str, tuple]) -> NDArray | None:
    """Return (3, 4), voxel indices XYZ to RAS: the matrix, else the quaternion, else None."""
    quaternion_code, matrix_code = fields["forms"]
    matrix = np.array(fields["matrix"], float).reshape(3, 4)
    if matrix_code > 0 and np.isfinite(matrix).all() and abs(np.linalg.det(matrix[:, :3])) > 0:
        return matrix
    quaternion = np.array(fields["quaternion"], float)
    if quaternion_code > 0 and np.isfinite(quaternion).all():
        flip = -1.0 if fields["pixdim"][0] < 0 else 1.0
        rotation = _rotation(quaternion[:3]) * [1.0, 1.0, flip]
        return np.column_stack([rotation, quaternion[3:]])
    return None


def _rotation(imaginary: NDArray) -> NDArray:
    """Return the rotation (3, 3) of a unit quaternion given by its imaginary part."""
    b, c, d = imaginary
    a = np.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
    if a < 1e-7:  # a half turn: the real part is rounding
        b, c, d = imaginary / max(np.linalg.norm(imaginary), 1e-12)
        a = 0.0
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )


def build(lengths: tuple[int, ...], kind: np.dtype, geometry: Geometry) -> bytes:
    """Return the padded header (version 1, little endian) for voxels of (X, Y[, Z[, C]])."""
    dimensions = len(geometry.spacing)
    steps = np.array([*geometry.spacing[::-1], *(1.0,) * (3 - dimensions)])
    values: dict[str, tuple] = {
        "dims": (len(lengths), *lengths, *(1,) * (7 - len(lengths))),
        "code": ({name: code for code, name in KINDS.items()}[kind.str[1:]],),
        "pixdim": (1.0, *steps, *(1.0,) * 4),
        "offset": (float(VOXEL_OFFSET),),
        "scale": (1.0, 0.0),
        "units": (2 if geometry.unit == "mm" else 0,),
    }
    if geometry.direction:
        direction, origin = np.eye(3), np.zeros(3)
        direction[:dimensions, :dimensions] = np.reshape(geometry.direction, (dimensions,) * 2)
        origin[:dimensions] = geometry.origin
        direction, origin = direction * RAS_TO_LPS, origin * RAS_TO_LPS[:, 0]
        flip, quaternion = _quaternion(direction)
        values["pixdim"] = (flip, *steps, *(1.0,) * 4)
        values["forms"] = (1, 1)
        values["quaternion"] = (*quaternion, *origin)
        values["matrix"] = tuple(np.column_stack([direction * steps, origin]).ravel())
    head = bytearray(VOXEL_OFFSET)
    struct.pack_into("<i", head, 0, SIZE)
    struct.pack_into("<h", head, 72, 8 * kind.itemsize)
    struct.pack_into("<4s", head, 344, b"n+1\0")
    for name, position, form in FIELDS_1:
        if name in values:
            struct.pack_into("<" + form, head, position, *values[name])
    return bytes(head)


def _quaternion(direction: NDArray) -> tuple[float, NDArray]:
    """Return the sign of the third axis and (b, c, d) of the rotation nearest to a matrix."""
    left, _, right = np.linalg.svd(direction)
    rotation = left @ right
    flip = 1.0 if np.linalg.det(rotation) > 0 else -1.0
    r = rotation * [1.0, 1.0, flip]
    # Bar-Itzhack: the quaternion is the eigenvector of the largest eigenvalue, whatever the angle.
    symmetric = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]],
            [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1], r[0, 2] - r[2, 0]],
            [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
        ]
    )
    _, vectors = np.linalg.eigh(symmetric)
    vector = vectors[:, -1]
    return flip, vector[:3] * (1.0 if vector[3] >= 0 else -1.0)

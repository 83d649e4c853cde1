"""The size of the surface that passes through a neighbourhood of 2 (x 2 (x 2)) voxels.

The surface of a mask is made of elements: where the corners of a neighbourhood of voxel centres are
not all inside or all outside, marching cubes (in 2D: marching squares) puts a piece of surface
through the middles of the cut edges. Its area (2D: length) depends on the pattern of corners and on
the spacing only, so it is a table. In 1D it is a point between two samples, of size 1. Bit k of a
pattern is the k-th corner, the last axis fastest.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, ...]


def corners(num_axes: int) -> list[Corner]:
    """Return the corners of a neighbourhood in the order of their bits."""
    return list(product((0, 1), repeat=num_axes))


def element_sizes(spacing: Sequence[float]) -> NDArray[np.float64]:
    """Return the size of the surface element of each pattern of corners.

    Parameters
    ----------
    spacing
        Of the axes, ZYX, YX or X.

    Returns
    -------
    (2 ** 2 ** D,) float
        Area (3D), length (2D) or number of points (1D); 0 for patterns without a surface.
    """
    scale = np.asarray(spacing, float)
    return np.linalg.norm(_normals(len(spacing)) * (scale.prod() / scale), axis=2).sum(axis=1)


@lru_cache
def _normals(num_axes: int) -> NDArray[np.float64]:
    """Return (patterns, pieces, D) normals of the pieces of each element, as long as their size.

    For a voxel of size 1. Elements of fewer pieces are filled up with zeros.
    """
    pieces = (_points, _lines, _triangles)[num_axes - 1]
    normals = [pieces(_inside(pattern, num_axes)) for pattern in range(2**2**num_axes)]
    table = np.zeros((len(normals), max(map(len, normals)), num_axes))
    for row, vectors in zip(table, normals, strict=True):
        row[: len(vectors)] = np.reshape(vectors, (-1, num_axes))
    return table


def _inside(pattern: int, num_axes: int) -> frozenset[Corner]:
    """Return the corners inside the mask; of patterns more than half full, those outside.

    A pattern and its complement have the same surface; taking the smaller side settles which
    corners of an ambiguous face are cut off.
    """
    every = corners(num_axes)
    inside = frozenset(corner for bit, corner in enumerate(every) if pattern >> bit & 1)
    return frozenset(every) - inside if len(inside) > len(every) // 2 else inside


def _points(inside: frozenset[Corner]) -> list[NDArray]:
    """Return the normal of the end of a mask between two samples."""
    return [np.ones(1)] if inside else []


def _lines(inside: frozenset[Corner]) -> list[NDArray]:
    """Return the normals of the contour in a square."""
    square = [(0, 0), (0, 1), (1, 1), (1, 0)]
    steps = [np.subtract(b, a) for a, b in _segments(square, inside)]
    return [np.array([-step[1], step[0]]) for step in steps]


def _triangles(inside: frozenset[Corner]) -> list[NDArray]:
    """Return the normals of the surface in a cube, as triangles that fan out from one vertex.

    Of the possible fans of a bent polygon the largest is taken, as in the usual tables.
    """
    normals = []
    for polygon in _polygons(inside):
        fans = [_fan(np.roll(polygon, shift, axis=0)) for shift in range(len(polygon))]
        normals += max(fans, key=lambda fan: round(sum(np.linalg.norm(n) for n in fan), 9))
    return normals


def _fan(points: NDArray) -> list[NDArray]:
    spokes = points[1:] - points[0]
    return [np.cross(a, b) / 2 for a, b in pairwise(spokes)]


def _segments(square: list[Corner], inside: frozenset[Corner]) -> list[tuple[tuple, tuple]]:
    """Return the lines that cut the inside corners off a square (corners in cyclic order)."""
    flags = [corner in inside for corner in square]
    middles = [
        tuple((a + b) / 2 for a, b in zip(square[i], square[(i + 1) % 4], strict=True))
        for i in range(4)
    ]
    cut = [i for i in range(4) if flags[i] != flags[(i + 1) % 4]]
    if len(cut) == 2:
        return [(middles[cut[0]], middles[cut[1]])]
    if len(cut) == 4:
        return [(middles[i - 1], middles[i]) for i in range(4) if flags[i]]
    return []


def _polygons(inside: frozenset[Corner]) -> list[NDArray]:
    """Return the closed lines, as (N, 3) points, in which the surface meets the cube's faces."""
    neighbours: dict[tuple, list[tuple]] = {}
    for face in _faces():
        for a, b in _segments(face, inside):
            neighbours.setdefault(a, []).append(b)
            neighbours.setdefault(b, []).append(a)
    polygons = []
    while neighbours:
        line = [min(neighbours)]
        while line[-1] in neighbours:
            onward = [point for point in neighbours.pop(line[-1]) if point in neighbours]
            line += onward[:1]
        polygons.append(np.array(line))
    return polygons


def _faces() -> list[list[Corner]]:
    """Return the six faces of a cube, corners in cyclic order."""
    faces = []
    for axis, side in product(range(3), (0, 1)):
        for_axis = []
        for pair in ((0, 0), (0, 1), (1, 1), (1, 0)):
            corner = list(pair)
            corner.insert(axis, side)
            for_axis.append(tuple(corner))
        faces.append(for_axis)
    return faces

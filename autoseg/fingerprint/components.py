"""Connected parts of classes, counted slab by slab.

Letters in shapes: B spatial axes of a slab, at least two.
"""

import numpy as np
from numpy.typing import NDArray


class SlabComponents:
    """How many parts, connected by faces, each class has; slabs along the first axis, in order."""

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._class_of: list[NDArray] = [np.zeros(1, np.int64)]
        """Class of each part of a slab; the first stands for the background."""
        self._count = 0
        self._joined: list[NDArray] = []
        """Pairs of parts that touch across slabs, (N, 2)."""
        self._edge: tuple[NDArray, NDArray] | None = None
        """Last slice of the slab before: classes and parts."""

    def add(self, classes: NDArray) -> None:
        """Take (*B) classes into account; 0 and less is background."""
        import cc3d

        if not (classes > 0).any():
            self._edge = None
            return
        inside = np.maximum(classes, 0)
        inside = inside.view(inside.dtype.str.replace("i", "u"))
        faces = 6 if inside.ndim == 3 else 4
        parts, count = cc3d.connected_components(inside, connectivity=faces, return_N=True)
        class_of = np.zeros(int(count) + 1, np.int64)
        class_of[parts] = inside  # all voxels of a part have one class
        self._class_of.append(class_of[1:])
        first, last = (parts[end].astype(np.int64) + self._count for end in (0, -1))
        if self._edge is not None:
            before, numbers = self._edge
            touch = (before == inside[0]) & (before > 0)
            pairs = np.stack([numbers[touch], first[touch]], axis=1)
            self._joined.append(np.unique(pairs, axis=0))
        self._edge = inside[-1].copy(), last
        self._count += int(count)

    def counts(self) -> NDArray[np.int64]:
        """Return the number of parts of each class; 0 of the background."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        pairs = np.concatenate([np.zeros((0, 2), np.int64), *self._joined])
        size = self._count + 1
        links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (size, size))
        num_groups, group = connected_components(links, directed=False)
        class_of_group = np.zeros(num_groups, np.int64)
        class_of_group[group] = np.concatenate(self._class_of)
        counts = np.bincount(class_of_group, minlength=self._num_classes)
        counts[0] = 0
        return counts

"""TIFF pictures with masks, in tiles or strips: small ones that stand for large ones.

Letters in shapes: C channels.
"""

from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (70, 90)


def write_pictures(
    root: Path,
    *,
    kind: str = "u1",
    values: tuple[int, ...] = (0, 1, 2),
    broken: bool = False,
    num_cases: int = 3,
    shape: tuple[int, int] = SHAPE,
    **options: Any,  # noqa: ANN401
) -> Path:
    """Write pictures with nested discs of `values` as folders of images and masks.

    Colours of 8 bits, else one channel of the type `kind`; `options` are tifffile's.
    """
    import tifffile

    for index in range(num_cases):
        rng = np.random.default_rng(index)
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        distance = np.hypot(rows - shape[0] / 2 - index, columns - shape[1] / 2)
        mask = np.full(shape, values[0], np.uint8)
        for step, value in enumerate(values[1:]):
            mask[distance < min(shape) / (3 + 2 * step)] = value
        image = rng.integers(1, 100, (*shape, 3)) + 40 * (mask[..., None] > values[0])
        image[:4], image[:, -3:] = 0, 0
        array = image.astype(np.uint8) if kind == "u1" else image[..., 0].astype(kind)
        if broken:
            array[10, 11], array[40, 50] = np.nan, np.inf
        for name, pixels in (("images", array), ("masks", mask)):
            path = root / name / f"case_{index}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            photometric = "rgb" if pixels.ndim == 3 else "minisblack"
            tifffile.imwrite(path, pixels, photometric=photometric, **options)
    return root

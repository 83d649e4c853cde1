"""Memory and time of `check`, `plan` and `preprocess` on pictures that need not fit into memory.

`python benchmarks/big_images.py` makes large TIFFs in tiles, with masks, in a temporary folder, and
prints seconds and the peak resident memory of all processes, beside the bytes of an image.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks.measure import measure
from benchmarks.ours import AUTOSEG

TILE = 512
CELL = 2048
"""Distance of the discs that are to be found."""
NUM_NOISES = 8
"""Tiles of noise, which repeat: drawing more would take longer than what is measured."""
COLOURS = np.array([[150, 150, 150], [115, 80, 130]], np.uint8)
"""Of the background and of discs, without noise."""


def main() -> None:
    """Print what the commands take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=20_000, help="edge of a picture, pixels")
    parser.add_argument("--cases", type=int, default=2, help="pictures")
    parser.add_argument("--compression", default="zlib", help="as tifffile calls it, or none")
    parser.add_argument("--folder", type=Path, help="where they are made; default: temporary")
    wanted = parser.parse_args()
    compression = None if wanted.compression == "none" else wanted.compression
    with tempfile.TemporaryDirectory(dir=wanted.folder) as folder:
        data, workspace = Path(folder, "data"), Path(folder, "work")
        for index in range(wanted.cases):
            make_case(data, index, wanted.size, compression)
        size = wanted.size**2 * 3
        shown = next((data / "images").iterdir()).stat().st_size
        print(
            f"{wanted.cases} pictures of {wanted.size} x {wanted.size}: {size / 1e6:.0f} MB each, "
            f"{shown / 1e6:.0f} MB as a file"
        )
        commands = (
            ("check", data),
            ("plan", data, "-w", workspace, "--budget", "1h", "--planner", "nnunet"),
            ("preprocess", "-w", workspace),
        )
        for command in commands:
            with Path(folder, "output").open("w") as log:
                taken = measure((AUTOSEG, *command), log=log)
            print(f"{command[0]}: {taken}, exit code {taken.exit_code}", flush=True)
            if taken.exit_code:
                print(Path(folder, "output").read_text(encoding="utf-8"))


def make_case(root: Path, index: int, size: int, compression: str | None) -> None:
    """Write a picture of noisy discs, tile by tile, and its mask."""
    noise = np.random.default_rng(index).integers(0, 40, (NUM_NOISES, TILE, TILE, 3), np.uint8)
    for name, is_mask, shape in (("images", False, (size, size, 3)), ("masks", True, (size, size))):
        path = root / name / f"case_{index}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(
            path,
            (mask if is_mask else picture for mask, picture in _tiles(index, size, noise)),
            shape=shape,
            dtype=np.uint8,
            tile=(TILE, TILE),
            bigtiff=True,
            compression=compression,
            compressionargs={"level": 1} if compression == "zlib" else None,
            photometric="minisblack" if is_mask else "rgb",
        )


def _tiles(
    index: int, size: int, noise: NDArray[np.uint8]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield mask and picture of each tile, row by row."""
    count, radius = -(-size // TILE), 300 + 100 * index  # pictures differ
    for number in range(count * count):
        row, column = divmod(number, count)
        rows, columns = (
            (np.arange(TILE) + start * TILE) % CELL - CELL / 2 for start in (row, column)
        )
        mask = (rows[:, None] ** 2 + columns**2 < radius**2).astype(np.uint8)
        yield mask, COLOURS[mask] + noise[(number * 7 + number // 5) % NUM_NOISES]


if __name__ == "__main__":
    main()

"""How long `autoseg check` takes: on a data set, and on thousands of made cases by their headers.

`python benchmarks/check.py DATASET` prints seconds and peak memory of both. Made cases are
small NIfTI volumes in a temporary folder; a tenth as many are listed too, to see how memory grows.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from autoseg.runtime.images import Geometry, Image, write_image, write_labels
from benchmarks.measure import measure
from benchmarks.ours import AUTOSEG

SHAPE = (8, 10, 12)


def main() -> None:
    """Print what checking takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="data set")
    parser.add_argument("--spec", type=Path, help="JSON file that declares labels and channels")
    parser.add_argument("--cases", type=int, default=10_000, help="made cases")
    wanted = parser.parse_args()
    spec = ("--spec", wanted.spec) if wanted.spec else ()
    with tempfile.TemporaryDirectory() as folder, Path(folder, "output").open("w") as log:
        taken = measure((AUTOSEG, "check", wanted.data, *spec), log=log)
        print(f"{wanted.data.name}: {taken}")
        for count in (wanted.cases // 10, wanted.cases):
            root = make_cases(Path(folder, str(count)), count)
            taken = measure((AUTOSEG, "check", root, "--headers"), log=log)
            print(f"headers of {count} made cases: {taken}")


def make_cases(root: Path, count: int) -> Path:
    """Write small volumes with one labelled box each, and return their folder."""
    geometry = Geometry((1.0, 1.0, 1.0))
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 3:6, 4:8] = 1
    for index in range(count):
        image = Image((labels + index % 7).astype(np.int16)[None], geometry)
        write_image(root / "images" / f"case_{index:05d}.nii.gz", image)
        write_labels(root / "labels" / f"case_{index:05d}.nii.gz", labels, geometry)
    return root


if __name__ == "__main__":
    main()

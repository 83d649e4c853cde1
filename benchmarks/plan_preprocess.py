"""Planning and preparing a data set, here and with nnU-Net, in time and memory.

Both read the same files, one after the other. `--compare` prepares once more under the planner
`nnunet`, and prints how far the prepared images are apart.
"""

import tempfile
from pathlib import Path

import blosc2
import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Dataset
from autoseg.preprocess.store import CaseStore
from autoseg.workspace import Workspace
from benchmarks.measure import Measurement
from benchmarks.nnunet import NnUnet, version
from benchmarks.ours import autoseg, both_sides, peer_arguments, print_comparison


def prepare(data: Path, planner: str, root: Path) -> tuple[Workspace, Measurement]:
    """Plan and preprocess with autoseg; return the workspace and what both took together."""
    folder = Path(tempfile.mkdtemp(dir=root))
    workspace = Workspace(folder / "a.autoseg")
    planned = autoseg("plan", data, "-w", workspace.root, "--planner", planner, folder=folder)
    return workspace, planned + autoseg("preprocess", "-w", workspace.root, folder=folder)


def print_differences(dataset: Dataset, peer: NnUnet, workspace: Workspace) -> None:
    """Print how far the prepared images are apart, RMS in standard deviations."""
    for folder in sorted(workspace.preprocessed("").iterdir()):
        theirs = peer.prepared(folder.name)
        if not theirs.is_dir():
            print(f"{folder.name}: nnU-Net has none")
            continue
        store = CaseStore(folder)
        found = [
            difference(read(store.image(case.id)), read(blosc2.open(theirs / f"{case.id}.b2nd")))
            for case in dataset.cases
        ]
        print(
            f"{folder.name}: RMS difference {np.median(found):.5f} (median of {len(found)} cases), "
            f"{np.max(found):.5f} (worst)"
        )


def read(array: object) -> NDArray[np.float32]:
    """Return an opened blosc2 array whole."""
    assert isinstance(array, blosc2.NDArray)
    return np.asarray(array[:], dtype=np.float32)


def difference(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Return the RMS difference of two arrays, infinite if their shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float(np.sqrt(np.mean(np.square(ours - theirs, dtype=np.float64))))


def main() -> None:
    """Compare on the data set in the arguments."""
    parser = peer_arguments(__doc__)
    parser.add_argument("--planner", default="auto", help="ours, for time and memory")
    parser.add_argument("--compare", action="store_true", help="also compare the prepared images")
    arguments = parser.parse_args()
    with both_sides(arguments) as (dataset, peer, folder):
        print(f"{dataset.name}: {len(dataset.cases)} cases, nnU-Net {version(peer.python)}")
        _, ours = prepare(peer.raw, arguments.planner, folder)
        words = ["-d", "1", "-np", "2", "--verify_dataset_integrity"]
        print_comparison(ours, peer.run("plan_and_preprocess", *words))
        if arguments.compare:
            print_differences(dataset, peer, prepare(peer.raw, "nnunet", folder)[0])


if __name__ == "__main__":
    main()

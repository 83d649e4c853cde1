"""What the benchmarks share: our command, a subset of a data set, a temporary place."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.open import open_dataset
from autoseg.dataset.spec import load_spec
from benchmarks.measure import Measurement, must
from benchmarks.nnunet import NnUnet, convert

AUTOSEG = Path(sys.executable).with_name("autoseg")


def peer_arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every comparison with nnU-Net."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="data set")
    parser.add_argument("--spec", type=Path, help="JSON file that declares labels and channels")
    parser.add_argument(
        "--nnunet-python",
        type=Path,
        required=True,
        help="Python of the virtual environment in which nnU-Net (nnunetv2) is installed",
    )
    parser.add_argument("--cases", type=int, help="use only the first N cases")
    return parser


def dataset_of(arguments: argparse.Namespace) -> Dataset:
    """Return the data set that the arguments name, with as many cases as they ask for."""
    spec = load_spec(arguments.spec) if arguments.spec else None
    dataset = open_dataset(arguments.data.absolute(), spec, None)
    return dataset.revised(cases=dataset.cases[: arguments.cases])


@contextmanager
def both_sides(arguments: argparse.Namespace) -> Iterator[tuple[Dataset, NnUnet, Path]]:
    """Yield the data set, nnU-Net with a copy of it in its layout, and a temporary folder.

    Both tools read the same folder of links.
    """
    dataset = dataset_of(arguments)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        peer = NnUnet(arguments.nnunet_python.absolute(), folder / "nnunet")
        convert(dataset, peer)
        yield dataset, peer, folder


def autoseg(*words: str | Path, folder: Path) -> Measurement:
    """Run one of our commands in a folder and return what it took."""
    return must([AUTOSEG, *words], folder=folder, variables={})


def print_comparison(ours: Measurement, peers: Measurement) -> None:
    """Print both measurements and their ratios."""
    print(f"autoseg:  {ours}")
    print(f"nnU-Net:  {peers}")
    print(f"nnU-Net takes {peers.seconds / ours.seconds:.2f} times as long")
    print(f"autoseg takes {ours.peak_bytes / peers.peak_bytes:.2f} of its memory")

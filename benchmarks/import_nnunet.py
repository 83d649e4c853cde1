"""Do imported nnU-Net models give nnU-Net's logits and labels? Both predict the same raw files.

python benchmarks/import_nnunet.py FOLDER IMAGES --nnunet-python NNUNET

FOLDER is what nnU-Net has trained (TRAINER__PLANS__CONFIGURATION), IMAGES a folder of raw images.
Equal labels say little where hardly any voxel is foreground: how many are is printed besides.
`benchmarks/train_nnunet.py` makes such a FOLDER in minutes, of a plain or a residual network.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from autoseg.runtime.images import read_labels
from autoseg.runtime.manifest import Manifest, load_manifest
from autoseg.runtime.model import Model
from benchmarks.measure import must
from benchmarks.ours import autoseg

LOGITS = """
import sys
from pathlib import Path
import numpy as np, torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
folder, tile, target = map(Path, sys.argv[1:])
predictor = nnUNetPredictor(device=torch.device("cpu"))
predictor.initialize_from_trained_model_folder(str(folder), None)
total = 0
with torch.inference_mode():
    for weights in predictor.list_of_parameters:
        predictor.network.load_state_dict(weights)
        total = total + predictor.network.eval()(torch.from_numpy(np.load(tile)))
np.save(target, (total / len(predictor.list_of_parameters)).numpy())
"""
LOGIT_TOLERANCE = 1e-4
LEAST_EQUAL = 0.995


def main() -> int:
    """Print the comparison; return 1 if logits or labels differ too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--nnunet-python", type=Path, required=True)
    parser.add_argument("--cases", type=int, help="only the first few")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="benchmark-") as name:
        root = Path(name)
        model = root / "model"
        autoseg("import-model", options.folder.absolute(), "-o", model, folder=root)
        manifest = load_manifest(model)
        difference = compare_logits(options.folder, model, options.nnunet_python, root)
        print(f"largest difference of logits: {difference:.2e} (aim {LOGIT_TOLERANCE:.0e})")
        images = _few(options.images, root / "images", options.cases)
        good = difference <= LOGIT_TOLERANCE
        for words in ((), ("--disable_tta",)):
            found = root / f"ours{len(words)}"
            expected = root / f"theirs{len(words)}"
            run_nnunet(options, images, expected, words)
            fewer = ("--no-tta",) if words else ()
            autoseg("predict", model, images, "-o", found, *fewer, folder=root)
            title = "without" if words else "with"
            equal = report(f"{title} mirroring", manifest, expected, found)
            good &= equal >= LEAST_EQUAL
    return 0 if good else 1


def compare_logits(folder: Path, model: Path, python: Path, root: Path) -> float:
    """Return the largest difference between our and nnU-Net's logits of a tile of noise."""
    opened = Model(model)
    (item,) = opened.manifest.configurations
    shape = (1, len(item.recipe.channels), *item.patch_size)
    tile = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.save(root / "tile.npy", tile)
    words = [folder.absolute(), root / "tile.npy", root / "logits.npy"]
    must([python, "-c", LOGITS, *words], folder=root, variables=_variables(root))
    constants = np.zeros(shape[:2], np.float32)
    ours = opened.networks[0](tile, constants, constants + 1)
    return float(np.abs(ours - np.load(root / "logits.npy")).max())


def run_nnunet(
    options: argparse.Namespace, images: Path, target: Path, words: Sequence[str]
) -> None:
    """Predict with nnU-Net, all folds."""
    program = options.nnunet_python.with_name("nnUNetv2_predict_from_modelfolder")
    folds = sorted(path.parent.name[5:] for path in options.folder.glob("fold_*/*_final.pth"))
    few = ["-device", "cpu", "-npp", "1", "-nps", "1", "-f", *folds]
    place = ["-i", images, "-o", target, "-m", options.folder.absolute()]
    variables = _variables(target.parent)
    must([program, *place, *few, *words], folder=target.parent, variables=variables)


def _variables(folder: Path) -> dict[str, Path]:
    """Return what nnU-Net wants to be told even where it does not use it."""
    return {f"nnUNet_{name}": folder for name in ("raw", "preprocessed", "results")}


def report(title: str, manifest: Manifest, expected: Path, found: Path) -> float:
    """Print how alike two folders of labels are and return the fraction of equal voxels."""
    paths = sorted(path for path in expected.iterdir() if path.name.endswith(manifest.file_ending))
    pairs = [
        (read_labels(path).array[0], read_labels(found / path.name).array[0]) for path in paths
    ]
    equal = sum(int((a == b).sum()) for a, b in pairs)
    total = sum(a.size for a, _ in pairs)
    worst = min(float((a == b).mean()) for a, b in pairs)
    foreground = sum(int((a > 0).sum()) for a, _ in pairs)
    dice = ", ".join(
        f"{name} {_dice(pairs, value):.4f}"
        for name, value in zip(manifest.labels.names[1:], manifest.labels.values[1:], strict=True)
    )
    print(
        f"{title}: {len(pairs)} cases, {equal} of {total} voxels equal ({equal / total:.5%}, "
        f"worst case {worst:.5%}); nnU-Net finds {foreground} voxels of foreground, of which "
        f"{_equal_foreground(pairs)} are equal; Dice between the two: {dice}",
        flush=True,
    )
    return equal / total


def _equal_foreground(pairs: Sequence[tuple[NDArray, NDArray]]) -> int:
    """Return how many foreground voxels of the first of each pair have the second's value."""
    return sum(int(((a > 0) & (a == b)).sum()) for a, b in pairs)


def _dice(pairs: Sequence[tuple[NDArray, NDArray]], value: int) -> float:
    """Return the Dice of one value over all voxels of all pairs; NaN where neither has it."""
    both = sum(int(((a == value) & (b == value)).sum()) for a, b in pairs)
    either = sum(int((a == value).sum() + (b == value).sum()) for a, b in pairs)
    return 2 * both / either if either else float("nan")


def _few(images: Path, target: Path, count: int | None) -> Path:
    """Return a folder with copies of the first images."""
    target.mkdir()
    paths = sorted(path for path in images.iterdir() if path.is_file())
    stems = sorted({path.name.rsplit("_", 1)[0] for path in paths})[:count]
    for path in paths:
        if path.name.rsplit("_", 1)[0] in stems:
            shutil.copyfile(path, target / path.name)
    return target


if __name__ == "__main__":
    sys.exit(main())

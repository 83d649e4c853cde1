"""Predicting the first cases of a data set, here and with nnU-Net, from shell to shell.

`--mode own` compares the plans that both tools make by themselves, `--mode same` the same topology
in both (our planner `nnunet`, small batches to train fast). Our model is trained for a few steps,
because an export offers bf16 only when its labels agree with fp32's, which random weights' do not;
nnU-Net's has random weights. `--model` takes a trained model instead.
"""

from pathlib import Path

from autoseg.dataset.dataset import Dataset
from autoseg.workspace import Workspace
from benchmarks.nnunet import NnUnet, version
from benchmarks.ours import autoseg, both_sides, peer_arguments, print_comparison

STEPS = "150"


def our_model(data: Path, planner: tuple[str, ...], configuration: str, folder: Path) -> Path:
    """Return the artifact of a model of one fold, trained for `STEPS` steps."""
    workspace = Workspace(folder / "a.autoseg")
    autoseg("plan", data, "-w", workspace.root, *planner, folder=folder)
    only = ("--configurations", configuration, "--folds", "0", "--steps", STEPS)
    autoseg("train", "-w", workspace.root, *only, "--no-images", folder=folder)
    return workspace.model


def link_images(dataset: Dataset, peer: NnUnet, num_images: int, folder: Path) -> Path:
    """Return a folder with links to the images of the first cases, in nnU-Net's layout."""
    folder.mkdir()
    for case in dataset.cases[:num_images]:
        for path in sorted((peer.raw / "imagesTr").glob(f"{case.id}_[0-9]*")):
            (folder / path.name).symlink_to(path.resolve())
    return folder


def main() -> None:
    """Compare on the data set in the arguments."""
    parser = peer_arguments(__doc__)
    parser.add_argument("--mode", choices=("own", "same"), default="own")
    parser.add_argument("--budget", default="20m", help="of the plan in mode `own`")
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--images", type=int, default=52, help="predict the first N cases")
    parser.add_argument("--model", type=Path, help="our trained model, instead of a short training")
    arguments = parser.parse_args()
    own = ("--budget", arguments.budget)
    name = arguments.configuration
    same = ("--planner", "nnunet", "--set", f"{name}.batch_size=2")
    planner = own if arguments.mode == "own" else same
    with both_sides(arguments) as (dataset, peer, folder):
        model = arguments.model or our_model(peer.raw, planner, name, folder)
        peer.plan()
        peer.random_model(name)
        images = link_images(dataset, peer, arguments.images, folder / "images")
        print(f"mode {arguments.mode}, {name}, nnU-Net {version(peer.python)}")
        output = folder / "ours"
        ours = autoseg("predict", model.absolute(), images, "-o", output, "--no-tta", folder=folder)
        theirs = folder / "theirs"
        words = ["-i", images, "-o", theirs, "-d", "1", "-c", name, "-f", "0", "-device", "cpu"]
        words += ["--disable_tta", "-npp", "2", "-nps", "2"]
        print_comparison(ours, peer.run("predict", *words))
        count = {path: len(list(path.glob(f"*{dataset.file_ending}"))) for path in (output, theirs)}
        print(f"{count[output]} and {count[theirs]} files written")


if __name__ == "__main__":
    main()

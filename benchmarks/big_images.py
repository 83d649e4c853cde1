"""Memory and time of the commands on pictures that need not fit into memory.

`python -m benchmarks.big_images` makes large TIFFs in tiles, with masks, in a temporary folder, and
prints seconds and the peak resident memory of all processes, beside the bytes of an image.
`predict` labels one of them with two networks whose weights are drawn, not learnt: a convolution of
one pixel, which shows the engine alone, and a U-Net with 8 and 16 features at a half and a quarter
of the resolution.
"""

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from autoseg.runtime.big_pictures import open_levels
from autoseg.runtime.manifest import Configuration, Manifest, describe_file, load_manifest
from autoseg.runtime.recipe import Channel, Labels, Recipe
from autoseg.runtime.stream_memory import expected_stream
from benchmarks.measure import measure
from benchmarks.ours import AUTOSEG

TILE = 512
PATCH = 512
PROGRAM = """
import sys
from autoseg.cli.main import main
from autoseg.runtime.processors import resident_bytes
main(sys.argv[1:])
print(resident_bytes()[1])
"""
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
    parser.add_argument(
        "--commands", default="check,plan,preprocess,predict", help="which, with commas between"
    )
    parser.add_argument("--networks", default="pixel,unet", help="of predict")
    wanted = parser.parse_args()
    chosen = wanted.commands.split(",")
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
            if command[0] not in chosen:
                continue
            with Path(folder, "output").open("w") as log:
                taken = measure((AUTOSEG, *command), log=log)
            print(f"{command[0]}: {taken}, exit code {taken.exit_code}", flush=True)
            if taken.exit_code:
                print(Path(folder, "output").read_text(encoding="utf-8"))
        for network in wanted.networks.split(",") if "predict" in chosen else ():
            _predict(network, Path(folder), next((data / "images").iterdir()))


def _predict(network: str, folder: Path, image: Path) -> None:
    """Print what predicting one picture takes, beside what was expected."""
    model = write_model(folder / f"model_{network}", network)
    levels = open_levels(image)
    demand = expected_stream(load_manifest(model), levels)
    small = folder / "small.tif"
    tifffile.imwrite(small, np.full((PATCH, PATCH, 3), 150, np.uint8), photometric="rgb")
    base = _program_bytes(model, small, folder / f"small_{network}")
    with (folder / "output").open("w") as log:
        out = folder / f"labels_{network}"
        command = (AUTOSEG, "predict", model, image, "-o", out, "--backend", "onnx")
        taken = measure(command, log=log)
    if taken.exit_code:
        raise SystemExit((folder / "output").read_text(encoding="utf-8"))
    expected, pixels = base + demand.peak, math.prod(levels[0].shape)
    labels = folder / f"labels_{network}" / image.name
    print(
        f"predict, {network}: {taken}; {pixels / taken.seconds:.0f} pixels a "
        f"second; the program with one tile {base / 1e6:.0f} MB, expected "
        f"{expected / 1e6:.0f} MB ({expected / taken.peak_bytes:.2f}), labels as a file "
        f"{labels.stat().st_size / 1e6:.0f} MB",
        flush=True,
    )


def _program_bytes(model: Path, image: Path, out: Path) -> int:
    """Return what the program itself takes at most, with a picture of one tile."""
    words = [sys.executable, "-c", PROGRAM, "predict", model, image, "-o", out, "--backend", "onnx"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def write_model(folder: Path, network: str) -> Path:
    """Write an artifact for pictures with three classes; `network` is "pixel" or "unet"."""
    import onnx
    from onnx import NodeProto, TensorProto, helper

    folder.mkdir()
    rng, constants = np.random.default_rng(0), []

    def convolution(
        source: str, target: str, features: tuple[int, int], *, edge: int = 3, stride: int = 1
    ) -> NodeProto:
        weights = rng.normal(size=(features[1], features[0], edge, edge))
        weights *= math.sqrt(2 / (features[0] * edge * edge))
        name = f"{target}.weight"
        constants.append(
            helper.make_tensor(name, TensorProto.FLOAT, weights.shape, weights.ravel())
        )
        return helper.make_node(
            "Conv",
            [source, name],
            [target],
            kernel_shape=(edge, edge),
            pads=(edge // 2,) * 4,
            strides=(stride, stride),
        )

    axes = helper.make_tensor("axes", TensorProto.INT64, (2,), [2, 3])
    scales = helper.make_tensor("scales", TensorProto.FLOAT, (4,), [1, 1, 2, 2])
    nodes = [
        helper.make_node("Unsqueeze", ["mean", "axes"], ["means"]),
        helper.make_node("Unsqueeze", ["std", "axes"], ["stds"]),
        helper.make_node("Sub", ["tile", "means"], ["centred"]),
        helper.make_node("Div", ["centred", "stds"], ["normal"]),
    ]
    if network == "unet":
        nodes += [
            convolution("normal", "a", (3, 8), stride=2),
            helper.make_node("Relu", ["a"], ["fine"]),
            convolution("fine", "b", (8, 16), stride=2),
            helper.make_node("Relu", ["b"], ["c"]),
            convolution("c", "d", (16, 16)),
            helper.make_node("Relu", ["d"], ["e"]),
            helper.make_node("Resize", ["e", "", "scales"], ["coarse"], mode="nearest"),
            helper.make_node("Concat", ["fine", "coarse"], ["both"], axis=1),
            convolution("both", "f", (24, 8)),
            helper.make_node("Relu", ["f"], ["g"]),
            helper.make_node("Resize", ["g", "", "scales"], ["last"], mode="nearest"),
        ]
    last = ("last", 8) if network == "unet" else ("normal", 3)
    nodes.append(convolution(last[0], "logits", (last[1], 3), edge=1))
    sizes = ["batch", 3, "y", "x"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes if name == "tile" else kinds)
        for name, kinds in (("tile", sizes), ("mean", sizes[:2]), ("std", sizes[:2]))
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    constants += [axes, scales] if network == "unet" else [axes]
    graph = helper.make_graph(nodes, network, inputs, [output], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(made, folder / "network.onnx")
    (folder / "manifest.json").write_text(_manifest(folder).to_json(), encoding="utf-8")
    return folder


def _manifest(folder: Path) -> Manifest:
    channels = tuple(Channel(name=name, scheme="zscore") for name in ("red", "green", "blue"))
    recipe = Recipe(
        transpose=(0, 1),
        spacing=(1.0, 1.0),
        channels=channels,
        order="resample-normalise",
        spline_order=3,
        coarse_ratio=3.0,
        padding="mirror",
        overlap=0.5,
        mirror_axes=(),
        test_time_mirroring=False,
    )
    item = Configuration(
        name="2d",
        weight=1.0,
        folds=("0",),
        recipe=recipe,
        patch_size=(PATCH, PATCH),
        tiles_per_case=1.0,
        input="raw",
        spatial="dynamic",
        spatial_multiple=(4, 4),
        onnx="network.onnx",
        torchscript="network.onnx",
        parity=(),
        timings=(),
    )
    return Manifest(
        autoseg_version="0",
        name=folder.name,
        planner="none",
        plan_digest="0",
        fingerprint_digest="0",
        seed=0,
        unit="pixel",
        channels=tuple(channel.name for channel in channels),
        channel_files="single",
        file_ending=".tif",
        labels=Labels(names=("background", "disc", "edge"), values=(0, 1, 2)),
        configurations=(item,),
        postprocessing=(),
        verification=None,
        files=(describe_file(folder, "network.onnx"),),
    )


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

"""Memory and time of predicting one large volume, with a network that costs nothing.

A convolution of one voxel takes the network's place, so that cutting tiles, blending them and
resampling to the image's grid is all that is seen. Prints the peak that was expected beside the
measured one, for each number of classes. Peers get the image as their network takes it, already
resampled, and a limit of address space: they fit or they fail. Seconds are those of the processor,
so that other work on the machine does not count.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.runtime.geometry import Geometry, Image
from autoseg.runtime.governor import Governor, Room
from autoseg.runtime.manifest import Configuration, Manifest, describe_file
from autoseg.runtime.memory import expected_memory
from autoseg.runtime.model import BALANCED, Model
from autoseg.runtime.processors import resident_bytes, return_large_blocks
from autoseg.runtime.recipe import Channel, Labels, Recipe

SPACING = (1.0, 0.8, 0.8)
"""Of the image, mm; the network works on 1 mm."""
PATTERN = 32
"""Edge of the smooth noise that the volume repeats."""
GIB = 2**30

PEER = """
import json, sys, time
import numpy as np
import torch
from torch.nn.functional import interpolate
tool, classes, shape, new, patch = json.loads(sys.argv[1])
torch.set_num_threads(1)
pattern = torch.rand(32, 32, 32, generator=torch.Generator().manual_seed(0))
repeats = [-(-n // 32) for n in new]
image = pattern.repeat(repeats)[: new[0], : new[1], : new[2]][None].contiguous()
network = torch.nn.Conv3d(1, classes, 1).eval()
start = time.process_time()
with torch.inference_mode():
    if tool == "MONAI":
        from monai.inferers import sliding_window_inference
        logits = sliding_window_inference(
            image[None], patch, 1, network, overlap=0.5, mode="gaussian"
        )
        labels = interpolate(logits, size=shape, mode="trilinear").argmax(1)
    else:
        from types import SimpleNamespace
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.preprocessing.resampling.default_resampling import (
            resample_data_or_seg_to_shape as resample,
        )
        predictor = nnUNetPredictor(
            tile_step_size=0.5, use_gaussian=True, use_mirroring=False,
            perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False,
        )
        predictor.network = network
        predictor.configuration_manager = SimpleNamespace(patch_size=patch)
        predictor.label_manager = SimpleNamespace(num_segmentation_heads=classes)
        predictor.allowed_mirroring_axes = None
        logits = predictor.predict_sliding_window_return_logits(image).numpy()
        old = [b / a for a, b in zip(new, shape)]
        labels = resample(logits, shape, old, [1, 1, 1], is_seg=False, order=1, order_z=0)
        labels = labels.argmax(0)
seconds = time.process_time() - start
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "peak": int(peak.split()[1]) * 1024}))
"""


def main() -> None:
    """Compare on the volume in the arguments."""
    wanted = _parser().parse_args()
    if wanted.child is not None:
        _measure_ours(wanted, wanted.child)
        return
    peers = {"MONAI": wanted.monai_python, "nnU-Net": wanted.nnunet_python}
    print(f"image {wanted.shape}, network's grid {_new_shape(wanted.shape)}, patch {wanted.patch}")
    for classes in wanted.classes:
        ours = _ours(wanted, classes)
        near = ours["expected"] / ours["peak"]
        print(
            f"{classes} classes: autoseg {ours['seconds']:.1f} s, peak {ours['peak'] / 1e9:.2f} GB "
            f"(the program {ours['base'] / 1e9:.2f}), expected {ours['expected'] / 1e9:.2f} GB "
            f"({near:.2f}), target {ours['target'] / 1e9:.2f} GB {ours['measures']}",
            flush=True,
        )
        for tool, python in peers.items():
            if python is not None:
                _print_peer(tool, _peer(tool, python, wanted, classes), ours, wanted.limit)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=[300, 512, 512], help="ZYX")
    parser.add_argument("--classes", type=int, nargs="+", default=[3, 20, 100])
    parser.add_argument("--patch", type=int, nargs=3, default=[48, 160, 160], help="ZYX")
    parser.add_argument("--ram", type=float, help="GiB that autoseg may take; default: no limit")
    parser.add_argument("--monai-python", type=Path, help="Python that has MONAI")
    parser.add_argument("--nnunet-python", type=Path, help="Python that has nnunetv2")
    parser.add_argument("--limit", type=float, default=12, help="address space of a peer, GiB")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    return parser


def _new_shape(shape: list[int]) -> list[int]:
    return [max(1, round(n * spacing)) for n, spacing in zip(shape, SPACING, strict=True)]


def _ours(wanted: argparse.Namespace, classes: int) -> dict[str, Any]:
    """Return what a process of its own took."""
    words = ["--shape", *wanted.shape, "--patch", *wanted.patch, "--child", classes]
    words += ["--ram", wanted.ram] if wanted.ram else []
    command = [sys.executable, "-m", "benchmarks.predict_memory", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def _measure_ours(wanted: argparse.Namespace, classes: int) -> None:
    """Predict in this process, and print what it took."""
    with tempfile.TemporaryDirectory() as name:
        model = make_model(Path(name), classes, tuple(wanted.patch))
        model.predict_image(Image(make_volume((8, 8, 8)), Geometry(SPACING)))  # libraries
        return_large_blocks()
        base, _ = resident_bytes()
        image = Image(make_volume(tuple(wanted.shape)), Geometry(SPACING))
        demand = expected_memory(model.manifest, wanted.shape, SPACING, voxel_bytes=2)
        limit = int(wanted.ram * GIB) if wanted.ram else 2**62
        start = time.process_time()
        parts = model.prepare(image)
        del image  # as of a file
        governor = Governor(Room(limit=limit, most=limit), demand.around, None)
        result = model.predict_prepared(parts, BALANCED, probabilities=False, scratch=governor)
        seconds = time.process_time() - start
    assert result.labels.shape == tuple(wanted.shape)
    rows = math.prod(_new_shape(wanted.shape)[1:]) * min(wanted.patch[0], wanted.shape[0])
    batch = (classes + 1) * math.prod(wanted.patch) * 4
    facts = {
        "seconds": seconds,
        "measures": governor.measures,
        "base": base,
        "peak": resident_bytes()[1],
        "expected": min(base + demand.peak, max(limit, base + demand.least)),
        "target": base
        + demand.image
        + demand.prepared
        + demand.labels
        + classes * rows * 4
        + batch,
    }
    print(json.dumps(facts))


def make_model(folder: Path, classes: int, patch: tuple[int, ...]) -> Model:
    """Return a model whose network is a convolution of one voxel."""
    import onnx
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    weights = rng.normal(size=(classes, 1, 1, 1, 1)).astype(np.float32)
    bias = rng.normal(size=classes).astype(np.float32)
    sizes = ["batch", 1, *(f"s{axis}" for axis in range(3))]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes if name == "tile" else shape)
        for name, shape in (("tile", sizes), ("mean", ["batch", 1]), ("std", ["batch", 1]))
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    nodes = [helper.make_node("Conv", ["tile", "weights", "bias"], ["logits"])]
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, value.shape, value.ravel())
        for name, value in (("weights", weights), ("bias", bias))
    ]
    graph = helper.make_graph(nodes, "stub", inputs, [output], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(made, folder / "stub.onnx")
    (folder / "manifest.json").write_text(
        _manifest(folder, classes, patch).to_json(), encoding="utf-8"
    )
    return Model(folder)


def _manifest(folder: Path, classes: int, patch: tuple[int, ...]) -> Manifest:
    recipe = Recipe(
        transpose=(0, 1, 2),
        spacing=(1.0, 1.0, 1.0),
        channels=(Channel(name="CT", scheme="none"),),
        order="resample-normalise",
        spline_order=3,
        coarse_ratio=3.0,
        padding="mirror",
        overlap=0.5,
        mirror_axes=(),
        test_time_mirroring=False,
    )
    item = Configuration(
        name="3d_fullres",
        weight=1.0,
        folds=("0",),
        recipe=recipe,
        patch_size=patch,
        tiles_per_case=1.0,
        input="raw",
        spatial="dynamic",
        spatial_multiple=(1, 1, 1),
        onnx="stub.onnx",
        torchscript="stub.onnx",
        parity=(),
        timings=(),
    )
    return Manifest(
        autoseg_version="0",
        name="stub",
        planner="none",
        plan_digest="0",
        fingerprint_digest="0",
        seed=0,
        unit="mm",
        channels=("CT",),
        channel_files="single",
        file_ending=".nii.gz",
        labels=Labels(names=tuple(map(str, range(classes))), values=tuple(range(classes))),
        configurations=(item,),
        postprocessing=(),
        verification=None,
        files=(describe_file(folder, "stub.onnx"),),
    )


def make_volume(shape: tuple[int, ...]) -> NDArray[np.int16]:
    """Return (1, *S) noise that repeats, made slice by slice."""
    rng = np.random.default_rng(0)
    pattern = rng.integers(1, 1000, (PATTERN,) * 3).astype(np.int16)
    repeats = [-(-size // PATTERN) for size in shape[1:]]
    out = np.empty((1, *shape), np.int16)
    for index, target in enumerate(out[0]):
        target[...] = np.tile(pattern[index % PATTERN], repeats)[: shape[1], : shape[2]]
    return out


def _peer(
    tool: str, python: Path, wanted: argparse.Namespace, classes: int
) -> dict[str, float] | None:
    """Return what a peer took; None where the memory did not suffice."""
    size = int(wanted.limit * GIB)
    facts = json.dumps([tool, classes, wanted.shape, _new_shape(wanted.shape), wanted.patch])
    done = subprocess.run(
        [python.absolute(), "-c", PEER, facts],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_AS, (size, size)),
    )
    if done.returncode and not any(word in done.stderr for word in ("alloc", "Memory")):
        raise SystemExit(done.stderr)
    return None if done.returncode else json.loads(done.stdout.splitlines()[-1])


def _print_peer(
    tool: str, taken: dict[str, float] | None, ours: dict[str, Any], limit: float
) -> None:
    if taken is None:
        print(f"  {tool}: does not fit into {limit:g} GiB", flush=True)
        return
    print(
        f"  {tool}: {taken['seconds']:.1f} s ({taken['seconds'] / ours['seconds']:.2f} times as "
        f"long), peak {taken['peak'] / 1e9:.2f} GB; autoseg takes "
        f"{ours['peak'] / taken['peak']:.2f} of its memory",
        flush=True,
    )


if __name__ == "__main__":
    main()

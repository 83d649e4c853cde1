"""What computes the logits of an artifact on this machine; importing this loads no torch."""

import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal
from zipfile import BadZipFile, ZipFile

from autoseg.errors import AutosegError
from autoseg.export.threads import ThreadChoice
from autoseg.runtime.cases import find_cases
from autoseg.runtime.manifest import (
    MANIFEST,
    Configuration,
    Manifest,
    check_file,
    load_manifest,
    parse_manifest,
)
from autoseg.runtime.model import (
    BALANCED,
    EFFORTS,
    Effort,
    Model,
    TileNetwork,
    open_onnx,
)
from autoseg.runtime.processors import usable_cpus
from autoseg.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Backend = Literal["onnx", "torch", "torch-bf16"]
FAMILIES: dict[str, tuple[Backend, ...]] = {
    "auto": ("onnx", "torch", "torch-bf16"),
    "onnx": ("onnx",),
    "torch": ("torch", "torch-bf16"),
}
"""Backends that a user's word allows, the safest first."""


@contextmanager
def find_artifact(path: Path) -> Iterator[Path]:
    """Yield the artifact's folder for an artifact, a workspace, or a zipped artifact.

    Of a zip, what prediction needs is unpacked into a temporary folder, removed in the end.

    Raises
    ------
    AutosegError
        There is no artifact.
    """
    if path.is_file():
        with TemporaryDirectory(prefix="autoseg-") as folder:
            _unpack(path, Path(folder))
            yield Path(folder)
        return
    inside = Workspace(path).model
    candidates = [path, inside]
    found = next((folder for folder in candidates if (folder / MANIFEST).is_file()), None)
    if found is None:
        raise AutosegError(
            found=f"no {MANIFEST} in {path} or {inside}",
            expected="an exported model: its folder, model.zip, or a workspace that holds one",
            fix="correct the path, or run `autoseg train` or `autoseg export` first",
        )
    yield found


def _unpack(path: Path, folder: Path) -> None:
    """Unpack manifest and networks; names are those of the checked manifest, never the zip's."""
    try:
        with ZipFile(path) as archive:
            content = archive.read(MANIFEST)
            manifest = parse_manifest(content, f"{path}/{MANIFEST}")
            (folder / MANIFEST).write_bytes(content)
            for name in _network_files(manifest, archive.namelist()):
                with archive.open(name) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (BadZipFile, KeyError, EOFError) as error:
        raise AutosegError(
            found=f"{path}: {error}",
            expected="a whole model.zip as `autoseg export` writes it",
            fix="copy the file again, or export the model again",
        ) from None


def _network_files(manifest: Manifest, names: list[str]) -> list[str]:
    """Return the files of all networks; large weights lie beside their graph."""
    graphs = [name for item in manifest.configurations for name in (item.onnx, item.torchscript)]
    beside = [f"{name}.data" for name in graphs if f"{name}.data" in names]
    return graphs + beside


def expected_seconds(
    manifest: Manifest, backend: Backend, num_cases: int, effort: Effort = BALANCED
) -> float:
    """Return how long a backend should take, from import to the last tile; inf if not offered."""
    total = 0.0
    import_s = 0.0
    for item in manifest.configurations:
        timing = next((timing for timing in item.timings if timing.backend == backend), None)
        if timing is None:
            return math.inf
        tiles = num_cases * item.tiles_per_case * 2 ** len(effort.mirror_axes(item.recipe))
        import_s = timing.import_seconds
        total += timing.load_seconds + tiles * timing.tile_seconds
    return import_s + total


def choose_backend(
    manifest: Manifest, wanted: str, *, device: str, num_cases: int, effort: Effort = BALANCED
) -> Backend:
    """Return the backend that should finish first among those that `wanted` allows.

    Parameters
    ----------
    wanted
        "auto", "onnx" or "torch".
    device
        "auto", "cpu", "cuda", "cuda:1", "mps": onnxruntime is used on the CPU only.

    Raises
    ------
    AutosegError
        An unknown word, or onnxruntime on another device than the CPU.
    """
    if wanted not in FAMILIES:
        raise AutosegError(
            found=f"--backend {wanted}",
            expected=f"one of {', '.join(FAMILIES)}",
            fix="correct --backend",
        )
    if resolve_device(device) == "cpu":
        return min(
            FAMILIES[wanted],
            key=lambda backend: expected_seconds(manifest, backend, num_cases, effort),
        )
    if wanted == "onnx":
        raise AutosegError(
            found=f"--backend onnx with --device {device}",
            expected="onnxruntime on the CPU",
            fix="leave out --backend, or use --device cpu",
        )
    return "torch"


def resolve_device(device: str) -> str:
    """Return the device that a user's word means; "auto" is a GPU where a driver is installed."""
    if device != "auto":
        return device
    if shutil.which("nvidia-smi") is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def parse_effort(name: str, *, mirroring: bool) -> Effort:
    """Return the effort of a user's word; without `mirroring` no mirrored tile is predicted.

    Raises
    ------
    AutosegError
        An unknown word.
    """
    if name not in EFFORTS:
        raise AutosegError(
            found=f"--effort {name}",
            expected=f"one of {', '.join(EFFORTS)}",
            fix="correct --effort",
        )
    return EFFORTS[name] if mirroring else replace(EFFORTS[name], mirroring="never")


def open_model(
    folder: Path,
    wanted: str,
    *,
    device: str,
    inputs: Sequence[Path],
    effort: Effort = BALANCED,
    missing: Sequence[int] = (),
) -> tuple[Model, Backend]:
    """Return an artifact with the backend that suits the work, and that backend.

    Parameters
    ----------
    missing
        Channels whose files need not be among the inputs (see `parse_missing`).
    """
    manifest = load_manifest(folder)
    cases, _ = find_cases(inputs, manifest.channel_files, len(manifest.channels), missing)
    return open_for(folder, wanted, device=device, num_cases=len(cases), effort=effort)


def open_for(
    folder: Path, wanted: str, *, device: str, num_cases: int, effort: Effort = BALANCED
) -> tuple[Model, Backend]:
    """Return an artifact with the backend that suits so many images, and that backend."""
    manifest = load_manifest(folder)
    backend = choose_backend(manifest, wanted, device=device, num_cases=num_cases, effort=effort)
    if backend == "torch-bf16" and not _multiplies_bf16():
        backend = "torch"
    return Model(folder, opener(backend, resolve_device(device))), backend


def opener(
    backend: Backend, device: str = "cpu"
) -> Callable[[Path, Manifest, Configuration], TileNetwork]:
    """Return the function that opens a configuration's network with a backend."""
    if backend == "onnx":
        return open_onnx
    return partial(open_torch, device=device, backend=backend)


def _multiplies_bf16() -> bool:
    """Return whether this processor has bfloat16 arithmetic: elsewhere it is emulated, slowly."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def open_torch(
    folder: Path, manifest: Manifest, configuration: Configuration, *, device: str, backend: Backend
) -> TileNetwork:
    """Return the TorchScript network of a configuration.

    Raises
    ------
    AutosegError
        torch does not know the device, or the machine lacks it.
    """
    import torch

    path = check_file(folder, manifest, configuration.torchscript)
    with warnings.catch_warnings():
        # Deprecated upstream: the artifact carries it for those who load nothing newer.
        # torch announces the end of TorchScript as one or the other, by its version.
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        module = torch.jit.load(path, map_location="cpu").eval()
    reduced = backend == "torch-bf16"
    if reduced:
        # Autocast would convert them for each tile.
        for weights in module.parameters():
            weights.data = weights.data.bfloat16() if weights.ndim > 2 else weights.data
    try:
        module.to(device)
    except (RuntimeError, AssertionError) as error:
        raise AutosegError(
            found=f"--device {device}: {str(error).splitlines()[0]}",
            expected="a device of this machine that the installed torch can use",
            fix="use --device cpu, or install the torch build for this device",
        ) from None
    kind = torch.device(device).type
    most = usable_cpus()
    threads = ThreadChoice([most, most // 2] if most > 1 and kind == "cpu" else [most])

    @torch.inference_mode()
    def run(
        tile: "NDArray[np.float32]", mean: "NDArray[np.float32]", std: "NDArray[np.float32]"
    ) -> "NDArray[np.float32]":
        inputs = [torch.from_numpy(array).to(device) for array in (tile, mean, std)]
        with (
            threads.measure(len(tile)) as count,
            torch.autocast(kind, torch.bfloat16, enabled=reduced),
        ):
            torch.set_num_threads(count)
            return module(*inputs).float().cpu().numpy()

    return run

"""How fast each backend is on this machine, so that prediction can choose."""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from autoseg.export.backend import Backend, opener
from autoseg.runtime.manifest import Configuration, Manifest, Timing
from autoseg.runtime.model import make_tiling
from autoseg.runtime.processors import usable_cpus

LIBRARIES: dict[Backend, str] = {
    "onnx": "onnxruntime",
    "torch": "torch",
    "torch-bf16": "torch",
}
ENOUGH_S = 1.0
"""A measurement is repeated until it has taken this long."""
MAX_REPEATS = 5


def import_seconds(backend: Backend) -> float:
    """Return the seconds that importing a backend's library takes in a new process."""
    library = LIBRARIES[backend]
    code = f"import time; t = time.perf_counter(); import {library}; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure_timing(
    folder: Path, manifest: Manifest, configuration: Configuration, backend: Backend
) -> Timing:
    """Return how long a backend takes for a configuration of an artifact."""
    num_threads = usable_cpus()
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        num_channels = manifest.num_inputs(configuration)
        constants = np.zeros(len(configuration.recipe.channels), dtype=np.float32)
        num_tiles = make_tiling(configuration, constants).batch_size
        tile = np.zeros((num_tiles, num_channels, *configuration.patch_size), dtype=np.float32)
        mean = np.zeros((num_tiles, num_channels), dtype=np.float32)
        start = time.perf_counter()
        network = opener(backend)(folder, manifest, configuration)
        network(tile, mean, mean + 1)
        first_s = time.perf_counter() - start
        call_s = _best_seconds(partial(network, tile, mean, mean + 1))
    finally:
        torch.set_num_threads(before)
    return Timing(
        backend=backend,
        num_threads=num_threads,
        import_seconds=import_seconds(backend),
        load_seconds=max(0.0, first_s - call_s),
        tile_seconds=call_s / num_tiles,
    )


def _best_seconds(call: Callable[[], object]) -> float:
    best, spent = float("inf"), 0.0
    for _ in range(MAX_REPEATS):
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        best, spent = min(best, seconds), spent + seconds
        if spent > ENOUGH_S:
            break
    return best

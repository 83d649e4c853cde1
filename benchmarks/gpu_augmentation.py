"""Augmentation as a batch on a GPU against the processor's workers: training patches per second.

Needs torch, numpy and pydantic, and no data: it makes cases in memory. Both sides draw the same
changes (nnU-Net's distribution) of the same patches with the same threads, and end with the batch
on the device; only what changes the patches differs. Then the cases stay on the device, too, which
cuts the patches itself. First both are compared voxel by voxel, noise
left out; on a GPU torch then refuses whatever waits for it.
"""

import argparse
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.network.execution import Execution
from autoseg.plan.augmentation import nnunet_augmentation
from autoseg.runtime.recipe import Labels
from autoseg.testing.plans import small_configuration
from autoseg.train.device_batches import DeviceBatches, PackedBatch
from autoseg.train.kept_cases import KeptCases
from autoseg.train.residents import Residents
from autoseg.train.sampling import Batches

BATCHES = (
    ((128, 128, 128), 2),
    ((96, 96, 96), 4),
    ((40, 56, 40), 9),
    ((16, 256, 256), 2),
    ((512, 512), 12),
    ((4096,), 64),
)
"""Patches and their number in a batch; the fourth is changed slice by slice."""
LABELS = Labels(names=("background", "a", "b"), values=(0, 1, 2))
NUM_CASES = 3
ROOM = 1.6
"""Edge of a case over that of its patch."""
NUM_PLACES = 1000
"""Places that are kept of each class."""
COMPARED_STEPS = 5
RESIDENT_BYTES = 10**9
"""Memory of the device for cases: more than there are."""
FOREVER = 10**9


@dataclass(frozen=True)
class Case:
    """A prepared case in memory, with places of its classes."""

    image: NDArray[np.float16]
    labels: NDArray[np.int8]
    places: tuple[NDArray[np.integer], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *S)."""
        return self.image.shape

    @property
    def location_offsets(self) -> tuple[int, ...]:
        """Where each class's part of the places begins and ends."""
        return (0, *np.cumsum([len(places) for places in self.places]).tolist())


@dataclass(frozen=True)
class Cases:
    """Prepared cases in memory."""

    cases: dict[str, Case]

    def info(self, case_id: str) -> Case:
        """Return what is known of a case."""
        return self.cases[case_id]

    def image(self, case_id: str) -> NDArray[np.float16]:
        """Return the image (C, *S)."""
        return self.cases[case_id].image

    def labels(self, case_id: str) -> NDArray[np.int8]:
        """Return the labels (*S)."""
        return self.cases[case_id].labels

    def flat_locations(self, case_id: str, class_index: int) -> NDArray[np.integer]:
        """Return flat places of voxels of a class."""
        return self.cases[case_id].places[class_index]


def make_case(patch: Sequence[int], num_channels: int, seed: int) -> Case:
    """Return a case of two classes that touch, and noise."""
    rng = np.random.default_rng(seed)
    shape = [round(n * ROOM) for n in patch]
    grid = np.meshgrid(*[np.linspace(0, 6, n) for n in shape], indexing="ij", sparse=True)
    wave = np.zeros(shape) + sum(np.sin(axis + rng.uniform(0, 6)) for axis in grid)
    labels = np.digitize(wave, (0.3, 0.8)).astype(np.int8)
    image = labels + rng.standard_normal((num_channels, *shape), dtype=np.float32)
    known = [np.flatnonzero(labels == index)[:NUM_PLACES] for index in (1, 2)]
    return Case(image.astype(np.float16), labels, (np.array([], int), *known))


def make_batches(
    cases: Cases, patch: tuple[int, ...], batch_size: int, **changes: float
) -> Batches:
    """Return the batches that workers change, by nnU-Net's distribution but for `changes`."""
    item = small_configuration(patch, image_axes=len(patch), batch_size=batch_size)
    training = item.training.revised(
        augmentation=nnunet_augmentation(patch).revised(**changes), foreground_fraction=0.33
    )
    num_channels = next(iter(cases.cases.values())).shape[0]
    recipe = replace(item.recipe, channels=item.recipe.channels * num_channels)
    return Batches(
        KeptCases(cases, 0),
        sorted(cases.cases),
        item.revised(recipe=recipe, training=training),
        labels=LABELS,
        seed=0,
        fold="0",
    )


def resident(batches: Batches, cases: Cases, execution: Execution) -> DeviceBatches:
    """Return the same batches, of cases that stay on the device."""
    residents = Residents(cases, execution.device, RESIDENT_BYTES)
    return DeviceBatches(batches, execution.kind, residents)


def compare(batches: Batches, device: DeviceBatches, execution: Execution) -> tuple[float, float]:
    """Return the largest difference of images, in deviations, and the part of equal labels."""
    difference, equal = 0.0, 1.0
    for step in range(COMPARED_STEPS):
        packed = device.batch(step)
        packed.on(execution)  # memory is allocated, kernels are loaded
        with nothing_waits(execution):
            found = packed.on(execution)
        expected = batches.batch(step)
        image = (found.images.cpu() - expected.images).abs().max() / expected.images.std()
        difference = max(difference, float(image))
        equal = min(equal, float((found.labels.cpu() == expected.labels).float().mean()))
    return difference, equal


@contextmanager
def nothing_waits(execution: Execution) -> Iterator[None]:
    """Let torch refuse on a GPU whatever waits for it."""
    if execution.kind != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def stream_rate(
    batches: Batches | DeviceBatches, execution: Execution, num_workers: int, seconds: float
) -> float:
    """Return the patches per second that arrive on the device, changed."""
    count = 0
    with closing(batches.stream_from(0, FOREVER, num_workers)) as stream:
        for _ in range(2 * num_workers + 2):  # what was made ahead of the clock
            next(stream).on(execution)
        wait(execution)
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            count += len(next(stream).on(execution).images)
            wait(execution)
        return count / (time.perf_counter() - start)


def device_rate(batches: DeviceBatches, execution: Execution, seconds: float) -> float:
    """Return the patches per second that the device changes, reading left out."""
    packed = [batches.batch(step) for step in range(2 * COMPARED_STEPS)]
    for batch in packed:
        batch.on(execution)
    wait(execution)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        count += sum(apply_all(packed, execution))
        wait(execution)
    return count / (time.perf_counter() - start)


def apply_all(packed: Sequence[PackedBatch], execution: Execution) -> Iterator[int]:
    """Change batches one after another; yield the patches of each."""
    for batch in packed:
        yield len(batch.on(execution).images)


def wait(execution: Execution) -> None:
    """Wait until the device has done everything."""
    if execution.kind == "cuda":
        torch.cuda.synchronize(execution.device)


def usual_device() -> str:
    """Return the GPU, if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Compare, with the options in the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default=usual_device(), help="a GPU if there is one")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) - 1))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--max-voxels", type=float, default=math.inf, help="of a patch")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # workers are the threads
    execution = Execution(device=arguments.device, precision="fp32")
    name = torch.cuda.get_device_name(execution.device) if execution.kind == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {name}, {arguments.workers} workers; patches per second")
    print(
        f"{'patch':>12} {'batch':>5} {'workers':>8} {'device':>8} {'ratio':>6} {'on it alone':>11}"
        f" {'its cases':>9} {'images':>8} {'labels':>8}"
    )
    for patch, batch_size in BATCHES:
        if math.prod(patch) > arguments.max_voxels:
            continue
        cases = Cases({str(s): make_case(patch, arguments.channels, s) for s in range(NUM_CASES)})
        quiet = make_batches(cases, patch, batch_size, noise_probability=0.0)
        difference, equal = compare(quiet, resident(quiet, cases, execution), execution)
        workers = make_batches(cases, patch, batch_size)
        device = DeviceBatches(workers, execution.kind)
        rates = [
            stream_rate(side, execution, arguments.workers, arguments.seconds)
            for side in (workers, device, resident(workers, cases, execution))
        ]
        alone = device_rate(device, execution, arguments.seconds)
        print(
            f"{'x'.join(map(str, patch)):>12} {batch_size:5} {rates[0]:8.1f} {rates[1]:8.1f}"
            f" {rates[1] / rates[0]:6.2f} {alone:11.1f} {rates[2]:9.1f}"
            f" {difference:8.1e} {equal:8.2%}"
        )


if __name__ == "__main__":
    main()

"""Predicted against measured step time and peak memory of training.

`python -m benchmarks.cost --measure` measures this machine as `autoseg doctor --measure` does, then
trains each network of `CASES` for a few steps in a process of its own, with data made in parallel
as a fold has it, and prints predictions, measurements and their ratios. `taskset -c 1` before it
keeps it to one core. Without `--measure` the user's cache says how fast the machine is.

Seconds are the median of the steps: of the wall clock, and of the processor time of all threads of
the process divided by the threads that compute. On a core that nobody else uses both are the same;
on a shared one the latter is what the step would take alone. Memory is the peak of the resident
set less what was resident before the network was built, against the plan's without its constant
for that (`LIBRARY_BYTES`). Linux only: it reads /proc.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from autoseg.cli.shared import machine_file
from autoseg.machine import Machine, measure_machine
from autoseg.pipeline.known_machines import remembered
from autoseg.plan.cost import step_cost
from autoseg.plan.memory import LIBRARY_BYTES, training_memory
from autoseg.plan.plan import ConfigurationPlan
from autoseg.plan.speed import step_speed
from autoseg.plan.training import adamw_training
from autoseg.record import NetworkPlan, StagePlan
from autoseg.testing.plans import small_configuration

if TYPE_CHECKING:
    from autoseg.preprocess.store import CaseStore

WARMUP = 2
TIMED_STEPS, TIMED_S = 12, 20.0
"""Steps of a network, or as many as there are in so many seconds, but three."""
COLUMNS = (
    "| network | patch | batch | step, predicted | processor | ratio | wall "
    "| memory, predicted | measured | ratio |"
)
PROC = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network and what it is trained on; features double from stage to stage."""

    features: int
    patch_size: tuple[int, ...]
    batch_size: int
    num_stages: int = 4
    channels: int = 1
    classes: int = 3
    changes: Mapping[str, object] = field(default_factory=dict)

    @property
    def configuration(self) -> ConfigurationPlan:
        """What is trained, and how."""
        dims, supervised = len(self.patch_size), min(3, self.num_stages - 2)
        network = NetworkPlan(
            encoder="plain",
            in_channels=self.channels,
            num_classes=self.classes,
            stages=tuple(
                StagePlan(
                    features=min(256, self.features * 2**level),
                    kernel_size=(3,) * dims,
                    strides=(1 if level == 0 else 2,) * dims,
                    num_blocks=2,
                )
                for level in range(self.num_stages)
            ),
            decoder_convs=2,
            num_supervised=supervised,
        )
        training = adamw_training(self.patch_size, supervised=supervised, batch_dice=False)
        configuration = small_configuration(
            self.patch_size,
            image_axes=dims,
            network=network.revised(**self.changes),
            training=training,
            batch_size=self.batch_size,
        )
        (channel,) = configuration.recipe.channels
        recipe = replace(configuration.recipe, channels=(channel,) * self.channels)
        return configuration.revised(recipe=recipe)


CASES = MappingProxyType(
    {
        "3d, 16 features": Case(features=16, patch_size=(40, 56, 40), batch_size=2),
        "3d, 24 features": Case(features=24, patch_size=(40, 56, 40), batch_size=2),
        "3d, 32 features": Case(features=32, patch_size=(32, 48, 48), batch_size=2),
        "3d, 16 features, batch 7": Case(features=16, patch_size=(40, 40, 40), batch_size=7),
        "3d, residual": Case(
            features=16,
            patch_size=(40, 56, 40),
            batch_size=2,
            changes={"encoder": "residual", "decoder_convs": 1},
        ),
        "3d, attention, 4 channels": Case(
            features=16,
            patch_size=(48, 48, 48),
            batch_size=2,
            channels=4,
            changes={"decoder": "attention"},
        ),
        "2d, 16 features": Case(features=16, patch_size=(256, 224), batch_size=3, num_stages=6),
        "2d, 32 features": Case(features=32, patch_size=(224, 192), batch_size=4, num_stages=6),
        "2d, 16 features, batch 16": Case(
            features=16, patch_size=(128, 128), batch_size=16, num_stages=5
        ),
        "2d, nested": Case(
            features=16,
            patch_size=(224, 192),
            batch_size=2,
            num_stages=5,
            changes={"decoder": "nested"},
        ),
        "1d, 32 features": Case(features=32, patch_size=(4096,), batch_size=16, num_stages=6),
    }
)


def run_case(name: str, num_threads: int) -> dict[str, float]:
    """Train the network of a case for a few steps and return what they took."""
    import torch

    from autoseg.runtime.recipe import Labels
    from autoseg.train.kept_cases import KeptCases
    from autoseg.train.learner import build_learner, build_loss
    from autoseg.train.loop import train
    from autoseg.train.probe import num_workers, usual_execution
    from autoseg.train.sampling import Batches

    torch.set_num_threads(num_threads)
    item = CASES[name].configuration
    classes = tuple(f"class {index}" for index in range(item.network.num_classes))
    execution = usual_execution("cpu")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        batches = Batches(
            KeptCases(write_case(Path(folder), item), 10**9),
            ("case",),
            item,
            labels=Labels(names=classes, values=tuple(range(len(classes)))),
            seed=0,
            fold="0",
        )
        before_bytes = resident("VmRSS")
        count = WARMUP + TIMED_STEPS
        wall, processor = [], []
        with closing(batches.stream_from(0, count, num_workers(execution, 1))) as stream:
            steps = train(
                build_learner(item, execution, 0),
                (batch.on(execution) for batch in stream),
                build_loss(item.training),
                execution=execution,
                learning_rate=lambda _: item.training.peak_lr,
                max_gradient_norm=item.training.max_gradient_norm,
            )
            started = time.perf_counter()
            clocks = started, time.process_time()
            for result in steps:
                result.loss.item()
                now = time.perf_counter(), time.process_time()
                if result.step > WARMUP:
                    wall.append(now[0] - clocks[0])
                    processor.append((now[1] - clocks[1]) / num_threads)
                clocks = now
                if len(wall) >= 3 and now[0] - started > TIMED_S:
                    break
    return {
        "wall_s": statistics.median(wall),
        "processor_s": statistics.median(processor),
        "memory_bytes": resident("VmHWM") - before_bytes,
        "libraries_bytes": before_bytes,
    }


def write_case(folder: Path, item: ConfigurationPlan) -> "CaseStore":
    """Write one prepared case of noise, half as large again as the patch, and return its store."""
    from autoseg.preprocess.store import CaseArrays, CaseStore, PreparedCase

    rng = np.random.default_rng(0)
    shape = tuple(3 * n // 2 for n in item.patch_size)
    channels, count = item.network.in_channels, item.network.num_classes
    labels = rng.integers(0, count, shape, dtype=np.int8)
    places = [np.flatnonzero(labels == index)[:1000] for index in range(1, count)]
    ends = np.cumsum([0, 0, *(len(found) for found in places)])
    arrays = CaseArrays(
        image=rng.normal(size=(channels, *shape)).astype(np.float16),
        labels=labels,
        locations=np.concatenate(places).astype(np.int32),
    )
    info = PreparedCase(
        autoseg_version="0",
        case_id="case",
        dtype="float16",
        shape=(channels, *shape),
        spacing=(1.0,) * len(shape),
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        placement={},
        class_voxels=tuple(int((labels == index).sum()) for index in range(count)),
        num_annotated=labels.size,
        location_offsets=tuple(int(end) for end in ends),
        source_hash="0",
        recipe_digest="0",
    )
    store = CaseStore(folder)
    store.write(info, arrays, item.patch_size)
    return store


def resident(name: str) -> int:
    """Return a size of this process as Linux counts it (VmRSS: now; VmHWM: peak), bytes."""
    lines = PROC.read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def predicted(item: ConfigurationPlan, machine: Machine) -> tuple[float, int]:
    """Return the seconds of a step, and the bytes of memory without the libraries."""
    _, seconds = step_cost(
        item.network,
        item.patch_size,
        batch_size=item.batch_size,
        speed=step_speed(machine, "cpu", len(item.patch_size)),
        training=item.training,
    )
    memory = training_memory(
        item.network,
        item.patch_size,
        batch_size=item.batch_size,
        precision=machine.training_precision("cpu"),
    )
    return seconds, memory - LIBRARY_BYTES


def measured(name: str, num_threads: int) -> dict[str, float]:
    """Return what a case takes in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.cost", "--case", name, "--threads", str(num_threads)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def compare(machine: Machine) -> None:
    """Print the table, and how many of the predictions are near."""
    print(f"{COLUMNS}\n|{'---|' * COLUMNS.count(' | ')}---|")
    near_time, near_memory = 0, 0
    for name, case in CASES.items():
        seconds, memory = predicted(case.configuration, machine)
        found = measured(name, machine.num_cpus)
        slower, larger = seconds / found["processor_s"], memory / found["memory_bytes"]
        near_time += abs(slower - 1) <= 0.3
        near_memory += abs(larger - 1) <= 0.2
        patch = " x ".join(map(str, case.patch_size))
        print(
            f"| {name} | {patch} | {case.batch_size} | {seconds:.3f} s | "
            f"{found['processor_s']:.3f} s | {slower:.2f} | {found['wall_s']:.3f} s | "
            f"{memory / 1e6:.0f} MB | {found['memory_bytes'] / 1e6:.0f} MB | {larger:.2f} |",
            flush=True,
        )
    print(f"within 30 % of the time: {near_time}, within 20 % of the memory: {near_memory}")


def main() -> None:
    """Measure one case, or compare all with what is predicted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure this machine first")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        print(json.dumps(run_case(arguments.case, arguments.threads)))
        return
    machine = remembered(measure_machine(), machine_file())
    if arguments.measure:
        from autoseg.pipeline.measuring import measure_speed

        speed = measure_speed(machine, "cpu")
        machine = machine.revised(speeds=(speed,), trained=())
        print(f"measured: {speed}\n")
    compare(machine)


if __name__ == "__main__":
    main()

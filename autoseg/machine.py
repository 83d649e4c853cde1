"""What this machine is: a record that planners read. No torch, no environment variables."""

import platform
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from autoseg.errors import AutosegError
from autoseg.record import Record
from autoseg.runtime.processors import usable_cpus as usable_cpus
from autoseg.runtime.processors import usable_memory as usable_memory

Device = Literal["cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16", "fp16"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
NumCpus = Annotated[int, Field(ge=1)]

MATRIX_SIZE = 1024
"""Edge of the matrices multiplied to measure throughput: large enough to fill every core."""
MEASURE_S = 0.25
"""Time spent on the measurement; the best of all products counts."""
FLOPS_DIGITS = 2
"""Measured throughput is rounded to this many digits, so that plans repeat on one machine."""

BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Names under which processors announce bfloat16 arithmetic (x86, x86 tiles, ARM)."""


class Gpu(Record):
    """One graphics processor."""

    name: str
    memory_bytes: int


class StepSpeed(Record):
    """How long a training step takes on one device: four constants (see `autoseg.plan.cost`)."""

    device: str
    """"cpu", or the name of a graphics processor."""
    precision: Precision
    num_cpus: NumCpus
    """Those that were used."""
    operation_s: Seconds
    """Seconds of an operation of a convolution."""
    value_s: Seconds
    """Seconds of a feature value: what is done to each, again and again, is bound by memory."""
    parameter_s: Seconds
    """Seconds of a parameter: gradient, optimiser, running average."""
    layer_s: Seconds
    """Seconds of a layer that do not depend on its size: calls, threads."""


class TrainedSpeed(Record):
    """What the steps of one trained fold took, compared with what was expected of them."""

    run: str
    """Data set, configuration, fold and plan, for people; a run counts once."""
    device: str
    dimensions: int
    precision: Precision
    ratio: Positive
    """Measured over expected; expected as without any trained fold."""


class Machine(Record):
    """What a planner knows about the machine that will train."""

    num_cpus: NumCpus
    """Usable by this process: affinity and container quota respected."""
    memory_bytes: int
    """Of the machine or of the container, whichever is less."""
    gpus: tuple[Gpu, ...]
    cpu_features: tuple[str, ...]
    """Those that matter here: the processor's bfloat16 and vector extensions."""
    flops: Positive
    """float32 operations a second of all usable cores, in a matrix product."""
    system: str
    python: str
    speeds: tuple[StepSpeed, ...] = ()
    """Measured by `autoseg doctor --measure`."""
    trained: tuple[TrainedSpeed, ...] = ()
    """The newest trained folds, oldest first."""

    @property
    def device(self) -> Device:
        """The best device to train on."""
        if self.gpus:
            return "cuda"
        return "mps" if self.system.startswith("Darwin-arm64") else "cpu"

    @property
    def has_bf16(self) -> bool:
        """Whether the processor multiplies bfloat16 numbers natively."""
        return not BF16_FEATURES.isdisjoint(self.cpu_features)

    def training_precision(self, device: Device) -> Precision:
        """Return the precision that training is expected to use on a device."""
        if device == "cuda":
            return "fp16"
        return "bf16" if device == "cpu" and self.has_bf16 else "fp32"

    def resolve_device(self, name: str) -> tuple[Device, int | None]:
        """Return the device that a user's word means ("auto", "cpu", "cuda:1", "mps").

        Returns
        -------
        tuple
            The kind of device, and which of several; None where it was not said.

        Raises
        ------
        AutosegError
            The word is unknown, or this machine has no such device.
        """
        kind, colon, number = name.partition(":")
        if name == "auto":
            return self.device, None
        if name == "cpu":
            return "cpu", None
        if kind == "cuda" and self.gpus and not colon:
            return "cuda", None
        if kind == "cuda" and number.isdigit() and int(number) < len(self.gpus):
            return "cuda", int(number)
        if name == "mps" and self.device == "mps":
            return "mps", None
        raise AutosegError(
            found=f"device {name!r}; this machine has {self._devices()}",
            expected="auto, cpu, cuda, cuda:1 or mps, and a machine that has it",
            fix="name another device, or none to take the best one here",
        )

    def device_name(self, device: Device) -> str:
        """Return what measurements of a device are filed under: "cpu", "mps" or a GPU's name."""
        return self.gpus[0].name if device == "cuda" and self.gpus else device

    def is_like(self, other: "Machine") -> bool:
        """Return whether both are the same but for how fast they were when measured."""
        speed = {"flops": other.flops, "speeds": other.speeds, "trained": other.trained}
        return self.revised(**speed) == other

    def _devices(self) -> str:
        gpus = ", ".join(gpu.name for gpu in self.gpus)
        return f"a CPU and {gpus}" if gpus else f"a CPU{' and mps' * (self.device == 'mps')}"


def measure_machine(flops: float | None = None) -> Machine:
    """Return this machine, measured in about a quarter of a second, at once where `flops` is known.

    Parameters
    ----------
    flops
        Of `Machine`; None: measured.
    """
    return Machine(
        num_cpus=usable_cpus(),
        memory_bytes=usable_memory(),
        gpus=_gpus(),
        cpu_features=_cpu_features(),
        flops=_matrix_flops() if flops is None else flops,
        system=f"{platform.system()}-{platform.machine()}-{platform.release()}",
        python=platform.python_version(),
    )


def memory_kills(counters: Path = Path("/proc/vmstat")) -> int | None:
    """Return how many processes the system has ended since it started because memory had run out.

    None where it does not say: Linux does.
    """
    found = [line.split() for line in _read(counters).splitlines()]
    return next((int(words[1]) for words in found if words[:1] == ["oom_kill"]), None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _command(*words: str) -> str:
    """Return what a command prints, empty if it is missing or fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _gpus() -> tuple[Gpu, ...]:
    """Return the graphics processors that NVIDIA's tool lists."""
    listing = _command(
        "nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"
    )
    return parse_gpus(listing)


def parse_gpus(listing: str) -> tuple[Gpu, ...]:
    """Return the processors in lines "name, MiB"; other lines (e.g. partitions) are left out."""
    gpus = []
    for line in listing.splitlines():
        name, _, mebibytes = line.rpartition(",")
        if name and mebibytes.strip().isdigit():
            gpus.append(Gpu(name=name.strip(), memory_bytes=int(mebibytes) * 2**20))
    return tuple(gpus)


def _cpu_features() -> tuple[str, ...]:
    """Return the extensions that decide how fast a convolution is."""
    text = _read(Path("/proc/cpuinfo")) or _command("sysctl", "-a", "hw.optional.arm")
    words = set(text.lower().replace("feat_", "").replace(":", " ").replace(".", " ").split())
    return tuple(sorted(words & (BF16_FEATURES | {"avx2", "avx512f", "avx512_vnni", "sve"})))


def _matrix_flops() -> float:
    """Return float32 operations a second: the best product within `MEASURE_S`.

    The time counts that was computed: what this process waits for while other programs have the
    processor is not the machine's.
    """
    matrix = np.ones((MATRIX_SIZE, MATRIX_SIZE), dtype=np.float32)
    result = np.empty_like(matrix)
    best, end = np.inf, time.perf_counter() + MEASURE_S
    while time.perf_counter() < end:
        thread_s, process_s = time.thread_time(), time.process_time()
        np.matmul(matrix, matrix, out=result)
        spent_s = time.thread_time() - thread_s
        # Where other threads alone compute, their share is what an undisturbed product takes.
        best = min(best, max(spent_s, (time.process_time() - process_s) / usable_cpus()))
    return float(f"{2.0 * MATRIX_SIZE**3 / best:.{FLOPS_DIGITS - 1}e}")


class MemoryShares:
    """Lets threads work only while their cases fit into memory together; one always may."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def claim(self, amount: int) -> Iterator[None]:
        """Wait until `amount` bytes are free, and keep them for the body."""
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + amount <= self.total)
            self._used += amount
        try:
            yield
        finally:
            with self._changed:
                self._used -= amount
                self._changed.notify_all()

"""`autoseg doctor --measure`: how long training steps of small networks take on this machine."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch

from autoseg.machine import Device, Machine, StepSpeed
from autoseg.network.build import build_network, initialise
from autoseg.network.execution import Execution
from autoseg.plan.cost import Work, step_work
from autoseg.plan.plan import TrainingPlan
from autoseg.plan.speed import CPU_OPERATION, CPU_VALUE, estimated_speed
from autoseg.plan.training import adamw_training
from autoseg.record import NetworkPlan, StagePlan
from autoseg.train.learner import build_loss, make_learner
from autoseg.train.loop import train
from autoseg.train.probe import WARMUP_STEPS, usual_execution
from autoseg.train.sampling import Batch

LIMIT_S = 60.0
"""Seconds after which no further network is tried, but for the first `LEAST_PROBES`."""
LEAST_PROBES = 5
"""As many as there are constants, and one to spare."""
MAX_STEPS = 10
PROBE_S = 3.0
"""Steps of one network end after `MAX_STEPS`, or after so many seconds."""
MIN_STEPS = 3
"""Steps of one network at least; the fastest counts, so other work disturbs little."""
PRIOR = 0.05
"""Weight of the estimate in the fit: it decides what the networks cannot tell apart."""
NUM_CLASSES = 3


@dataclass(frozen=True)
class Probe:
    """A network, and what it is trained on; features double from stage to stage."""

    features: int
    num_stages: int
    patch_size: tuple[int, ...]
    batch_size: int

    @property
    def network(self) -> NetworkPlan:
        """The plan of the network."""
        dims = len(self.patch_size)
        return NetworkPlan(
            encoder="plain",
            in_channels=1,
            num_classes=NUM_CLASSES,
            stages=tuple(
                StagePlan(
                    features=self.features * 2**level,
                    kernel_size=(3,) * dims,
                    strides=(1 if level == 0 else 2,) * dims,
                    num_blocks=2,
                )
                for level in range(self.num_stages)
            ),
            decoder_convs=2,
            num_supervised=1,
        )

    @property
    def training(self) -> TrainingPlan:
        """How it is trained."""
        return adamw_training(self.patch_size, supervised=1, batch_dice=False)


PROBES = (
    Probe(16, 4, (32, 32, 32), 2),
    Probe(64, 2, (48, 48), 2),
    Probe(8, 2, (160, 160), 2),
    Probe(16, 6, (256,), 2),
    Probe(64, 4, (16, 16), 2),
    Probe(32, 3, (24, 24, 24), 2),
    Probe(16, 5, (128, 128), 2),
    Probe(32, 5, (2048,), 4),
)
"""Each is dominated by another term of a step's time: arithmetic, feature values, layers,
parameters; or it is like those that are planned. The first ones suffice."""

OnProbe = Callable[[int, int], None]


def measure_speed(
    machine: Machine, device: Device, on_probe: OnProbe = lambda _done, _total: None
) -> StepSpeed:
    """Return the speed of training steps on a device, measured in 20 to 60 s.

    On a processor the time counts that the training thread has computed: what it waits for the
    processor while other programs have it is not the machine's.

    Parameters
    ----------
    machine
        This one.
    on_probe
        Called with the number of networks that are measured, and of all.
    """
    torch.set_num_threads(machine.num_cpus)
    execution = usual_execution(device)
    works: list[Work] = []
    seconds: list[float] = []
    end = time.monotonic() + LIMIT_S
    for index, probe in enumerate(PROBES):
        if index >= LEAST_PROBES and time.monotonic() > end:
            break
        batch = probe.batch_size
        work = step_work(probe.network, probe.patch_size, batch_size=batch, training=probe.training)
        works.append(work)
        seconds.append(min(_step_seconds(probe, execution)))
        on_probe(index + 1, len(PROBES))
    return fit_speed(works, seconds, estimated_speed(machine, device))


def fit_speed(works: Sequence[Work], seconds: Sequence[float], estimate: StepSpeed) -> StepSpeed:
    """Return the constants, none negative, by which steps of this work take these seconds.

    Least squares of the relative error, with the estimate as a weak prior.
    """
    from scipy.optimize import nnls

    parts = [[work.operations, work.values, work.parameters, work.layers] for work in works]
    guess = np.array(
        [estimate.operation_s, estimate.value_s, estimate.parameter_s, estimate.layer_s]
    )
    # The proportions of the estimate are better than its scale, which a busy moment spoils; what a
    # layer takes is no part of that scale, and the small networks tell it well.
    is_guided = (guess > 0) & np.array([True, True, True, False])
    guess *= np.median(np.array(seconds) / (np.array(parts) @ (guess * is_guided)))
    value_s = guess[0] * CPU_VALUE["bf16"] / CPU_OPERATION["bf16"]
    guess = np.where(guess > 0, guess, value_s)  # any scale: there is no prior for it
    share = np.array(parts) * guess / np.array(seconds)[:, None]
    prior = PRIOR * np.diag(is_guided.astype(float))
    target = np.concatenate([np.ones(len(works)), PRIOR * is_guided])
    factors, _ = nnls(np.concatenate([share, prior]), target)
    operation_s, value_s, parameter_s, layer_s = (float(item) for item in factors * guess)
    return estimate.revised(
        operation_s=operation_s, value_s=value_s, parameter_s=parameter_s, layer_s=layer_s
    )


def _step_seconds(probe: Probe, execution: Execution) -> Iterator[float]:
    """Yield the seconds of each step after the first ones."""
    training = probe.training
    model = build_network(probe.network)
    initialise(model, 0)
    generator = torch.Generator().manual_seed(0)
    shape = (probe.batch_size, *probe.patch_size)
    images = torch.randn((shape[0], 1, *shape[1:]), generator=generator)
    labels = torch.randint(0, NUM_CLASSES, shape, generator=generator).to(torch.int16)
    steps = train(
        make_learner(model, training, execution),
        repeat(Batch(images, labels), WARMUP_STEPS + MAX_STEPS),
        build_loss(training),
        execution=execution,
        learning_rate=lambda _: training.peak_lr,
        max_gradient_norm=training.max_gradient_norm,
    )
    clock = time.thread_time if execution.kind == "cpu" else time.perf_counter
    end, before = time.monotonic() + PROBE_S, clock()
    for result in steps:
        result.loss.item()  # waits for the device
        now = clock()
        if result.step > WARMUP_STEPS:
            yield now - before
        if result.step >= WARMUP_STEPS + MIN_STEPS and time.monotonic() > end:
            return
        before = now

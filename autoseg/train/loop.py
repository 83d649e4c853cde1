"""The training loop: one page, and it yields.

Letters in shapes: B batch, C channels, K classes, P patch axes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from autoseg.network.execution import Execution
from autoseg.train.accumulate import MicroBatches, Team, Way, backward
from autoseg.train.ema import Ema


class TrainingBatch(Protocol):
    """What a step learns from."""

    @property
    def images(self) -> Tensor:
        """(B, C, *P) float32."""
        ...

    @property
    def labels(self) -> Tensor:
        """(B, *P) class indices, -1 where unknown."""
        ...

    @property
    def annotated(self) -> Tensor | None:
        """(B, K) bool, which classes each image annotates; None: all."""
        ...


@dataclass(frozen=True)
class StepResult:
    """What one step did. Reading the tensors waits for the device."""

    step: int
    """Steps done, this one included."""
    loss: Tensor
    gradient_norm: Tensor
    """Before clipping."""
    lr: float


@dataclass(frozen=True, kw_only=True)
class Learner:
    """Everything that a step changes."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    scaler: torch.amp.GradScaler
    """Leaves out steps whose gradients are not finite."""


def train(
    learner: Learner,
    batches: Iterable[TrainingBatch],
    loss: Callable[..., Tensor],
    *,
    execution: Execution,
    learning_rate: Callable[[int], float],
    max_gradient_norm: float,
    first_step: int = 0,
    micro_batches: MicroBatches | Team | None = None,
) -> Iterator[StepResult]:
    """Train on every batch and yield after each.

    Parameters
    ----------
    learner
        The network, on its device, and what belongs to it.
    batches
        Those of the steps from `first_step` on.
    loss
        Called with the network's output and labels (B, *P), and with which classes are annotated
        (B, K) if not all are.
    execution
        Where and in which precision.
    learning_rate
        The rate of a step, from the number of steps done before it.
    micro_batches
        How many samples go through the network at once, or the processes that share each batch;
        None: all in this process, as long as memory bears it.
    """
    model, optimizer, scaler = learner.model, learner.optimizer, learner.scaler
    way = Way(
        model=model,
        loss=loss,
        scaler=scaler,
        execution=execution,
        micro_batches=micro_batches or MicroBatches(),
    )
    parameters = list(model.parameters())
    model.train()
    for step, batch in enumerate(batches, start=first_step):
        lr = learning_rate(step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()  # here, so that the caller can look at the gradients of a step
        images, labels = execution.images(batch.images), execution.send(batch.labels)
        known = () if batch.annotated is None else (execution.send(batch.annotated),)
        value = backward(way, images, (labels, *known), step)
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, max_gradient_norm)
        scaler.step(optimizer)
        scaler.update()
        learner.ema.update(step + 1)
        yield StepResult(step + 1, value, norm, lr)

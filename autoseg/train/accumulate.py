"""Gradients of a batch that goes through the network in parts.

A loss may look at a batch as a whole (Dice over the batch, the hardest voxels, means over the
voxels that are annotated): the mean of the losses of its parts is then another loss. So the parts
are only what the network sees at once; the loss sees the logits of all of them together. Gao et al.
2021, "Scaling deep contrastive learning batch size under memory limited setup" (arXiv:2101.06983):
logits without keeping what a backward pass needs, the loss with its gradient by the logits, then
part by part the network again, and back. The last part is not computed twice. It costs up to a
third more time, and the gradients are those of the whole batch, whatever the loss.

Batch normalisation alone sees the part only: no way through a network in parts can change that.

Letters in shapes: B batch, M samples of a part, C channels, K classes, P patch axes.
"""

import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor, nn

from autoseg.network.execution import Execution
from autoseg.network.recompute import uncounted
from autoseg.train.random_state import random_state, set_random_state

FULL_WORDS = (
    "DefaultCPUAllocator",
    "std::bad_alloc",
    "out of memory",  # of CUDA's own calls, and of Metal
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "Unable to find a valid cuDNN algorithm",  # none works in the memory that is left
)
"""What torch says of full memory where it has no class of errors for it."""

Logits = Tensor | tuple[Tensor, ...]
"""(B, K, *P), or several resolutions, finest first."""


@final
class MicroBatches:
    """How many samples of a batch go through the network at once, and since which step.

    Parameters
    ----------
    size
        As decided before the first step; None: all.
    changes
        Steps done and the size since then, in the order in which it was found out.
    on_change
        Called with step and size when memory was full.
    relieve
        Frees memory that training can do without; returns whether there was any. It is asked
        before a size is made smaller.
    """

    def __init__(
        self,
        size: int | None = None,
        changes: Iterable[tuple[int, int]] = (),
        on_change: Callable[[int, int], None] = lambda *_: None,
        relieve: Callable[[], bool] = lambda: False,
    ) -> None:
        self.relieve = relieve
        self._changes: list[tuple[int, int | None]] = [(0, size)]
        self._on_change = on_change
        for step, changed in changes:
            self._add(step, changed)

    def at(self, step: int) -> int | None:
        """Return the size after `step` steps; None: the whole batch."""
        return next(size for since, size in reversed(self._changes) if since <= step)

    def halve(self, step: int, size: int) -> None:
        """Take half of `size` from this step on."""
        half = (size + 1) // 2
        self._add(step, half)
        self._on_change(step, half)

    def _add(self, step: int, size: int) -> None:
        """Take a change, and drop what an interrupted run had found out later on."""
        self._changes = [item for item in self._changes if item[0] <= step]
        self._changes.append((step, size))


def is_memory_full(error: BaseException) -> bool:
    """Return whether an error says that memory could not be had, of a GPU or of the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in FULL_WORDS)


class Team(Protocol):
    """Several processes that make gradients together."""

    def backward(
        self, way: "Way", images: Tensor, targets: tuple[Tensor, ...], step: int
    ) -> Tensor:
        """Do what the function `backward` does."""
        ...


@dataclass(frozen=True, kw_only=True)
class Way:
    """How gradients are made, the same in every step."""

    model: nn.Module
    loss: Callable[..., Tensor]
    """Of logits and targets."""
    scaler: torch.amp.GradScaler
    execution: Execution
    micro_batches: MicroBatches | Team


def backward(way: Way, images: Tensor, targets: tuple[Tensor, ...], step: int) -> Tensor:
    """Leave the scaled gradients of a loss in a model that has none; return the loss.

    Where memory is full, the step is tried again from the same random numbers, with half as many
    samples at once unless other memory could be freed.

    Parameters
    ----------
    images
        (B, C, *P), on the device.
    targets
        What the loss gets besides the logits of all images.
    step
        Steps done.
    """
    parts = way.micro_batches
    if not isinstance(parts, MicroBatches):
        return parts.backward(way, images, targets, step)
    state = _State(way)
    while True:
        size = min(parts.at(step) or len(images), len(images))
        try:
            if size == len(images):
                return _at_once(way, images, targets)
            return _in_parts(way, images.split(size), targets)
        except Exception as error:
            if not is_memory_full(error):
                raise
            is_relieved = parts.relieve()
            if size == 1 and not is_relieved:
                raise
        # Here the error is gone, and with it all that its frames have held.
        state.restore()
        if not is_relieved:
            parts.halve(step, size)


def _at_once(way: Way, images: Tensor, targets: tuple[Tensor, ...]) -> Tensor:
    with way.execution.autocast():
        logits = way.model(images)  # (B, K, *P), or several
    value = way.loss(logits, *targets)
    way.scaler.scale(value).backward()
    return value.detach()


def _in_parts(way: Way, parts: Sequence[Tensor], targets: tuple[Tensor, ...]) -> Tensor:
    """Do the same, one part at a time."""
    model, execution = way.model, way.execution
    draws, found = [], []
    for part in parts[:-1]:
        draws.append(random_state(execution.device))
        with torch.no_grad(), execution.autocast(), uncounted(model):
            found.append(levels_of(model(part)))  # (M, K, *P) each
    with execution.autocast():
        last = model(parts[-1])
    found.append(levels_of(last))
    whole = [
        torch.cat([level.detach() for level in levels]).requires_grad_()
        for levels in zip(*found, strict=True)
    ]  # (B, K, *P) each
    value = way.loss(whole[0] if isinstance(last, Tensor) else tuple(whole), *targets)
    way.scaler.scale(value).backward()
    slopes = [None if level.grad is None else level.grad.split(len(parts[0])) for level in whole]
    del found, whole
    from_logits(levels_of(last), slopes, -1)
    del last  # with all that its backward pass has needed
    after = random_state(execution.device)
    for index, draw in enumerate(draws):
        set_random_state(draw, execution.device)
        with execution.autocast():
            logits = model(parts[index])
        from_logits(levels_of(logits), slopes, index)
    set_random_state(after, execution.device)
    return value.detach()


def levels_of(logits: Logits) -> tuple[Tensor, ...]:
    """Return the logits of all resolutions, finest first."""
    return (logits,) if isinstance(logits, Tensor) else tuple(logits)


def from_logits(
    levels: Sequence[Tensor], slopes: Sequence[tuple[Tensor, ...] | None], index: int
) -> None:
    """Go back from the logits of a part; not from those that the loss takes no notice of."""
    pairs = [(a, b[index]) for a, b in zip(levels, slopes, strict=True) if b is not None]
    torch.autograd.backward([a for a, _ in pairs], [b for _, b in pairs])


@final
class _State:
    """What a step changes before its gradients are there: random numbers, running statistics."""

    def __init__(self, way: Way) -> None:
        self._model, self._execution = way.model, way.execution
        self._random = random_state(way.execution.device)
        self._buffers = [buffer.clone() for buffer in way.model.buffers()]

    def restore(self) -> None:
        """Forget that the step was begun."""
        self._model.zero_grad()
        gc.collect(1)  # an error may be part of a cycle; it is young
        if self._execution.kind == "cuda":
            torch.cuda.empty_cache()
        set_random_state(self._random, self._execution.device)
        with torch.no_grad():
            for buffer, before in zip(self._model.buffers(), self._buffers, strict=True):
                buffer.copy_(before)

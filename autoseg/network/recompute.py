"""Parts of a network that are computed again in the backward pass instead of being kept."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

Run = Callable[..., Tensor]
"""Calls a part of a network, given first, with tensors."""


def called(part: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return what a part gives."""
    return part(*inputs)


def recomputing(network: nn.Module) -> Run:
    """Return a way to call parts of a network that keeps only their inputs.

    Chen et al. 2016, "Training deep nets with sublinear memory cost". Dropout draws the same both
    times, and batch normalisation counts the batch once.
    """

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), uncounted(network)

    def run(part: Callable[..., Tensor], *inputs: Tensor) -> Any:  # noqa: ANN401
        return checkpoint(part, *inputs, use_reentrant=False, context_fn=contexts)

    return run


@contextmanager
def uncounted(network: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch normalisation as they are."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, int(norm.num_batches_tracked or 0)) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.fill_(count)

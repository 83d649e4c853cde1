"""Several processes make the gradients of one fold together, each with a device of its own.

The leader trains as if it were alone: it alone reads data, decides, saves and validates. The others
only lend it their devices: in each step they get its weights and their part of the batch, and give
back the logits of that part, then the gradient of the weights from that of those logits. The loss
sees the logits of the whole batch, as in `autoseg.train.accumulate`, so that the gradients are
those of one process whatever the loss; torch's DistributedDataParallel averages the losses of
parts, which is another loss where it looks at a batch as a whole. As much travels as with that: the
weights one way, the gradients the other.

Batch normalisation alone sees the part only, and keeps the statistics of the leader's.

Letters in shapes: B batch, M samples of a part, C channels, K classes, P patch axes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from autoseg.errors import TrainingError, counted
from autoseg.network.execution import Execution, Precision
from autoseg.plan.plan import ConfigurationPlan
from autoseg.seeds import stream_seed
from autoseg.train.accumulate import Way, from_logits, levels_of

LEADER = 0
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
"""Of torch.distributed, by the kind of device."""

Build = Callable[[ConfigurationPlan, Execution, int], nn.Module]


@dataclass(frozen=True)
class _Order:
    """What the leader asks of the others in one step."""

    step: int
    sizes: tuple[int, ...]
    """Samples of each rank."""
    sample: tuple[int, ...]
    """(C, *P), of an image."""
    precision: Precision
    channels_last: bool


def shares(batch_size: int, num_ranks: int) -> tuple[int, ...]:
    """Return how many samples of a batch each rank takes: at most one more than any other."""
    least, more = divmod(batch_size, num_ranks)
    return tuple(least + (rank < more) for rank in range(num_ranks))


def check_team(configuration: ConfigurationPlan, device: str, num_devices: int) -> None:
    """Refuse more devices than there are samples in a batch, and kinds that cannot be joined.

    Raises
    ------
    TrainingError
        With the number of devices that can share the work.
    """
    kind = torch.device(device).type
    if kind not in BACKENDS:
        raise TrainingError(
            found=f"{num_devices} devices for each fold, of kind {kind}",
            expected=f"devices of a kind that can be joined: {', '.join(BACKENDS)}",
            fix="train without --devices-per-fold",
        )
    if num_devices > configuration.batch_size:
        size = counted(configuration.batch_size, "sample")
        raise TrainingError(
            found=f"{num_devices} devices for each fold of {configuration.name}, whose batch has "
            f"{size}",
            expected="at least one sample of each batch for every device",
            fix=f"give --devices-per-fold {configuration.batch_size} or less, or plan with a "
            f"larger batch (--set {configuration.name}.batch_size={num_devices})",
        )


@final
class Leader:
    """The one process of a team that trains; the others lend it their devices."""

    @property
    def num_ranks(self) -> int:
        """Processes of the team, this one included."""
        return dist.get_world_size()

    def backward(self, way: Way, images: Tensor, targets: tuple[Tensor, ...], step: int) -> Tensor:
        """Leave the scaled gradients of a loss in a model that has none; return the loss.

        Parameters
        ----------
        images
            (B, C, *P), on the device.
        targets
            What the loss gets besides the logits of all images.
        step
            Steps done.
        """
        sizes = shares(len(images), self.num_ranks)
        self._order(way, images, sizes, step)
        first, *others = images.split(sizes)
        _share_weights(way.model)
        for rank, part in enumerate(others, start=1):
            _send(part, rank)
        with way.execution.autocast():
            logits = way.model(first)
        levels = levels_of(logits)
        whole = [_gathered(level.detach(), sizes).requires_grad_() for level in levels]
        value = way.loss(whole[0] if isinstance(logits, Tensor) else tuple(whole), *targets)
        way.scaler.scale(value).backward()
        slopes = [None if level.grad is None else level.grad.split(sizes) for level in whole]
        for rank in range(1, self.num_ranks):
            for level, slope in zip(whole, slopes, strict=True):
                part = level.split(sizes)[rank]
                _send(torch.zeros_like(part) if slope is None else slope[rank], rank)
        from_logits(levels, slopes, LEADER)
        _add_gradients(way.model)
        return value.detach()

    def end(self) -> None:
        """Let the others go."""
        dist.broadcast_object_list([None], LEADER)

    def _order(self, way: Way, images: Tensor, sizes: tuple[int, ...], step: int) -> None:
        sample = tuple(images.shape[1:])
        execution = way.execution
        order = _Order(step, sizes, sample, execution.precision, execution.channels_last)
        dist.broadcast_object_list([order], LEADER)


def is_leader() -> bool:
    """Return whether this process is the leader of a team, or alone."""
    return not dist.is_initialized() or dist.get_rank() == LEADER


def joined() -> Leader | None:
    """Return the team that this process leads; None if it is alone."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    return Leader()


def follow(build: Build, configuration: ConfigurationPlan, device: str, place: Sequence) -> None:
    """Lend a device to the leader until it ends.

    Parameters
    ----------
    build
        Makes the network that the leader trains; its weights do not matter.
    place
        Names the draws of layers that drop features, with the step and the rank: plan's seed first.
    """
    rank, model, execution = dist.get_rank(), None, None
    while (order := _next_order()) is not None:
        if model is None or execution is None:
            execution = Execution(
                device=device, precision=order.precision, channels_last=order.channels_last
            )
            model = build(configuration, execution, 0).train()
        torch.manual_seed(stream_seed(*place, order.step, rank))
        _lend(model, execution, order, rank)


def _next_order() -> _Order | None:
    received: list[_Order | None] = [None]
    dist.broadcast_object_list(received, LEADER)
    return received[0]


def _lend(model: nn.Module, execution: Execution, order: _Order, rank: int) -> None:
    """Do one rank's part of a step."""
    model.zero_grad()
    _share_weights(model)
    images = torch.empty((order.sizes[rank], *order.sample), device=execution.device)
    dist.recv(images, LEADER)
    with execution.autocast():
        logits = model(execution.images(images))
    levels = levels_of(logits)
    for level in levels:
        _send(level.detach(), LEADER)
    slopes = []
    for level in levels:
        slope = torch.empty(level.shape, dtype=level.dtype, device=level.device)
        dist.recv(slope, LEADER)
        slopes.append((slope,))
    from_logits(levels, slopes, 0)
    _add_gradients(model)


def _gathered(level: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return the logits (B, K, *P) of all ranks, of which the leader's (M, K, *P) are the first."""
    found = [level]
    for rank, size in enumerate(sizes[1:], start=1):
        part = torch.empty((size, *level.shape[1:]), dtype=level.dtype, device=level.device)
        dist.recv(part, rank)
        found.append(part)
    return torch.cat(found)


def _send(tensor: Tensor, rank: int) -> None:
    dist.send(tensor.contiguous(), rank)


def _share_weights(model: nn.Module) -> None:
    """Give all ranks the leader's weights."""
    parameters = list(model.parameters())
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    dist.broadcast(flat, LEADER)
    if dist.get_rank() != LEADER:
        _scatter(flat, [parameter.data for parameter in parameters])


def _add_gradients(model: nn.Module) -> None:
    """Leave the sum of all ranks' gradients in the leader's model."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    flat = torch.cat(
        [
            torch.zeros_like(item).reshape(-1) if item.grad is None else item.grad.reshape(-1)
            for item in parameters
        ]
    )
    dist.reduce(flat, LEADER)
    if dist.get_rank() == LEADER:
        parts = flat.split([item.numel() for item in parameters])
        for item, part in zip(parameters, parts, strict=True):
            if item.grad is not None:  # one that the loss does not reach stays without
                item.grad.copy_(part.view_as(item))


def _scatter(flat: Tensor, targets: Sequence[Tensor]) -> None:
    """Copy a row of numbers into tensors, one after the other."""
    for target, part in zip(targets, flat.split([item.numel() for item in targets]), strict=True):
        target.copy_(part.view_as(target))

"""Training batches that the training device changes, not the workers.

Workers draw, cut and pack; the trainer copies a batch to its device and changes it there, both
without waiting for it.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import final

import torch

from autoseg.augment.device_batch import Packed, pack
from autoseg.network.execution import Execution
from autoseg.train.ahead import ahead
from autoseg.train.sampling import Batch, Batches


@final
@dataclass(frozen=True)
class PackedBatch:
    """A batch as it is read."""

    packed: Packed
    annotated: torch.Tensor | None
    """(B, K) bool, which classes each patch annotates; None: all."""

    def on(self, execution: Execution) -> Batch:
        """Return the batch on a device, changed as drawn."""
        images, labels = self.packed.apply(execution.send)
        annotated = None if self.annotated is None else execution.send(self.annotated)
        return Batch(images, labels, annotated)


@final
class DeviceBatches:
    """The batches of one fold, to be changed on the training device.

    Parameters
    ----------
    batches
        What is drawn and read, and how.
    kind
        Of the device, such as "cuda".
    """

    def __init__(self, batches: Batches, kind: str) -> None:
        self._batches, self._kind = batches, kind

    def batch(self, step: int) -> PackedBatch:
        """Return the batch of a step: the same for every call, order and number of threads."""
        plan = self._batches.configuration
        read = [self._batches.sample(step, index) for index in range(plan.batch_size)]
        packed = pack(
            [item.sample for item in read],
            plan.patch_size,
            masked_channels=self._batches.masked_channels,
            kind=self._kind,
        )
        return PackedBatch(packed, self._batches.annotated([item.case_ids for item in read]))

    def stream_from(
        self, step: int, num_steps: int, num_workers: int
    ) -> Generator[PackedBatch, None, None]:
        """Yield the batches of steps `step` to `num_steps` - 1 (see `ahead`)."""
        return ahead(self.batch, step, num_steps, num_workers, self._batches.at_work)

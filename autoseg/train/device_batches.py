"""Training batches that the training device changes, not the workers.

Workers draw, cut and pack; the trainer copies a batch to its device and changes it there, both
without waiting for it. Of cases that lie on the device, workers draw only, and it cuts.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import final

import torch

from autoseg.augment.augment import Sample
from autoseg.augment.device_batch import CutSample, Packed, pack
from autoseg.augment.device_cut import Cut
from autoseg.network.execution import Execution
from autoseg.train.ahead import ahead
from autoseg.train.residents import Residents
from autoseg.train.sampling import Batch, Batches, Drawn


@final
@dataclass(frozen=True)
class PackedBatch:
    """A batch as it is read."""

    packed: Packed
    annotated: torch.Tensor | None
    """(B, K) bool, which classes each patch annotates; None: all."""
    num_previous: int = 0
    """Channels that say what a previous stage found."""

    def on(self, execution: Execution) -> Batch:
        """Return the batch on a device, changed as drawn."""
        images, labels = self.packed.apply(execution.send)
        if self.num_previous:
            found = [labels[:, 1] == index for index in range(1, self.num_previous + 1)]
            images = torch.cat([images, torch.stack(found, dim=1).float()], dim=1)
            labels = labels[:, 0]
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
    residents
        The cases that lie on it; None: none does.
    """

    def __init__(self, batches: Batches, kind: str, residents: Residents | None = None) -> None:
        self._batches, self._kind, self._residents = batches, kind, residents

    def batch(self, step: int) -> PackedBatch:
        """Return the batch of a step: the same for every call, order and number of threads."""
        plan = self._batches.configuration
        drawn = [self._batches.drawn(step, index) for index in range(plan.batch_size)]
        packed = pack(
            [self._sample(step, index, item) for index, item in enumerate(drawn)],
            plan.patch_size,
            masked_channels=self._batches.masked_channels,
            kind=self._kind,
        )
        annotated = self._batches.annotated([item.case_ids for item in drawn])
        return PackedBatch(packed, annotated, self._batches.num_previous)

    def _sample(self, step: int, index: int, drawn: Drawn) -> Sample | CutSample:
        """Return a sample as it is read, or as the device will cut it."""
        with self._batches.named(step, index, drawn.place.case_id):
            found = self._residents and self._residents.case(drawn.place.case_id)
        if found is None:
            return self._batches.read(step, index, drawn).sample
        cut = Cut(
            found,
            box=drawn.place.whole_box(drawn.box),
            size=tuple(high - low for low, high in drawn.box),
            padding=self._batches.configuration.recipe.padding,
        )
        return CutSample(drawn.augmentation, cut, drawn.donors)

    def relieve(self) -> bool:
        """Take the cases off the device; return whether there were any."""
        return self._residents is not None and self._residents.release()

    def stream_from(
        self, step: int, num_steps: int, num_workers: int
    ) -> Generator[PackedBatch, None, None]:
        """Yield the batches of steps `step` to `num_steps` - 1 (see `ahead`)."""
        return ahead(self.batch, step, num_steps, num_workers, self._batches.at_work)

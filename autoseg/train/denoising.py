"""Learning from images without labels: a U-Net predicts the noise of a diffusion step.

Letters in shapes: B batch, C channels, P patch axes.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from autoseg.network.decoders import centre
from autoseg.network.diffusion import Denoiser, cosine_schedule, diffused, with_steps
from autoseg.network.execution import Execution
from autoseg.plan.plan import ConfigurationPlan
from autoseg.seeds import stream_seed
from autoseg.train.job import FoldJob
from autoseg.train.kept_cases import KeptCases
from autoseg.train.learner import make_learner
from autoseg.train.loop import Learner
from autoseg.train.sampling import Batch, Batches

NUM_DIFFUSION_STEPS = 1000
"""As in Ho et al. 2020."""


@final
class NoiseError(nn.Module):
    """Mean squared error of the predicted noise: Ho et al. 2020, equation 14."""

    def forward(self, predicted: Tensor, noise: Tensor) -> Tensor:
        """Return the error of noise (B, C, *P); without padding only its centre is predicted."""
        return mse_loss(predicted.float(), centre(noise, predicted.shape[2:]))


@final
class NoisyBatches:
    """Patches with noise of random steps, and the noise in place of labels.

    Parameters
    ----------
    batches
        Of the patches; their labels are not used.
    seed, place
        What the draws are named after (see `stream_seed`).
    """

    def __init__(self, batches: Batches, seed: int, *place: str) -> None:
        self._batches = batches
        self._seed, self._place = seed, place
        self._kept = cosine_schedule(NUM_DIFFUSION_STEPS)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step: the same for every call."""
        return self._noisy(self._batches.batch(step), step)

    def stream_from(
        self, step: int, num_steps: int, num_workers: int
    ) -> Generator[Batch, None, None]:
        """Yield the batches of steps `step` to `num_steps` - 1 (see `Batches.stream_from`)."""
        with closing(self._batches.stream_from(step, num_steps, num_workers)) as stream:
            for now, batch in enumerate(stream, start=step):
                yield self._noisy(batch, now)

    def relieve(self) -> bool:
        """Return whether memory of the device was freed that training can do without."""
        return self._batches.relieve()

    def _noisy(self, batch: Batch, step: int) -> Batch:
        generator = torch.Generator().manual_seed(stream_seed(self._seed, *self._place, step))
        images = batch.images
        steps = torch.randint(NUM_DIFFUSION_STEPS, (len(images),), generator=generator)
        noise = torch.randn(images.shape, generator=generator)
        noisy = diffused(images, noise, self._kept[steps])
        return replace(batch, images=with_steps(noisy, steps), labels=noise)


def denoising_batches(job: FoldJob, cache_bytes: int) -> NoisyBatches:
    """Return patches from anywhere in the images, changed in space only: noise comes on top."""
    planned, seed = job.planned, job.plan.seed
    place = f"pretraining {job.fold}"
    batches = Batches(
        KeptCases(job.store, cache_bytes),
        job.train_cases,
        _without_labels(planned),
        labels=replace(job.plan.labels, ignore=None),
        seed=seed,
        fold=place,
    )
    return NoisyBatches(batches, seed, "diffusion", planned.name, place)


def build_denoiser(configuration: ConfigurationPlan, execution: Execution, seed: int) -> Learner:
    """Return a denoiser on a plan's U-Net with freshly drawn weights, and what trains it."""
    model = Denoiser(configuration.network)
    model.draw(seed)
    return make_learner(model, configuration.training, execution)


def initial_weights(job: FoldJob, learner: Learner) -> dict[str, object]:
    """Return what `autoseg train --init` takes over from a pretraining.

    Returns
    -------
    dict
        `network`, the averaged weights without those of the heads; `classes`, None: it has none;
        `channels`, their names; `images`, the cases that were seen, without their labels.
    """
    denoiser = learner.ema.model
    assert isinstance(denoiser, Denoiser)
    return {
        "network": denoiser.shared_weights(),
        "classes": None,
        "channels": [channel.name for channel in job.planned.recipe.channels],
        "images": list(job.train_cases),
    }


def _without_labels(configuration: ConfigurationPlan) -> ConfigurationPlan:
    """Return a configuration that draws patches without a look at labels, changed in space only."""
    training = configuration.training
    augmentation = training.augmentation.revised(
        noise_probability=0.0,
        blur_probability=0.0,
        brightness_probability=0.0,
        contrast_probability=0.0,
        low_resolution_probability=0.0,
        gamma_probability=0.0,
        inverted_gamma_probability=0.0,
        cutmix_probability=0.0,
        copy_paste_probability=0.0,  # looks for objects, and unlabelled images have none
        channel_dropout_probability=0.0,  # nobody can tell the noise of a channel that is missing
    )
    changed = training.revised(foreground_fraction=0.0, augmentation=augmentation)
    return configuration.revised(training=changed)

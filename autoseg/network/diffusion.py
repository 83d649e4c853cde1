"""Denoising diffusion: noise that is added in steps, and a U-Net that is told the step.

Letters in shapes: B batch, C channels, E width of the embedding, F features, S spatial axes, T
diffusion steps.
"""

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from autoseg.network.build import build_network, initialise
from autoseg.record import NetworkPlan

COSINE_OFFSET = 0.008
"""Keeps the first steps from adding next to nothing (s in Nichol and Dhariwal 2021)."""
MAX_BETA = 0.999
"""Variance that one step adds at most: else the last step would leave nothing of the image."""
EMBEDDING_WIDTH = 128
LONGEST_PERIOD = 10_000.0
"""Of the sines, in steps over 2 pi, as in Vaswani et al. 2017, section 3.5."""
HEADS = "heads."
"""How the names of a U-Net's parameters begin that make its last features the output."""


def cosine_schedule(num_steps: int) -> Tensor:
    """Return which part of an image's variance is left after each step: (T,), 1 to 0, falling.

    Nichol and Dhariwal 2021, "Improved denoising diffusion probabilistic models", equation 17:
    f(t) / f(0) with f(t) = cos(pi / 2 (t / T + s) / (1 + s))^2.
    """
    parts = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    kept = torch.cos(math.pi / 2 * (parts + COSINE_OFFSET) / (1 + COSINE_OFFSET)) ** 2
    betas = (1 - kept[1:] / kept[:-1]).clamp(max=MAX_BETA)
    return torch.cumprod(1 - betas, dim=0).float()


def diffused(images: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Return images (B, C, *S) after as many steps as leave `kept` (B,) of their variance.

    sqrt(kept) x + sqrt(1 - kept) noise: Ho et al. 2020, "Denoising diffusion probabilistic
    models", equation 4.
    """
    kept = kept.view(-1, *(1,) * (images.ndim - 1))
    return kept.sqrt() * images + (1 - kept).sqrt() * noise


def with_steps(images: Tensor, steps: Tensor) -> Tensor:
    """Return what a `Denoiser` takes: (B, C + 1, *S), the last channel says the step (B,)."""
    channel = steps.to(images.dtype).view(-1, *(1,) * (images.ndim - 1))
    return torch.cat([images, channel.expand(-1, 1, *images.shape[2:])], dim=1)


@final
class StepEmbedding(nn.Module):
    """Sines and cosines of the step at falling frequencies, then an MLP: (B,) -> (B, E).

    Ho et al. 2020, appendix B.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        exponents = torch.arange(width // 2) / (width // 2)
        self.frequencies: Tensor
        self.register_buffer("frequencies", LONGEST_PERIOD**-exponents, persistent=False)

    def forward(self, steps: Tensor) -> Tensor:
        """Return the embedding of steps, 0 to T - 1."""
        angles = steps[:, None] * self.frequencies  # (B, E / 2)
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=1))


@final
class Condition(nn.Module):
    """Scales and shifts normalised features (B, F, *S) by the step, as a hook behind a norm.

    (1 + scale) norm(x) + shift: adaptive normalisation, Dhariwal and Nichol 2021, "Diffusion
    models beat GANs", section 3.1. At first it changes nothing.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 2 * features)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.embedded: Tensor | None = None
        """(B, E) of the images that are on their way through the network."""

    def after(self, _norm: nn.Module, _inputs: tuple[Tensor, ...], features: Tensor) -> Tensor:
        """Return a norm's output, scaled and shifted."""
        if self.embedded is None:
            raise ValueError("the network of a Denoiser is called through the Denoiser")
        change = self.project(self.embedded).view(len(features), -1, *(1,) * (features.ndim - 2))
        scale, shift = change.chunk(2, dim=1)  # (B, F, 1, ...)
        return features * (1 + scale) + shift


@final
class Denoiser(nn.Module):
    """A U-Net that predicts the noise in images (B, C, *S) of any diffusion step.

    The parameters of the U-Net keep their names, below `network`; those that tell it the step lie
    beside it, and go when the U-Net is used for something else (see `shared_weights`).
    """

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__()
        self.network = build_network(
            plan.revised(num_classes=plan.in_channels, num_supervised=1),
        )
        self.embedding = StepEmbedding(EMBEDDING_WIDTH)
        self.conditions = nn.ModuleList()
        for module in self.network.modules():
            if isinstance(module, (_NormBase, nn.GroupNorm)):
                condition = Condition(len(module.weight), EMBEDDING_WIDTH)
                module.register_forward_hook(condition.after)
                self.conditions.append(condition)

    def forward(self, x: Tensor) -> Tensor:
        """Return the noise (B, C, *S) in what `with_steps` gives."""
        embedded = self.embedding(x[:, -1].flatten(1)[:, 0])
        self._tell(embedded)
        try:
            return self.network(x[:, :-1])
        finally:
            self._tell(None)  # else the module could not be copied

    def draw(self, seed: int) -> None:
        """Draw all weights; the same seed draws the same ones."""
        initialise(self, seed)
        generator = torch.Generator().manual_seed(seed)
        for module in self.embedding.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)

    def shared_weights(self) -> dict[str, Tensor]:
        """Return the weights that other tasks of the same U-Net begin with: all but its heads."""
        weights = self.network.state_dict()
        return {name: item for name, item in weights.items() if not name.startswith(HEADS)}

    def _tell(self, embedded: Tensor | None) -> None:
        for condition in self.conditions:
            assert isinstance(condition, Condition)
            condition.embedded = embedded

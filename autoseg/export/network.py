"""The network of an artifact: normalisation and all folds of a configuration in one module.

Letters in shapes: B tiles in a batch, C channels, K classes, P axes of the patch.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from autoseg.ensemble.choose import Member
from autoseg.infer.predict import load_network
from autoseg.plan.plan import Plan
from autoseg.runtime.recipe import Recipe
from autoseg.train.checkpoint import load_weights
from autoseg.workspace import Workspace

FLOAT_MAX = torch.finfo(torch.float32).max


@final
class FoldEnsemble(nn.Module):
    """Clip and normalise a tile, run every fold, average the logits; fp32 but for the folds.

    Parameters
    ----------
    folds
        Networks (B, C, *P) -> (B, K, *P).
    lower, upper
        Bounds of each channel of the raw tile.

    A channel that is NaN stays so: the networks of a plan with `missing_channels` know of it.
    """

    lower: Tensor
    upper: Tensor

    def __init__(
        self, folds: Sequence[nn.Module], lower: Sequence[float], upper: Sequence[float]
    ) -> None:
        super().__init__()
        self.folds = nn.ModuleList(folds)
        self.may_miss = any(getattr(fold, "missing_channels", False) for fold in folds)
        self.is_bounded = any(value > -FLOAT_MAX for value in lower) or any(
            value < FLOAT_MAX for value in upper
        )
        self.register_buffer("lower", torch.tensor(lower, dtype=torch.float32))
        self.register_buffer("upper", torch.tensor(upper, dtype=torch.float32))

    def forward(self, tile: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Return logits (B, K, *P) of (B, C, *P), (B, C) and (B, C)."""
        axes = (1,) * (tile.ndim - 2)
        index = (..., *(None for _ in axes))
        bounded = tile
        if self.is_bounded:
            bounded = torch.minimum(bounded, self.upper.reshape(1, -1, *axes))
            bounded = torch.maximum(bounded, self.lower.reshape(1, -1, *axes))
        normal = (bounded - mean[index]) / std[index]
        if self.may_miss:
            # Runtimes differ in what the larger of NaN and a number is.
            normal = torch.where(tile.isnan(), tile, normal)
        total = self.folds[0](normal).float()
        for fold in self.folds[1:]:
            total = total + fold(normal).float()
        return total / len(self.folds)


def load_folds(workspace: Workspace, plan: Plan, member: Member) -> list[nn.Module]:
    """Return the trained networks of a configuration's folds, on the CPU, ready to predict."""
    network = plan.configuration(member.configuration).network
    digest = plan.digest()
    finals = [workspace.fold(member.configuration, fold).final for fold in member.folds]
    return [
        load_network(network, load_weights(path, digest)[0]).requires_grad_(requires_grad=False)
        for path in finals
    ]


def make_ensemble(folds: Sequence[nn.Module], recipe: Recipe, num_further: int = 0) -> FoldEnsemble:
    """Return the module that is exported; bounds apply to raw input only.

    `num_further` channels of a previous stage come after those of the image.
    """
    raw = recipe.order == "resample-normalise"
    lower = [-FLOAT_MAX if c.lower is None or not raw else c.lower for c in recipe.channels]
    upper = [FLOAT_MAX if c.upper is None or not raw else c.upper for c in recipe.channels]
    free = [FLOAT_MAX] * num_further
    return FoldEnsemble(folds, [*lower, *(-value for value in free)], [*upper, *free]).eval()

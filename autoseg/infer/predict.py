"""Whole images through torch networks: the tiles are `runtime.blend`'s, the network call is here.

Letters in shapes: B tiles, C channels, K classes, P patch axes, S' axes of the prepared array.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autoseg.network.build import build_network
from autoseg.network.execution import Execution, Precision
from autoseg.plan.plan import ConfigurationPlan
from autoseg.record import NetworkPlan
from autoseg.runtime.blend import Network, Tiling, blend, blend_rows
from autoseg.runtime.cascade import Previous, with_one_hot
from autoseg.runtime.sums import Rows
from autoseg.runtime.tiles import tile_starts


def load_network(plan: NetworkPlan, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return a plan's network with the given weights, ready to predict, on the CPU."""
    model = build_network(plan)
    model.load_state_dict(weights)
    return model.eval()


def torch_network(
    models: nn.Module | Sequence[nn.Module],
    device: str,
    precision: Precision,
    *,
    channels_last: bool = False,
) -> Network:
    """Return a function from tiles (B, C, *P) to logits (B, K, *P), the mean over `models`.

    The networks are in evaluation mode; they are moved to the device.
    """
    execution = Execution(device=device, precision=precision, channels_last=channels_last)
    members = [models] if isinstance(models, nn.Module) else list(models)
    first, *others = [execution.place(model) for model in members]

    @torch.inference_mode()
    def predict(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        images = execution.images(torch.from_numpy(tiles))
        with execution.autocast():
            logits = first(images).float()
            for model in others:
                logits += model(images)
        if others:
            logits /= len(members)
        return logits.contiguous().cpu().numpy()

    return predict


def predict_prepared(
    models: nn.Module | Sequence[nn.Module],
    array: NDArray,
    configuration: ConfigurationPlan,
    *,
    execution: Execution,
    mirror_axes: tuple[int, ...],
    previous: Previous | None = None,
) -> NDArray[np.float32]:
    """Return logits (K, *S') of a normalised image (C, *S'), the mean over `models` (folds).

    Parameters
    ----------
    models
        In evaluation mode; they are moved to the device.
    mirror_axes
        Axes along which mirrored tiles are predicted, too: `mirroring(configuration)`, or none.
    previous
        What the previous stage found in the image, where the plan has one.
    """
    network, tiling = _engine(models, configuration, execution, mirror_axes, previous)
    array = np.asarray(array, np.float32)
    return blend(array, network, configuration.patch_size, tiling=tiling, previous=previous)


def predict_rows(
    models: nn.Module | Sequence[nn.Module],
    array: NDArray,
    configuration: ConfigurationPlan,
    *,
    execution: Execution,
    mirror_axes: tuple[int, ...],
    previous: Previous | None = None,
) -> Iterator[Rows]:
    """Yield what `predict_prepared` returns from the first row to the last, as rows are finished.

    Only as many rows of all classes are held as a tile is deep. For the parameters see there.
    """
    network, tiling = _engine(models, configuration, execution, mirror_axes, previous)
    array = np.asarray(array, np.float32)
    return blend_rows(array, network, configuration.patch_size, tiling=tiling, previous=previous)


def _engine(
    models: nn.Module | Sequence[nn.Module],
    configuration: ConfigurationPlan,
    execution: Execution,
    mirror_axes: tuple[int, ...],
    previous: Previous | None,
) -> tuple[Network, Tiling]:
    """Return a function from tiles to logits, and how an image is cut into tiles."""
    recipe = configuration.recipe
    tiling = Tiling(
        overlap=recipe.overlap,
        padding=recipe.padding,
        pad_values=(0.0,) * len(recipe.channels),
        mirror_axes=mirror_axes,
        batch_size=configuration.batch_size,
        margins=configuration.network.output_margin,
    )
    network = torch_network(
        models, execution.device, execution.precision, channels_last=execution.channels_last
    )
    return network if previous is None else _fed(network, previous.num_classes), tiling


def _fed(network: Network, num_classes: int) -> Network:
    """Return a function from tiles with labels as last channel, one-hot for the network."""
    return lambda tiles: network(with_one_hot(tiles, num_classes))


def mirroring(configuration: ConfigurationPlan) -> tuple[int, ...]:
    """Return the axes along which the plan mirrors when predicting; none if it does not."""
    recipe = configuration.recipe
    return recipe.mirror_axes if recipe.test_time_mirroring else ()


def count_tiles(shape: Sequence[int], configuration: ConfigurationPlan) -> int:
    """Return how many tiles a prepared image with axes `shape` (*S') takes without mirroring."""
    patch = configuration.output_size
    tile = (1,) * (len(shape) - len(patch)) + patch
    filled = [max(n, p) for n, p in zip(shape, tile, strict=True)]
    return len(tile_starts(filled, tile, configuration.recipe.overlap))

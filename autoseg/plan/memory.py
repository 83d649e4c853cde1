"""Memory of one training step, from numbers of feature values; nothing is built or run."""

import math
from collections.abc import Sequence

from autoseg.machine import Precision
from autoseg.plan.counting import body_layers, head_layers, num_parameters
from autoseg.record import NetworkPlan

BYTES_PER_VALUE = {"fp16": 6.0, "bf16": 7.4, "fp32": 15.0}
"""Bytes that a step holds for each feature value, by precision: what the backward pass needs, and
the gradients under way. CPU (bf16, fp32): fitted to the peak memory of 38 networks of 1, 2 and 3
axes, nearly all within 20 %. GPU (fp16, not measured): nnU-Net's reference network keeps 5.6e8
values an image and runs with two images in about 8 GB."""
RECOMPUTED_FRACTION = 0.6
"""Part of that which remains where stages are computed again in the backward pass; measured on a
CPU: 0.52 to 0.58."""
BYTES_PER_PARAMETER = 20
"""float32 weights, gradients, two moments or momentum and a copy, and the running average."""
LIBRARY_BYTES = 260_000_000
"""torch and what else a training process has loaded before it builds the network."""
WORKSPACE_BYTES = 140_000_000
"""What the first step adds whatever the network is: kernels that are compiled, buffers."""
FIXED_BYTES = LIBRARY_BYTES + WORKSPACE_BYTES
"""Before the first value; on a GPU the context takes about as much."""
BATCHES_HELD = 4
"""Batches in memory: one is computed on, one waits, one is being made and takes twice its size."""


def feature_values(network: NetworkPlan, patch_size: Sequence[int], num_outputs: int) -> int:
    """Return how many values the convolutions of the network put out for one image.

    nnU-Net's measure of memory: convolutions, transposed convolutions and the finest head;
    normalisation, activation and the heads of deep supervision are not counted. A nested decoder's
    heads are, because all are of full resolution.

    Parameters
    ----------
    network, patch_size
        What is trained on what.
    num_outputs
        Entries of the label table (nnU-Net counts the ignore label among them).
    """
    values = sum(layer.values for layer in body_layers(network, patch_size))
    if network.backbone is not None:
        values += round(network.backbone.values * math.prod(patch_size))
    if len(network.stages) == 1:
        return values
    num_heads = network.num_supervised if network.decoder == "nested" else 1
    finest = next(head_layers(network, patch_size))
    return values + num_heads * num_outputs * finest.voxels


def training_memory(
    network: NetworkPlan,
    patch_size: Sequence[int],
    *,
    batch_size: int,
    precision: Precision,
    recompute: bool = False,
) -> int:
    """Return the expected peak of a training process on its device, bytes.

    Features with their gradients, weights with gradient, moments and running average, batches that
    are made ahead, and what does not depend on the network. The loss goes through the voxels slab
    by slab and adds nothing that counts; the logits of the heads are features like others.
    """
    values = feature_values(network, patch_size, network.num_classes)
    kept = RECOMPUTED_FRACTION if recompute else 1.0
    sample = math.prod(patch_size) * (4 * network.in_channels + 2)  # float32 images, int16 labels
    return int(
        FIXED_BYTES
        + BYTES_PER_PARAMETER * num_parameters(network)
        + batch_size * (kept * BYTES_PER_VALUE[precision] * values + BATCHES_HELD * sample)
    )

"""Memory of one training step, from numbers of feature values; nothing is built or run."""

import math
from collections.abc import Sequence

from autoseg.machine import Precision
from autoseg.plan.counting import body_layers, num_parameters, stage_voxels
from autoseg.record import NetworkPlan

BYTES_PER_VALUE = {"fp16": 6.0, "bf16": 12.0, "fp32": 23.0}
"""Bytes that a step holds for each feature value, by precision. fp16 (GPU, not measured): nnU-Net's
reference network keeps 5.6e8 values an image and runs with two images in about 8 GB. On a CPU,
measured: 10.5 to 14 in bfloat16, 23 in float32, because normalisation works in float32 there."""
RECOMPUTED_FRACTION = 0.6
"""Part of that which remains where stages are computed again in the backward pass; measured on a
CPU: 0.52 to 0.58."""
BYTES_PER_PARAMETER = 20
"""float32 weights, gradients, two moments or momentum and a copy, and the running average."""
FIXED_BYTES = 400_000_000
"""Libraries, context and workspace before the first value."""


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
    return values + num_heads * num_outputs * stage_voxels(network.stages, patch_size)[0]


def training_memory(
    network: NetworkPlan, patch_size: Sequence[int], *, batch_size: int, precision: Precision
) -> int:
    """Return the expected peak of a training step on its device, bytes."""
    values = feature_values(network, patch_size, network.num_classes)
    inputs = (network.in_channels + network.num_classes) * math.prod(patch_size) * 4
    return int(
        FIXED_BYTES
        + BYTES_PER_PARAMETER * num_parameters(network)
        + batch_size * (BYTES_PER_VALUE[precision] * values + inputs)
    )

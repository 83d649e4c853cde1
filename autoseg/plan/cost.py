"""What a configuration costs: parameters, operations, time, memory, disk.

The time of a training step is a sum of four terms, each with a constant of the machine:

    operations * operation_s + values * value_s + parameters * parameter_s + layers * layer_s

Operations are those of the convolutions, with the idle places of half-filled vectors: 3 channels
take as long as 16. Values are the numbers that layers put out; normalisation, activation and
copies pass over them again and again, at the speed of the memory, and narrow networks spend more
time on them than on arithmetic. Parameters cost what the optimiser and the running average do,
layers the calls. Where the constants come from is said in `autoseg.plan.speed`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.machine import Device, Machine, StepSpeed
from autoseg.plan.augmentation import light_augmentation
from autoseg.plan.counting import (
    body_layers,
    forward_operations,
    head_layers,
    num_layers,
    num_parameters,
)
from autoseg.plan.memory import training_memory
from autoseg.plan.plan import Cost, TrainingPlan
from autoseg.plan.speed import step_speed
from autoseg.record import LossPlan, NetworkPlan

TRAINING_FACTOR = 3.0
"""A step is one forward pass and a backward pass that costs two."""
RECOMPUTED_FACTOR = 4 / 3
"""With `recompute`, a step is two forward passes and a backward pass."""
LOSS_PASSES = 2.0
"""Time of a logit's loss over that of a feature value."""
CENTRELINE_PASSES = 80.0
"""Time of one iteration of clDice for a voxel of a class over the same."""
DISTANCE_PASSES = 65.0
"""Time of a voxel of a class in the boundary loss, whose distances are exact, over the same."""
COPIED_PASSES = 0.5
"""Time of reading a voxel of a channel of a training patch over that of a feature value."""
WARPED_PASSES = {1: 1.0, 2: 2.0, 3: 4.0}
"""Time of turning or scaling it over the same, by number of axes: interpolation."""
ELASTIC_PASSES = {1: 2.0, 2: 3.5, 3: 7.5}
"""Time of an elastic change over the same. Measured like the constants of a step."""
COLOUR_PASSES = 0.4
"""Time of one change of intensity over the same."""
PREPARED_VALUE_BYTES = 1.6
"""float16 images after lossless compression, bytes a value."""
PREPARED_LABEL_BYTES = 0.1
"""Label maps compress well: bytes a voxel."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one training step has to do."""

    operations: float
    values: float
    parameters: float
    layers: float


def step_work(
    network: NetworkPlan,
    patch_size: Sequence[int],
    *,
    batch_size: int,
    training: TrainingPlan | None = None,
) -> Work:
    """Return the work of one training step: network, loss, optimiser, running average, data.

    Parameters
    ----------
    network, patch_size, batch_size
        What is trained on what.
    training
        Its loss, augmentation and recomputing; None: light augmentation, a loss of overlap.
    """
    again = RECOMPUTED_FACTOR if training is not None and training.recompute else 1.0
    backbone, voxels = network.backbone, math.prod(patch_size)
    body, heads = list(body_layers(network, patch_size)), list(head_layers(network, patch_size))
    lanes = sum(layer.lanes * layer.voxels for layer in (*body, *heads))
    values = sum(layer.values for layer in body)
    if backbone is not None:  # how full its vectors are is not known
        lanes += backbone.multiplications * voxels
        values += backbone.values * voxels
    logits = sum(layer.values for layer in heads)
    extra = _loss_values(network, training, logits, voxels)
    extra += _data_values(network, patch_size, training)
    return Work(
        operations=again * TRAINING_FACTOR * batch_size * 2 * lanes,
        values=batch_size * (again * values + extra),
        parameters=num_parameters(network),
        layers=again * num_layers(network),
    )


def _loss_values(
    network: NetworkPlan, training: TrainingPlan | None, logits: int, voxels: int
) -> float:
    """Return the feature values whose time the loss of one image takes."""
    loss = LossPlan() if training is None else training.loss
    classes = voxels * (network.num_classes - 1)
    extra = 0.0
    if loss.kind in ("cldice", "dice_ce_cldice"):
        extra = CENTRELINE_PASSES * loss.skeleton_iterations * classes
    elif loss.kind == "dice_ce_boundary":
        extra = DISTANCE_PASSES * classes
    return LOSS_PASSES * logits + extra


def _data_values(
    network: NetworkPlan, patch_size: Sequence[int], training: TrainingPlan | None
) -> float:
    """Return the feature values whose time it takes to make one training patch.

    On a CPU threads make patches while others compute, on the same cores.
    """
    dims = len(patch_size)
    plan = light_augmentation(patch_size) if training is None else training.augmentation
    warped = 1 - (1 - plan.rotation_probability) * (1 - plan.scale_probability)
    colours = (
        plan.noise_probability
        + plan.blur_probability
        + plan.brightness_probability
        + plan.contrast_probability
        + plan.low_resolution_probability
        + plan.gamma_probability
        + plan.inverted_gamma_probability
    )
    passes = (
        COPIED_PASSES
        + WARPED_PASSES[dims] * warped
        + ELASTIC_PASSES[dims] * plan.elastic_probability
        + COLOUR_PASSES * colours
    )
    return passes * network.in_channels * math.prod(patch_size)


def work_seconds(work: Work, speed: StepSpeed) -> float:
    """Return how long a training step takes."""
    return (
        work.operations * speed.operation_s
        + work.values * speed.value_s
        + work.parameters * speed.parameter_s
        + work.layers * speed.layer_s
    )


def overhead_seconds(network: NetworkPlan, speed: StepSpeed) -> float:
    """Return the part of a step's time that no smaller patch or batch would save."""
    return num_layers(network) * speed.layer_s


def step_cost(
    network: NetworkPlan,
    patch_size: Sequence[int],
    *,
    batch_size: int,
    speed: StepSpeed,
    training: TrainingPlan | None = None,
) -> tuple[float, float]:
    """Return the operations of one training step, without idle places, and its seconds."""
    passes = TRAINING_FACTOR
    if training is not None and training.recompute:
        passes *= RECOMPUTED_FACTOR
    work = step_work(network, patch_size, batch_size=batch_size, training=training)
    operations = passes * batch_size * forward_operations(network, patch_size)
    return operations, work_seconds(work, speed)


def disk_bytes(num_channels: int, dataset_voxels: float) -> int:
    """Return the expected size of all prepared cases of a configuration."""
    return int(dataset_voxels * (num_channels * PREPARED_VALUE_BYTES + PREPARED_LABEL_BYTES))


def configuration_cost(
    network: NetworkPlan,
    patch_size: Sequence[int],
    *,
    batch_size: int,
    device: Device,
    machine: Machine,
    dataset_voxels: float,
    training: TrainingPlan | None = None,
) -> Cost:
    """Return the cost of a configuration; the training time is filled in when steps are known."""
    operations, seconds = step_cost(
        network,
        patch_size,
        batch_size=batch_size,
        speed=step_speed(machine, device, network.dimensions),
        training=training,
    )
    memory = training_memory(
        network,
        patch_size,
        batch_size=batch_size,
        precision=machine.training_precision(device),
        recompute=training is not None and training.recompute,
    )
    return Cost(
        parameters=num_parameters(network),
        step_operations=operations,
        step_seconds=seconds,
        train_seconds=0.0,
        memory_bytes=memory,
        disk_bytes=disk_bytes(network.in_channels, dataset_voxels),
    )

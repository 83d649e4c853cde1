"""What is trained: network, optimiser and averaged weights of a plan, drawn from its seed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autoseg.network.backbone import load_pretrained
from autoseg.network.build import build_network, initialise
from autoseg.network.execution import Execution
from autoseg.plan.plan import ConfigurationPlan, TrainingPlan
from autoseg.record import NetworkPlan
from autoseg.train.ema import Ema
from autoseg.train.loop import Learner
from autoseg.train.loss import DeepSupervised, build_named_loss

FUSED_KINDS = ("cpu", "cuda")
"""Kinds of devices whose optimisers change all weights in one pass."""
NEVER = 2**31 - 1
"""Steps, more than any run has."""


def build_learner(configuration: ConfigurationPlan, execution: Execution, seed: int) -> Learner:
    """Return a network with freshly drawn weights, placed, and what trains it."""
    model = build_network(configuration.network)
    initialise(model, seed)
    return make_learner(model, configuration.training, execution)


def make_learner(model: nn.Module, training: TrainingPlan, execution: Execution) -> Learner:
    """Return a network, now placed, and what trains it."""
    replace(execution, checkpointing=training.recompute).place(model)
    learner = Learner(
        model=model,
        optimizer=_optimizer(model, training, fused=execution.kind in FUSED_KINDS),
        ema=Ema(model, training.ema_decay),
        scaler=_scaler(execution),
    )
    if execution.compiled:  # in place: the same module, whose weights keep their names
        model.compile(dynamic=False)
    return learner


def load_encoder(learner: Learner, network: NetworkPlan, path: Path) -> None:
    """Give the encoder, and its running average, the weights that were planned for it.

    Raises
    ------
    AutosegError
        The file is missing, damaged or of other weights.
    """
    for model in (learner.model, learner.ema.model):
        load_pretrained(model, network, path)


def build_loss(training: TrainingPlan) -> nn.Module:
    """Return the loss of a plan."""
    inner = build_named_loss(
        training.loss, batch_dice=training.batch_dice, distance_transform=_distances
    )
    return DeepSupervised(inner, weights=training.supervision_weights)


def _distances(mask: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Return the distance of each True voxel to the nearest False one, voxels."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(mask))


def _scaler(execution: Execution) -> torch.amp.GradScaler:
    """Return what leaves out a step whose gradients are not finite, without waiting for the device.

    Only fp16 needs a scale; elsewhere it is 1, and a skipped step merely halves it.
    """
    if execution.precision == "fp16":
        return torch.amp.GradScaler(execution.kind)
    return torch.amp.GradScaler(
        execution.kind,
        init_scale=1.0,
        growth_interval=NEVER,
        enabled=execution.kind in FUSED_KINDS,
    )


def _optimizer(model: nn.Module, plan: TrainingPlan, *, fused: bool) -> torch.optim.Optimizer:
    """Return the plan's optimiser; its learning rate is set before each step."""
    parameters = [item for item in model.parameters() if item.requires_grad]
    if plan.optimizer != "sgd":
        kind = torch.optim.AdamW if plan.optimizer == "adamw" else torch.optim.Adam
        return kind(parameters, lr=plan.peak_lr, weight_decay=plan.weight_decay, fused=fused)
    optimizer = torch.optim.SGD(
        parameters,
        lr=plan.peak_lr,
        momentum=plan.momentum,
        nesterov=plan.momentum > 0,
        weight_decay=plan.weight_decay,
        fused=fused,
    )
    if plan.momentum > 0:
        # torch's fused SGD would go on from memory as it finds it if the first step is left out.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer

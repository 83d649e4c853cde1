"""Weights of nnU-Net's networks under our names: the networks are the same, their modules not."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from autoseg.network.build import build_network
from autoseg.record import NetworkPlan

WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")
"""What DistributedDataParallel and torch.compile put before every name."""
REPEATED = (
    # Decoders hold the encoder once more, and blocks their layers in a sequence besides.
    (re.compile(r"^decoder\.encoder\."), "encoder."),
    (re.compile(r"\.all_modules\.0\."), ".conv."),
    (re.compile(r"\.all_modules\.1\."), ".norm."),
)
NAMES = (
    (re.compile(r"encoder\.stem\.convs\.0\.(conv|norm)\.(\w+)"), r"stem.\1.\2"),
    (
        re.compile(r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.(conv|norm)\.(\w+)"),
        r"encoder.\1.\2.\3.\4",
    ),
    (
        re.compile(r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv1\.(conv|norm)\.(\w+)"),
        r"encoder.\1.\2.first.\3.\4",
    ),
    (
        re.compile(r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv2\.(conv|norm)\.(\w+)"),
        r"encoder.\1.\2.\3.\4",
    ),
    (
        re.compile(r"decoder\.stages\.(\d+)\.convs\.(\d+)\.(conv|norm)\.(\w+)"),
        r"decoder.\1.convs.\2.\3.\4",
    ),
    (re.compile(r"decoder\.transpconvs\.(\d+)\.(\w+)"), r"decoder.\1.upsample.\2"),
)
SHORTCUT = re.compile(r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.(\d+)\.(conv|norm)\.(\w+)")
HEAD = re.compile(r"decoder\.seg_layers\.(\d+)\.(\w+)")


def our_weights(
    weights: Mapping[str, Tensor], plan: NetworkPlan
) -> tuple[dict[str, Tensor], list[str]]:
    """Return nnU-Net's weights under our names, and what does not fit, one line a problem.

    Every tensor must be used and every parameter of the plan's network filled; without problems,
    the weights load strictly.

    Parameters
    ----------
    weights
        `network_weights` of a checkpoint.
    plan
        Of the same network: plain or residual, a head at every resolution but the lowest.
    """
    found: dict[str, Tensor] = {}
    problems = []
    for theirs, tensor in weights.items():
        name = _our_name(theirs, len(plan.stages))
        if name is None:
            problems.append(f"{theirs}: no layer of the planned network has a place for it")
        elif name not in found:
            found[name] = tensor
        elif not torch.equal(found[name], tensor):
            problems.append(f"{theirs}: differs from the other copy of the same layer")
    with torch.device("meta"):
        wanted = build_network(plan).state_dict()
    problems += [f"{name}: not in the checkpoint" for name in wanted if name not in found]
    for name, tensor in found.items():
        if name not in wanted:
            problems.append(f"{name}: not in the planned network")
        elif tensor.shape != wanted[name].shape:
            shapes = f"{tuple(tensor.shape)}, the plan says {tuple(wanted[name].shape)}"
            problems.append(f"{name}: its shape is {shapes}")
    return {name: found[name].float() for name in wanted if name in found}, problems


def _our_name(theirs: str, num_stages: int) -> str | None:
    """Return our name of one of nnU-Net's tensors; None if it is none that we know."""
    name = WRAPPERS.sub("", theirs)
    for pattern, canonical in REPEATED:
        name = pattern.sub(canonical, name)
    for pattern, ours in NAMES:
        if pattern.fullmatch(name):
            return pattern.sub(ours, name)
    if match := SHORTCUT.fullmatch(name):
        stage, block, index, kind, tensor = match.groups()
        place = int(index) + (kind == "norm")  # theirs are one module, ours two
        return f"encoder.{stage}.{block}.shortcut.{place}.{tensor}"
    if match := HEAD.fullmatch(name):
        # Theirs count from the coarsest, ours from the finest.
        return f"heads.{num_stages - 2 - int(match[1])}.{match[2]}"
    return None

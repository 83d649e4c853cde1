"""Whether what was planned can be built: torch's meta device computes shapes and nothing else."""

import math

import torch

from autoseg.network.build import build_network
from autoseg.plan.plan import ConfigurationPlan
from autoseg.train.learner import build_loss

BATCH = 2
"""Images that are sent through a network; how many does not matter for shapes."""


def check_buildable(item: ConfigurationPlan) -> None:
    """Raise AssertionError unless a configuration's network takes its patch, and its loss exists.

    The network must have as many parameters as the plan expects, and predict every class of the
    whole patch, less the margin that its convolutions take. A pretrained encoder is not built: that
    would need its package and its weights.
    """
    build_loss(item.training)
    network = item.network
    if network.backbone is not None:
        return
    with torch.device("meta"), torch.no_grad():
        model = build_network(network)
        patch = torch.empty(BATCH, network.in_channels, *item.patch_size)
        outputs = model.train()(patch)
    finest = outputs[0] if isinstance(outputs, tuple) else outputs
    count = 1 if not isinstance(outputs, tuple) else len(outputs)
    parameters = sum(math.prod(tensor.shape) for tensor in model.parameters())
    planned = item.cost.parameters
    assert parameters == planned, f"{item.name}: {parameters} parameters, {planned} expected"
    expected = (BATCH, network.num_classes, *item.output_size)
    assert tuple(finest.shape) == expected, f"{item.name}: {tuple(finest.shape)}, not {expected}"
    assert count == network.num_supervised, f"{item.name}: {count} outputs are supervised"

"""Networks of every kind, small."""

import pytest
import torch

from autoseg.network.build import build_network, initialise
from autoseg.record import NetworkPlan, StagePlan

VARIANTS = {
    "plain": {},
    "residual": {"encoder": "residual"},
    "bottleneck": {"encoder": "bottleneck"},
    "mednext": {"encoder": "mednext"},
    "attention": {"decoder": "attention"},
    "nested": {"decoder": "nested"},
    "linear": {"upsampling": "linear"},
    "shuffle": {"upsampling": "shuffle"},
    "max": {"downsampling": "max"},
    "batch": {"norm": "batch"},
    "group": {"norm": "group"},
    "dropout": {"dropout": 0.5},
    "missing": {"missing_channels": True},
    "plain squeeze": {"squeeze_reduction": 2},
    "residual squeeze": {"encoder": "residual", "squeeze_reduction": 2},
    "several": {
        "encoder": "bottleneck",
        "decoder": "nested",
        "downsampling": "max",
        "norm": "group",
        "squeeze_reduction": 4,
        "upsampling": "shuffle",
    },
    "others": {
        "encoder": "mednext",
        "decoder": "attention",
        "norm": "batch",
        "squeeze_reduction": 2,
        "upsampling": "linear",
        "dropout": 0.2,
    },
}


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks are fastest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_plan():
    def make(variant="plain", dimensions=2, **changes):
        strides = [(1,) * dimensions, (2,) * dimensions, (1,) * (dimensions - 1) + (2,)]
        stages = tuple(
            StagePlan(
                features=4 * 2**level,
                kernel_size=(3,) * dimensions,
                strides=stride,
                num_blocks=2,
            )
            for level, stride in enumerate(strides)
        )
        values = {
            "encoder": "plain",
            "in_channels": 2,
            "num_classes": 3,
            "stages": stages,
            "decoder_convs": 2,
            "num_supervised": 2,
        }
        return NetworkPlan(**{**values, **VARIANTS[variant], **changes})

    return make


@pytest.fixture(params=VARIANTS)
def variant(request):
    return request.param


@pytest.fixture(params=[1, 2, 3])
def dimensions(request):
    return request.param


@pytest.fixture
def make_network(make_plan):
    def make(variant="plain", dimensions=2, seed=0, **changes):
        model = build_network(make_plan(variant, dimensions, **changes))
        initialise(model, seed)
        return model

    return make

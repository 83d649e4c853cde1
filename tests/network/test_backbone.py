"""Pretrained stages, with extractors made by hand: timm is not needed."""

import copy
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autoseg.errors import AutosegError
from autoseg.export.network import FLOAT_MAX, FoldEnsemble
from autoseg.export.onnx import make_input, write_onnx
from autoseg.export.torchscript import write_torchscript
from autoseg.network import pretrained
from autoseg.network.backbone import PretrainedStages, load_pretrained
from autoseg.network.build import build_network, initialise
from autoseg.network.weight_files import weights_bytes, weights_digest
from autoseg.plan.counting import forward_operations, num_parameters
from autoseg.plan.memory import feature_values
from autoseg.record import Backbone, NetworkPlan, StagePlan


class Extractor(nn.Module):
    """Convolutions with batch norm, one a stage, each as much coarser as `reductions` says."""

    def __init__(self, features, reductions, in_channels=3):
        super().__init__()
        widths = zip([in_channels, *features], features, [1, *reductions], reductions, strict=False)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, step, step), nn.BatchNorm2d(outputs), nn.ReLU()
            )
            for inputs, outputs, step in (
                (inputs, outputs, below // above) for inputs, outputs, above, below in widths
            )
        )
        self.feature_info = SimpleNamespace(
            channels=lambda: list(features), reduction=lambda: list(reductions)
        )
        self.pretrained_cfg = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.2)}

    def forward(self, x):
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


PYRAMIDS = {
    "full resolution": ((4, 8, 8), (1, 2, 4)),
    "from a half": ((6, 8), (2, 4)),
    "from a quarter": ((8, 12), (4, 8)),
}


def network_plan(features, reductions, *, frozen=True, in_channels=3, **changes):
    own = [2**level for level in range(reductions[0].bit_length() - 1)]
    spans = [*own, *reductions]
    stages = tuple(
        StagePlan(
            features=width,
            kernel_size=(3, 3),
            strides=(span // above,) * 2,
            num_blocks=1,
        )
        for width, span, above in zip(
            [*(4 * size for size in own), *features], spans, [1, *spans], strict=False
        )
    )
    backbone = Backbone(
        model="tiny",
        weights="0" * 64,
        mean=(0.5,) * in_channels,
        std=(0.2,) * in_channels,
        frozen_norm=frozen,
        num_stages=len(features),
        parameters=1,
        multiplications=1.0,
        values=1.0,
    )
    values = {
        "encoder": "plain",
        "in_channels": in_channels,
        "num_classes": 2,
        "stages": stages,
        "decoder_convs": 1,
        "num_supervised": 2,
        "backbone": backbone,
    }
    return NetworkPlan(**{**values, **changes})


@pytest.fixture(autouse=True)
def no_timm(monkeypatch):
    """Extractors are ours."""

    def build(backbone, in_channels, features):
        pyramid = next(item for item in PYRAMIDS.values() if list(item[0]) == list(features))
        return Extractor(*pyramid, in_channels=in_channels)

    monkeypatch.setattr(pretrained, "planned_extractor", build)


@pytest.fixture(params=PYRAMIDS)
def pyramid(request):
    return PYRAMIDS[request.param]


def built(plan) -> Any:
    torch.manual_seed(0)
    model = build_network(plan)
    initialise(model, 0)
    return model


@pytest.mark.parametrize("decoder", ["plain", "attention", "nested"])
def test_logits_have_the_size_of_the_patch_whatever_the_finest_features_are(pyramid, decoder):
    model = built(network_plan(*pyramid, decoder=decoder))
    logits = model(torch.randn(2, 3, 16, 24))
    assert logits[0].shape == (2, 2, 16, 24)
    assert model.eval()(torch.randn(1, 3, 24, 16)).shape == (1, 2, 24, 16)


@pytest.mark.parametrize("channels", [1, 5])
def test_images_may_have_any_number_of_channels(channels):
    model = built(network_plan(*PYRAMIDS["from a half"], in_channels=channels)).eval()
    assert model(torch.randn(1, channels, 8, 8)).shape == (1, 2, 8, 8)


def norms(model):
    return [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]


def test_frozen_batch_norm_stays_as_it_is_while_the_rest_learns():
    model = built(network_plan(*PYRAMIDS["from a half"])).train()
    before = copy.deepcopy(model.backbone.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    outputs = model(torch.randn(2, 3, 8, 8) + 3)
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    optimizer.step()
    after = model.backbone.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        f"extractor.stages.{i}.0.{key}" for i in (0, 1) for key in ("weight", "bias")
    }
    assert not any(norm.training for norm in norms(model))
    assert model.encoder.training


def test_batch_norm_that_is_not_frozen_learns():
    model = built(network_plan(*PYRAMIDS["from a half"], frozen=False)).train()
    model(torch.randn(2, 3, 8, 8) + 3)
    means = [norm.state_dict()["running_mean"] for norm in norms(model)]
    assert all(mean.abs().max() > 0 for mean in means)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_gradients_reach_every_weight_that_learns(pyramid):
    model = built(network_plan(*pyramid, frozen=False))
    outputs = model(torch.randn(2, 3, 16, 16))
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    weights = {k: p.grad for k, p in model.named_parameters() if k.endswith("weight")}
    assert [name for name, grad in weights.items() if grad is None or not grad.abs().sum()] == []


def test_recomputed_stages_give_the_same_gradients():
    plan = network_plan(*PYRAMIDS["from a half"])
    gradients = []
    for checkpointing in (False, True):
        model = built(plan)
        model.checkpointing = checkpointing
        outputs = model(torch.linspace(-1, 1, 384).reshape(2, 3, 8, 8))
        torch.stack([output.square().mean() for output in outputs]).sum().backward()
        gradients.append(model.backbone.extractor.stages[0][0].weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def ensemble():
    model = built(network_plan(*PYRAMIDS["from a half"])).requires_grad_(False)
    return FoldEnsemble([model], [-FLOAT_MAX] * 3, [FLOAT_MAX] * 3).eval()


def test_a_traced_network_gives_the_same_logits_at_other_sizes(tmp_path):
    module = ensemble()
    write_torchscript(module, tmp_path / "x.pt", num_channels=3, patch_size=(16, 16))
    with pytest.warns((DeprecationWarning, FutureWarning), match="jit"):
        traced: Any = torch.jit.load(tmp_path / "x.pt")
    x = make_input(2, 3, (16, 24))
    torch.testing.assert_close(traced(*x), module(*x))


@pytest.mark.slow
def test_an_onnx_graph_gives_the_same_logits_at_other_sizes(tmp_path):
    assert write_onnx(
        ensemble(), tmp_path / "x.onnx", num_channels=3, patch_size=(16, 16), strides=(4, 4)
    )


def test_saved_weights_are_loaded_without_those_that_were_planned():
    plan = network_plan(*PYRAMIDS["from a half"])
    model, other = built(plan).eval(), build_network(plan).eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(model(x), other(x))


def test_planned_weights_are_loaded_and_no_others(tmp_path):
    plan = network_plan(*PYRAMIDS["from a half"])
    assert plan.backbone is not None
    weights = Extractor(*PYRAMIDS["from a half"]).state_dict()
    (tmp_path / "x.pt").write_bytes(weights_bytes(weights))
    model = built(plan)
    with pytest.raises(AutosegError, match="other weights"):
        load_pretrained(model, plan, tmp_path / "x.pt")
    backbone = plan.backbone.revised(weights=weights_digest(weights))
    load_pretrained(model, plan.revised(backbone=backbone), tmp_path / "x.pt")
    found = model.backbone.extractor.state_dict()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    with pytest.raises(AutosegError, match="no file") as caught:
        load_pretrained(model, plan, tmp_path / "y.pt")
    assert "autoseg plan" in caught.value.fix


def test_an_extractor_is_counted_as_it_is_built(pyramid):
    extractor = Extractor(*pyramid)
    found = pretrained.measured(extractor, "tiny", 3, is_pretrained=True)
    assert (found.features, found.reductions) == pyramid
    assert found.parameters == sum(p.numel() for p in extractor.parameters())
    pixels = [1 / reduction**2 for reduction in pyramid[1]]
    weights = [stage[0].weight for stage in extractor.stages]  # type: ignore[index]
    assert found.values == pytest.approx(
        sum(w.shape[0] * n for w, n in zip(weights, pixels, strict=True))
    )
    assert found.multiplications == pytest.approx(
        sum(w.numel() * n for w, n in zip(weights, pixels, strict=True))
    )


def test_a_network_costs_what_is_built(pyramid):
    found = pretrained.measured(Extractor(*pyramid), "tiny", 3, is_pretrained=True)
    plan = network_plan(*pyramid)
    assert plan.backbone is not None
    counts = {key: getattr(found, key) for key in ("parameters", "multiplications", "values")}
    plan = plan.revised(backbone=plan.backbone.revised(**counts))
    model, operations, values = built(plan), [], []

    def count(module, inputs, output):
        where = inputs[0] if "Transpose" in type(module).__name__ else output
        operations.append(2 * module.weight.numel() * math.prod(where.shape[2:]))
        values.append(output[0].numel())

    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd) and module is not model.heads[1]:
            module.register_forward_hook(count)
    model(torch.randn(2, 3, 16, 16))
    coarse = model.heads[1].weight
    side = 16 // plan.stages[1].strides[0]
    assert num_parameters(plan) == sum(p.numel() for p in model.parameters())
    assert forward_operations(plan, (16, 16)) == sum(operations) + 2 * coarse.numel() * side**2
    assert feature_values(plan, (16, 16), 2) == sum(values)


@pytest.mark.parametrize("reductions", [(4, 4), (3, 6), (2, 5), (2, 128)], ids=str)
def test_what_is_no_pyramid_is_refused(reductions):
    extractor = Extractor((4, 4), (2, 4))
    extractor.feature_info.reduction = lambda: list(reductions)
    with pytest.raises(AutosegError, match="times coarser"):
        pretrained.measured(extractor, "flat", 3, is_pretrained=False)


def test_features_of_other_shapes_than_said_are_refused():
    extractor = Extractor((4, 4), (2, 4))
    extractor.feature_info.reduction = lambda: [2, 8]
    with pytest.raises(AutosegError, match="shapes"):
        pretrained.measured(extractor, "flat", 3, is_pretrained=False)


def test_an_encoder_for_pictures_of_one_size_is_refused():
    class Fixed(Extractor):
        def forward(self, x):
            raise AssertionError("Input height doesn't match model (224)")

    with pytest.raises(AutosegError, match="224") as caught:
        pretrained.measured(Fixed((4, 4), (2, 4)), "vit", 3, is_pretrained=False)
    assert "resnet34" in caught.value.fix


@pytest.mark.parametrize(
    ("count", "expected"), [(3, (0.4, 0.5, 0.6)), (1, (0.5,)), (4, (0.5,) * 4)]
)
def test_other_channels_get_the_mean_of_the_three(count, expected):
    assert pretrained.for_channels((0.4, 0.5, 0.6), count) == pytest.approx(expected)


def test_frozen_norms_of_a_copy_are_its_own():
    stages = PretrainedStages(Extractor((4, 4), (2, 4)), frozen_norm=True)
    other = copy.deepcopy(stages).train()
    assert not any(m.training for m in other.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder": "residual"}, "encoder plain"),
        ({"squeeze_reduction": 4}, "squeeze_reduction"),
        ({"in_channels": 2}, "2 channels"),
    ],
)
def test_what_does_not_go_with_a_pretrained_encoder_is_refused(changes, words):
    plan = network_plan(*PYRAMIDS["from a half"])
    with pytest.raises(ValueError, match=words):
        build_network(NetworkPlan(**{**dict(plan), **changes}))


def test_a_pretrained_encoder_has_no_third_axis():
    plan = network_plan(*PYRAMIDS["from a half"])
    stages = tuple(
        stage.revised(kernel_size=(3, 3, 3), strides=(1, *stage.strides)) for stage in plan.stages
    )
    with pytest.raises(ValueError, match="2 axes, not 3"):
        build_network(plan.revised(stages=stages))

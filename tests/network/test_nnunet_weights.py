import numpy as np
import pytest
import torch

from autoseg.network.build import build_network
from autoseg.network.nnunet_weights import our_weights
from autoseg.plan.import_nnunet import read_plans
from autoseg.testing.nnunet import THEIR_DATASET, numbers, their_plans, their_weights

# What nnU-Net's own networks (dynamic_network_architectures, nnunetv2 2.8.1) give for these weights
# and this image: twelve logits, evenly spread, and the sum of the sizes of all.
FROZEN = {
    ("plain", 3): (
        [
            0.63158,
            0.09228,
            0.9995,
            0.1047,
            -0.28061,
            -0.70137,
            -0.56599,
            -0.55865,
            -0.04351,
            0.0224,
            -0.2901,
            0.78476,
        ],
        268.157,
    ),
    ("residual", 2): (
        [
            -0.01526,
            -0.0523,
            -0.09086,
            0.26748,
            -0.45555,
            -0.79763,
            -0.33858,
            -0.66559,
            -0.09675,
            0.05087,
            -0.19189,
            -0.25999,
        ],
        54.99,
    ),
}


def network_of(encoder, dims):
    name = "2d" if dims == 2 else "3d_fullres"
    return read_plans(their_plans(encoder, dims), THEIR_DATASET, name, None).network


def weights_of(encoder, dims):
    return their_weights(encoder, dims, num_channels=2, num_outputs=3)


@pytest.mark.parametrize(("encoder", "dims"), FROZEN)
def test_logits_are_those_of_nnunet(encoder, dims):
    plan = network_of(encoder, dims)
    weights, problems = our_weights(weights_of(encoder, dims), plan)
    assert problems == []
    model = build_network(plan)
    model.load_state_dict(weights)
    image = torch.from_numpy(numbers((1, 2, *(4, 8, 8)[-dims:]), "image") * 5)
    with torch.no_grad():
        logits = model.eval()(image).numpy().ravel()
    values, total = FROZEN[encoder, dims]
    places = np.linspace(0, logits.size - 1, 12).astype(int)
    np.testing.assert_allclose(logits[places], values, atol=1e-4)
    assert np.abs(logits).sum() == pytest.approx(total, abs=1e-2)


def test_wrapped_networks_have_the_same_weights():
    plan, theirs = network_of("plain", 2), weights_of("plain", 2)
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in theirs.items()}
    plain, found = our_weights(theirs, plan)[0], our_weights(wrapped, plan)
    assert found[1] == []
    assert all(torch.equal(plain[name], found[0][name]) for name in plain)


def test_every_tensor_must_have_a_place():
    theirs = weights_of("residual", 2)
    theirs["encoder.stages.0.blocks.0.squeeze.weight"] = torch.zeros(3)
    _, problems = our_weights(theirs, network_of("residual", 2))
    assert problems == [
        "encoder.stages.0.blocks.0.squeeze.weight: no layer of the planned network has a place "
        "for it"
    ]


def test_every_parameter_must_be_filled():
    theirs = weights_of("plain", 3)
    theirs = {key: value for key, value in theirs.items() if "seg_layers.1" not in key}
    _, problems = our_weights(theirs, network_of("plain", 3))
    assert problems == [
        "heads.0.weight: not in the checkpoint",
        "heads.0.bias: not in the checkpoint",
    ]


def test_a_tensor_of_another_shape_is_named():
    theirs = weights_of("plain", 3)
    theirs["decoder.transpconvs.0.weight"] = torch.zeros(6, 6, 2, 2, 1)
    _, problems = our_weights(theirs, network_of("plain", 3))
    assert problems == [
        "decoder.0.upsample.weight: its shape is (6, 6, 2, 2, 1), the plan says (6, 6, 2, 2, 2)"
    ]


def test_copies_of_one_layer_must_agree():
    theirs = weights_of("plain", 2)
    name = "decoder.encoder.stages.0.0.convs.0.all_modules.1.bias"
    theirs[name] = theirs[name] + 1
    _, problems = our_weights(theirs, network_of("plain", 2))
    assert problems == [f"{name}: differs from the other copy of the same layer"]

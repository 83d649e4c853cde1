"""How skips come back: gates, nested columns, and ways to a finer resolution."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from autoseg.network.build import initialise
from autoseg.network.decoders import AttentionGate
from autoseg.network.layers import Materials
from autoseg.network.upsampling import VoxelShuffle, upsampling


def make_upsampling(kind, *, stride=(2, 2), seed=0, start=True, features=6) -> Any:
    materials = Materials(dimensions=len(stride), upsampling=kind)
    module = nn.Sequential(upsampling(8, features, stride=stride, materials=materials))
    if start:
        initialise(module, seed)
    return module


@pytest.mark.parametrize("kind", ["transposed", "linear", "shuffle"])
@pytest.mark.parametrize("stride", [(3,), (1, 2), (2, 2), (1, 2, 2), (2, 3, 4)], ids=str)
def test_upsampling_multiplies_the_shape_by_the_stride(kind, stride):
    shape = (3, 4, 5)[: len(stride)]
    out = make_upsampling(kind, stride=stride)(torch.randn(2, 8, *shape))
    assert out.shape == (2, 6, *(n * s for n, s in zip(shape, stride, strict=True)))


def test_shuffle_is_the_pixel_shuffle_of_the_literature():
    shuffle = make_upsampling("shuffle", start=False)
    x = torch.randn(2, 8, 3, 4)
    torch.testing.assert_close(shuffle(x), functional.pixel_shuffle(shuffle[0].conv(x), 2))


def test_shuffle_puts_the_features_of_a_voxel_side_by_side():
    shuffle: Any = VoxelShuffle(1, 1, stride=(1, 2, 3), materials=Materials(dimensions=3))
    nn.init.zeros_(shuffle.conv.weight)
    with torch.no_grad():
        shuffle.conv.bias.copy_(torch.arange(6.0))
    out = shuffle(torch.zeros(1, 1, 1, 1, 2))
    row = [[0, 1, 2, 0, 1, 2], [3, 4, 5, 3, 4, 5]]
    assert out[0, 0, 0].tolist() == row


@pytest.mark.parametrize("stride", [(2,), (2, 2), (1, 2, 2)], ids=str)
def test_shuffle_starts_as_nearest_neighbour(stride):
    out = make_upsampling("shuffle", stride=stride)(torch.randn(1, 8, *(4,) * len(stride)))
    coarse = out[(..., *(slice(None, None, step) for step in stride))]
    scale = tuple(float(step) for step in stride)
    torch.testing.assert_close(out, functional.interpolate(coarse, scale_factor=scale))


def checkerboard(module):
    """Return how much of what a flat image becomes differs between the voxels of a cell, 0 to 1.

    Nothing of that comes from the image: it is the pattern that upsampling stamps on it.
    """
    out = module(torch.ones(1, 8, 8, 8))[..., 4:-4, 4:-4]
    cells = out.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    stamped = (cells - cells.mean(-1, keepdim=True)).square().mean()
    return (stamped / cells.square().mean()).item()


def test_upsampling_at_random_stamps_a_checkerboard_and_the_others_none():
    found = {
        kind: [checkerboard(make_upsampling(kind, seed=seed)) for seed in range(10)]
        for kind in ("transposed", "linear", "shuffle")
    }
    assert min(found["transposed"]) > 0.2
    assert max(found["linear"]) < 1e-9
    assert max(found["shuffle"]) < 1e-9


def test_shuffle_without_its_start_stamps_a_checkerboard():
    assert checkerboard(make_upsampling("shuffle", start=False)) > 0.2


def make_gate() -> Any:
    gate = AttentionGate(4, 6, stride=(1, 2), materials=Materials(dimensions=2))
    initialise(gate, 0)
    return gate


def test_a_gate_starts_open():
    gate, skip = make_gate(), torch.rand(2, 4, 3, 8) + 1
    passed = gate(skip, 0.1 * torch.randn(2, 6, 3, 4)) / skip
    assert passed.mean() > 0.85


def test_a_gate_weighs_a_voxel_by_skip_and_features_below():
    gate, skip = make_gate(), torch.randn(1, 4, 3, 8)
    below = torch.randn(1, 6, 3, 4)
    sums = functional.conv2d(skip, gate.skip.weight, stride=(1, 2))
    sums = sums + torch.einsum("fg,bgyx->bfyx", gate.gate.weight[..., 0, 0], below)
    together = torch.einsum("f,bfyx->byx", gate.weight.weight[0, :, 0, 0], sums.relu()) + 3.0
    weights = functional.interpolate(
        together.sigmoid()[:, None], size=(3, 8), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(gate(skip, below), skip * weights)


def test_a_gate_can_close():
    gate, skip = make_gate(), torch.randn(1, 4, 3, 8)
    nn.init.constant_(gate.weight.bias, -30.0)
    assert gate(skip, torch.randn(1, 6, 3, 4)).abs().max() < 1e-6


def test_nested_columns_see_all_earlier_features_of_their_level(make_network):
    model = make_network("nested", 1)
    encoder = [torch.randn(1, 4 * 2**level, size) for level, size in enumerate((16, 8, 4))]
    column, last = model.decoder
    middle = column[1](encoder[2], encoder[1])
    first = column[0](encoder[1], encoder[0])
    final = last[0](middle, encoder[0], first)
    found = model.decoder(encoder, lambda part, *inputs: part(*inputs))
    torch.testing.assert_close(found, [final, first])


def test_a_nested_network_predicts_from_its_last_column(make_network):
    model = make_network("nested").eval()
    x = torch.randn(1, 2, 8, 8)
    torch.testing.assert_close(model(x), model.train()(x)[0])


@pytest.mark.parametrize("decoder", ["plain", "attention", "nested"])
def test_a_network_of_one_stage_has_no_skips(make_plan, make_network, decoder):
    stages = make_plan().stages[:1]
    model = make_network(stages=stages, decoder=decoder, num_supervised=1)
    assert model(torch.randn(1, 2, 4, 4)).shape == (1, 3, 4, 4)
    assert len(list(model.decoder.parameters())) == 0

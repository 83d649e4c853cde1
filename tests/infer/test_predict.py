from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from autoseg.infer.predict import count_tiles, load_network, predict_prepared, torch_network
from autoseg.network.build import build_network, initialise
from autoseg.network.execution import Execution
from autoseg.runtime.cascade import Previous
from autoseg.testing.plans import small_configuration, small_network

CPU = Execution(device="cpu", precision="fp32")


def configuration(patch_size=(8, 8), num_axes=2):
    item = small_configuration(patch_size, image_axes=num_axes)
    return item.revised(
        recipe=replace(item.recipe, test_time_mirroring=True),
        network=small_network(len(patch_size), stages=((4, 1), (4, 2))),
    )


class Identity(nn.Module):
    """Logits that are the image, twice: a network whose result on any tiling is known."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return torch.cat([self.factor * x, -self.factor * x], dim=1)


@pytest.mark.parametrize("mirror_axes", [(), (0,), (0, 1)])
def test_blending_tiles_of_an_identity_gives_the_image(mirror_axes):
    image = np.random.default_rng(0).normal(size=(1, 19, 13)).astype(np.float32)
    logits = predict_prepared(
        Identity(), image, configuration(), execution=CPU, mirror_axes=mirror_axes
    )
    np.testing.assert_allclose(logits, np.concatenate([image, -image]), atol=1e-5)


def test_folds_are_averaged_as_logits():
    image = np.ones((1, 8, 8), np.float32)
    logits = predict_prepared(
        [Identity(1.0), Identity(4.0)], image, configuration(), execution=CPU, mirror_axes=()
    )
    np.testing.assert_allclose(logits[0], 2.5, atol=1e-6)


def test_planar_network_goes_through_a_volume_slice_by_slice():
    image = np.random.default_rng(0).normal(size=(1, 3, 8, 11)).astype(np.float16)
    logits = predict_prepared(
        Identity(), image, configuration(num_axes=3), execution=CPU, mirror_axes=()
    )
    np.testing.assert_allclose(logits[0], image[0], atol=1e-3)


def test_image_smaller_than_the_patch_keeps_its_shape():
    image = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32)
    logits = predict_prepared(Identity(), image, configuration(), execution=CPU, mirror_axes=())
    np.testing.assert_allclose(logits[0], image[0], atol=1e-5)


def test_reduced_precision_is_close_and_comes_back_as_float32():
    plan = configuration().network
    model = build_network(plan)
    initialise(model, 0)
    model.eval()
    tiles = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    exact = torch_network(model, "cpu", "fp32")(tiles)
    reduced = torch_network(model, "cpu", "bf16", channels_last=True)(tiles)
    assert reduced.dtype == np.float32
    assert reduced.flags.c_contiguous
    assert 0 < np.abs(reduced - exact).max() < 0.1


def test_loaded_network_predicts_like_the_one_saved():
    plan = configuration().network
    model = build_network(plan)
    initialise(model, 0)
    loaded = load_network(plan, model.state_dict())
    x = torch.randn(1, 1, 8, 8)
    assert not loaded.training
    assert torch.equal(loaded(x), model.eval()(x))


@pytest.mark.parametrize(
    ("shape", "num_axes", "expected"), [((8, 8), 2, 1), ((4, 9), 2, 2), ((3, 8, 16), 3, 9)]
)
def test_tiles_are_counted_as_prediction_makes_them(shape, num_axes, expected):
    plan = configuration(num_axes=num_axes)
    calls = []

    class Counting(Identity):
        def forward(self, x):
            calls.append(len(x))
            return super().forward(x)

    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    predict_prepared(Counting(), image, plan, execution=CPU, mirror_axes=())
    assert count_tiles(shape, plan) == sum(calls) == expected


class Seeing(nn.Module):
    """Keeps what it sees; its logits are the last channels."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.numpy().copy())
        return x[:, -3:]


def test_a_network_sees_what_the_previous_stage_found_as_further_channels():
    image = np.random.default_rng(0).normal(size=(1, 8, 8)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 3, (8, 8))
    network = Seeing()
    previous = Previous(labels=labels, num_classes=3)
    predict_prepared(
        network, image, configuration(), execution=CPU, mirror_axes=(), previous=previous
    )
    (seen,) = network.seen
    np.testing.assert_array_equal(seen[0], [image[0], labels == 1, labels == 2])


def test_tiles_far_from_what_the_previous_stage_found_are_background():
    image = np.ones((1, 40, 8), np.float32)
    labels = np.zeros((40, 8), np.uint8)
    labels[2, 2] = 1
    network = Seeing()
    previous = Previous(labels=labels, num_classes=3, margins=(2, 2))
    logits = predict_prepared(
        network, image, configuration(), execution=CPU, mirror_axes=(), previous=previous
    )
    assert sum(len(tiles) for tiles in network.seen) == 2
    assert not logits.argmax(axis=0)[12:].any()
    np.testing.assert_allclose(logits[:, 30, 0], previous.background, rtol=1e-5)

"""Normalisation inside the graph, and the proof that an export agrees."""

from dataclasses import replace
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from torch import nn

from autoseg.errors import ExportError
from autoseg.export import export as exporting
from autoseg.export.backend import open_torch
from autoseg.export.bundle import list_files
from autoseg.export.members import describe_member, load_sources
from autoseg.export.network import make_ensemble
from autoseg.export.onnx import other_sizes
from autoseg.export.parity import (
    Sample,
    compare,
    draw_samples,
    reference_network,
    require_parity,
)
from autoseg.export.torchscript import write_torchscript
from autoseg.export.verification import synthetic_image
from autoseg.runtime.manifest import Parity
from autoseg.runtime.normalise import normalise
from autoseg.runtime.recipe import Channel

CHANNELS = (
    Channel(name="CT", scheme="ct", lower=-1.0, upper=0.5, mean=0.1, std=2.0),
    Channel(name="MR", scheme="zscore"),
)


class First(nn.Module):
    """Keeps channels and multiplies."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


@pytest.fixture
def sources(trained):
    return load_sources(
        trained.plan,
        trained.dataset,
        trained.workspace,
        trained.ensemble,
        trained.postprocessing,
    )


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_graph_clips_and_normalises_as_the_runtime_does(trained, dims):
    recipe = replace(trained.plan.configurations[0].recipe, channels=CHANNELS)
    module = make_ensemble([First(1.0), First(3.0)], recipe)
    rng = np.random.default_rng(0)
    tile = rng.standard_normal((2, 2, *(4,) * dims)).astype("f4")
    mean = np.array([[0.1, 1.0], [0.1, 2.0]], dtype=np.float32)
    std = np.array([[2.0, 1.0], [2.0, 3.0]], dtype=np.float32)
    found = module(*(torch.from_numpy(array) for array in (tile, mean, std))).numpy()
    expected = [
        2 * normalise(one, centre, scale, CHANNELS)
        for one, centre, scale in zip(tile, mean, std, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_normalised_input_is_left_alone(trained):
    recipe = replace(
        trained.plan.configurations[0].recipe, channels=CHANNELS, order="normalise-resample"
    )
    module = make_ensemble([First(1.0)], recipe)
    tile = torch.tensor([-9.0, 9.0]).reshape(1, 2, 1, 1)
    found = module(tile, torch.zeros(1, 2), torch.ones(1, 2))
    assert torch.equal(found, tile)


def test_a_traced_network_gives_the_logits_of_the_folds_and_names_no_source(sources, tmp_path):
    (member,) = sources.ensemble.members
    item = describe_member(sources, member)
    module = make_ensemble(sources.folds[item.name], item.recipe)
    path = tmp_path / "x.pt"
    write_torchscript(module, path, num_channels=1, patch_size=item.patch_size)
    manifest = exporting._describe(sources)
    path.rename(tmp_path / item.torchscript)
    manifest = replace(manifest, files=list_files(tmp_path))
    run = open_torch(tmp_path, manifest, item, device="cpu", backend="torch")
    samples = draw_samples(
        sources.dataset, ["<script>", "c"], sources.plan, item.name, sources.folds
    )
    check = compare(samples, item, run, "torch")
    require_parity(check, item.name)
    assert check.num_cases == 2
    assert check.num_voxels > 1000
    reference = compare(samples, item, reference_network(sources.folds[item.name], item), "torch")
    assert reference.label_agreement == 1.0
    with ZipFile(tmp_path / item.torchscript) as archive:
        assert not [name for name in archive.namelist() if name.endswith("debug_pkl")]


def test_another_network_is_noticed(sources):
    (member,) = sources.ensemble.members
    item = describe_member(sources, member)
    folds = sources.folds[item.name]
    samples = draw_samples(sources.dataset, ["c"], sources.plan, item.name, sources.folds)
    check = compare(samples, item, reference_network(folds[:1], item), "onnx")
    with pytest.raises(ExportError, match="agrees with the training framework on"):
        require_parity(check, item.name)


@pytest.mark.parametrize(
    ("agreement", "difference"),
    [(0.99, 0.0), (1.0, 0.01), (float("nan"), 0.0), (1.0, float("nan"))],
)
def test_disagreement_is_an_error(agreement, difference):
    check = Parity(
        backend="onnx",
        num_cases=1,
        num_voxels=1,
        label_agreement=agreement,
        max_probability_difference=difference,
    )
    with pytest.raises(ExportError, match="onnx export of 2d"):
        require_parity(check, "2d")


def test_logits_that_are_no_numbers_are_noticed(sources):
    (member,) = sources.ensemble.members
    item = describe_member(sources, member)
    (sample,) = draw_samples(sources.dataset, ["c"], sources.plan, item.name, sources.folds)
    broken = Sample(sample.part, np.full_like(sample.expected, np.nan))
    check = compare([broken], item, reference_network(sources.folds[item.name], item), "onnx")
    with pytest.raises(ExportError):
        require_parity(check, item.name)


@pytest.mark.parametrize("patch", [(8, 8), (16, 24), (64, 4)])
def test_other_sizes_differ_from_the_patch_and_divide(patch):
    strides = (4, 2)
    sizes = other_sizes(patch, strides)
    assert patch not in sizes
    assert len(set(sizes)) == 2
    assert all(
        n % s == 0 and n // s >= 2 for size in sizes for n, s in zip(size, strides, strict=True)
    )


def test_the_synthetic_case_is_the_same_for_the_same_seed(trained):
    plan = trained.plan.configuration("3d_fullres")
    first, second, other = (synthetic_image(plan, seed, "mm") for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.array, second.array)
    assert (first.array != other.array).any()
    assert first.array.shape == (1, *plan.patch_size)
    assert len(synthetic_image(trained.plan.configuration("2d"), 0, "mm").shape) == 3

import subprocess
import sys

import numpy as np
import pytest
import torch

from autoseg.cli.main import main
from autoseg.errors import ExportError
from autoseg.export.bundle import write_zip
from autoseg.export.imported import describe_configuration, describe_model, import_model
from autoseg.infer.predict import load_network
from autoseg.network.nnunet_weights import our_weights
from autoseg.plan.import_nnunet import read_plans
from autoseg.runtime.images import Geometry, Image, read_labels, write_image
from autoseg.runtime.manifest import load_manifest
from autoseg.runtime.model import Model
from autoseg.runtime.recipe import Labels
from autoseg.testing.nnunet import (
    THEIR_DATASET,
    numbers,
    their_plans,
    their_weights,
    write_nnunet,
)
from autoseg.testing.plans import small_configuration, small_plan
from autoseg.train.initial_files import read_initial
from autoseg.train.nnunet import load_nnunet

LABELS = Labels(names=("background", "ball"), values=(0, 1))
REGIONS = {
    **THEIR_DATASET,
    "labels": {"background": 0, "whole": [1, 2], "core": 2, "rim": 1},
    "regions_class_order": [3, 2, 1],
}


def balanced(weights, dims):
    """Return weights whose outputs are equally likely on noise: no class wins everywhere."""
    name = "2d" if dims == 2 else "3d_fullres"
    plan = read_plans(their_plans("plain", dims), THEIR_DATASET, name, None)
    network = load_network(plan.network, our_weights(weights, plan.network)[0])
    with torch.no_grad():
        tile = torch.from_numpy(5 * numbers((1, 2, *plan.patch_size), "noise"))
        mean = network(tile).flatten(2).mean(dim=2)[0]
    bias = "decoder.seg_layers.1.bias"
    return {**weights, bias: weights[bias] - mean}


def trained(root, dims=2, dataset=THEIR_DATASET):
    weights = balanced(their_weights("plain", dims, num_channels=2, num_outputs=3), dims)
    moved = {name: tensor * 1.1 for name, tensor in weights.items()}
    return write_nnunet(root, their_plans("plain", dims), {"0": weights, "1": moved}, dataset)


def write_case(folder):
    """Write an image of two channels, larger than a patch, with a margin of zeros."""
    image = 40 + 100 * numbers((2, 5, 20, 17), "case")
    image[:, :, :2] = 0
    for index, channel in enumerate(image):
        path = folder / f"case_{index:04d}.nii.gz"
        write_image(path, Image(channel[None], Geometry((3.0, 0.8, 1.0))))
    return folder


def test_the_manifest_says_how_nnunet_does_it(tmp_path):
    model = load_nnunet(trained(tmp_path, dataset=REGIONS))
    item = describe_configuration(model)
    assert (item.folds, item.input, item.tile_centre) == (("0", "1"), "normalised", "upper")
    assert (item.decision, item.recipe.padding) == ("regions", "zero")
    assert item.tiles_per_case == 10 * 2 * 2
    manifest = describe_model(model, item)
    assert manifest.planner == "nnU-Net: nnUNetPlans, nnUNetTrainer"
    assert manifest.labels.values == (0, 3, 2, 1)
    assert manifest.channel_files == "suffix"
    assert manifest.fingerprint_digest == "none"


def test_what_exists_is_not_overwritten_unasked(tmp_path):
    model = load_nnunet(trained(tmp_path))
    output = tmp_path / "model"
    output.mkdir()
    with pytest.raises(ExportError, match="exists, and is no model"):
        import_model(model, output, overwrite=True)
    (output / "manifest.json").write_text("{}")
    with pytest.raises(ExportError, match="exists") as refused:
        import_model(model, output, overwrite=False)
    assert "--overwrite" in refused.value.fix


def check_initial_weights(folder, output, archive):
    """Fine-tuning from the artifact begins with what nnU-Net's checkpoint holds."""
    write_zip(output, archive)
    plan = small_plan(LABELS, (small_configuration((8, 8), image_axes=3),))
    theirs = read_initial(folder, plan, "2d")
    for path in (output, archive):
        found = read_initial(path, plan, "2d")
        missing = theirs.weights.keys() - found.weights.keys()
        assert missing <= {"heads.1.weight", "heads.1.bias"}  # only training uses them
        assert all(torch.equal(found.weights[key], theirs.weights[key]) for key in found.weights)
        assert (found.classes, found.channels) == (theirs.classes, theirs.channels)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", [THEIR_DATASET, REGIONS], ids=["classes", "regions"])
def test_an_imported_model_predicts_by_itself(tmp_path, dataset):
    folder, output = trained(tmp_path / "theirs", dataset=dataset), tmp_path / "model"
    assert main(["import-model", str(folder), "-o", str(output)]) == 0
    (tmp_path / "images").mkdir()
    images = write_case(tmp_path / "images")
    command = [sys.executable, output / "predict.py", images, tmp_path / "labels"]
    subprocess.run([*command, "--probabilities"], check=True, cwd=tmp_path)
    labels = read_labels(tmp_path / "labels" / "case.nii.gz").array[0]
    values = load_manifest(output).labels.values
    assert labels.shape == (5, 20, 17)
    assert set(np.unique(labels)) <= set(values)
    assert len(np.unique(labels)) > 1
    assert not labels[:, :2].any()
    assert Model(output).verify() == 1.0
    check_initial_weights(folder, output, tmp_path / "model.zip")


@pytest.mark.slow
def test_the_average_of_the_folds_is_exported(tmp_path):
    folder, output = trained(tmp_path / "theirs"), tmp_path / "model"
    for folds, name in (("0", "first"), ("1", "second"), ("0,1", "both")):
        words = ["import-model", str(folder), "-o", str(output / name), "--folds", folds]
        assert main(words) == 0
    tile = numbers((1, 2, 12, 12), "tile")
    constants = np.zeros((1, 2), np.float32)
    first, second, both = (
        Model(output / name).networks[0](tile, constants, constants + 1)
        for name in ("first", "second", "both")
    )
    np.testing.assert_allclose(both, (first + second) / 2, atol=1e-5)

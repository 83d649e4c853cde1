"""A cascade as an artifact: its first stage travels with it."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import autoseg
from autoseg.export import export as exporting
from autoseg.export.bundle import write_manifest
from autoseg.export.export import export_model
from autoseg.export.members import load_sources
from autoseg.export.network import make_ensemble
from autoseg.export.parity import compare, draw_samples, reference_network
from autoseg.infer.predict import predict_prepared
from autoseg.network.execution import Execution
from autoseg.runtime.cascade import find_previous
from autoseg.runtime.images import read_image, read_labels
from autoseg.runtime.model import Model
from autoseg.runtime.normalise import network_input
from autoseg.runtime.prepare import prepare
from autoseg.runtime.restore import restore_labels

CPU = Execution(device="cpu", precision="fp32")


@pytest.fixture
def sources(trained_cascade):
    made = trained_cascade
    return load_sources(made.plan, made.dataset, made.workspace, made.ensemble, made.postprocessing)


def predicted_in_training(sources, image):
    """Return class indices as validation decides them, stage after stage."""
    spacing, found = image.geometry.spacing, None
    for name in ("3d_lowres", "3d_cascade_fullres"):
        item = sources.plan.configuration(name)
        part = prepare(image.array, spacing, item.recipe)
        previous = None
        if found is not None:
            previous = find_previous(
                found,
                part.placement,
                item.recipe,
                spacing,
                num_classes=3,
                margin=item.region_margin,
            )
        logits = predict_prepared(
            sources.folds[name],
            network_input(part, item.recipe),
            item,
            execution=CPU,
            mirror_axes=item.recipe.mirror_axes,
            previous=previous,
        )
        found = restore_labels(logits, part.placement)
    assert found is not None
    return found


def test_a_cascade_is_described_with_the_stage_that_it_follows(sources):
    first, second = exporting._describe(sources).configurations
    assert (first.name, first.weight, first.previous) == ("3d_lowres", 0.0, None)
    assert first.folds == ("0", "1")
    assert (second.previous, second.weight, second.region_margin) == ("3d_lowres", 1.0, 1.0)


def test_bounds_leave_the_channels_of_a_previous_stage_alone(sources):
    recipe = sources.plan.configuration("3d_cascade_fullres").recipe
    assert recipe.channels[0].upper is not None
    module = make_ensemble([torch.nn.Identity()], recipe, 2)
    tile = torch.tensor([1e6, 0.0, 1.0]).reshape(1, 3, 1, 1, 1)
    found = module(tile, torch.zeros(1, 3), torch.ones(1, 3))
    assert found.flatten().tolist() == [recipe.channels[0].upper, 0.0, 1.0]


def test_networks_are_compared_on_what_the_first_stage_finds(sources):
    folds, name = sources.folds, "3d_cascade_fullres"
    (sample,) = draw_samples(sources.dataset, ["c"], sources.plan, name, folds)
    assert sample.part.previous is not None
    assert sample.part.previous.labels.shape == sample.part.array.shape[1:]
    assert len(np.unique(sample.part.previous.labels)) > 1
    item = exporting._describe(sources).configurations[1]
    check = compare([sample], item, reference_network(folds[name], item), "torch")
    assert check.label_agreement == 1.0
    blind = replace(sample.part.previous, labels=0 * sample.part.previous.labels)
    other = replace(sample, part=replace(sample.part, previous=blind))
    check = compare([other], item, reference_network(folds[name], item), "torch")
    assert check.label_agreement < 1.0


@pytest.mark.parametrize("margin", [None, 1.0])
def test_the_artifact_decides_as_validation_does(trained_cascade, sources, tmp_path, margin):
    second = sources.plan.configurations[2].revised(region_margin=margin)
    plan = sources.plan.revised(configurations=(*sources.plan.configurations[:2], second))
    sources = replace(sources, plan=plan)
    described = replace(exporting._describe(sources), postprocessing=())
    for item in described.configurations:
        (tmp_path / item.onnx).touch()
        (tmp_path / item.torchscript).touch()
    write_manifest(tmp_path, described)
    model = Model(tmp_path, exporting._open_reference(sources))
    image = read_image(trained_cascade.dataset.image_paths(trained_cascade.dataset.cases[0]))
    found = model.predict_image(image).labels
    expected = np.array((0, 5, 300))[predicted_in_training(sources, image)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_an_exported_cascade_gives_what_training_gives(trained_cascade, sources, tmp_path):
    made = trained_cascade
    summary = export_model(
        made.plan, made.dataset, made.workspace, made.ensemble, made.postprocessing
    )
    assert summary.configurations == ("3d_lowres", "3d_cascade_fullres")
    folder = made.workspace.model
    model = Model(folder)
    agreement = model.verify()
    assert agreement is not None
    assert agreement >= 0.999
    model.manifest = replace(model.manifest, postprocessing=())
    image = read_image(made.dataset.image_paths(made.dataset.cases[0]))
    expected = np.array((0, 5, 300))[predicted_in_training(sources, image)]
    found = model.predict_image(image).labels
    assert (found == expected).mean() >= 0.999
    assert len(np.unique(found)) > 1
    loaded = autoseg.load(folder, backend="onnx")  # torch may be in reduced precision
    loaded._model.manifest = model.manifest
    files = made.dataset.image_paths(made.dataset.cases[0])
    assert (loaded.predict(files).labels == expected).mean() >= 0.999
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    assert "It sees the labels of `3d_lowres` and is asked only within 1 mm of them." in card
    out = tmp_path / "out"
    run = [sys.executable, folder / "predict.py", made.dataset.root / "images", out]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_labels(out / "c.nii.gz").array.shape[1:] == image.shape

"""From trained folds to an artifact that runs."""

import json
import subprocess
import sys
from dataclasses import replace
from zipfile import ZipFile

import numpy as np
import pytest

from autoseg.errors import ExportError
from autoseg.export import members, parity
from autoseg.export.backend import find_artifact, open_model
from autoseg.export.bundle import write_zip
from autoseg.export.export import export_model
from autoseg.runtime.images import read_image, read_labels
from autoseg.runtime.manifest import load_manifest
from autoseg.runtime.runner import Model


def export(trained, **options):
    return export_model(
        trained.plan,
        trained.dataset,
        trained.workspace,
        trained.ensemble,
        trained.postprocessing,
        **options,
    )


@pytest.mark.slow
def test_an_artifact_runs_everywhere_and_gives_what_training_gives(trained, tmp_path):
    summary = export(trained)
    model = trained.workspace.model
    manifest = load_manifest(model)
    (item,) = manifest.configurations
    assert item.spatial == "dynamic"
    assert {check.backend for check in item.parity} >= {"onnx", "torch"}
    assert summary.label_agreement >= 0.995
    assert not summary.has_real_images
    for path in (trained.workspace.root, model, trained.workspace.model_zip):
        with find_artifact(path) as folder:
            for backend in ("onnx", "torch"):
                opened, used = open_model(folder, backend, device="cpu", inputs=[])
                assert used.startswith(backend)
                image = read_image(trained.dataset.image_paths(trained.dataset.cases[0]))
                labels = opened.predict_image(image).labels
                assert set(np.unique(labels)) <= {0, 5, 300}
    out = tmp_path / "out"
    run = [sys.executable, model / "predict.py", trained.dataset.root / "images", out]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in out.iterdir()}
    assert names == {"<script>.nii.gz", "Fall ä 1.nii.gz", "c.nii.gz"}

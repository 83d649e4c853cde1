"""The two commands, from a folder of images and masks to a model, a report and predictions."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from autoseg.cli.main import main
from autoseg.runtime.images import read_labels
from autoseg.testing.synthetic import write_rings, write_spheres
from autoseg.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

STEPS = "150"
PATIENCE_S = 1200
"""Even a busy machine ends a training of few steps within this."""


def rename(root, old, new):
    for path in root.rglob(f"{old}*"):
        path.rename(path.with_name(path.name.replace(old, new)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained workspace whose case ids are hostile, and the folder around it."""
    root = tmp_path_factory.mktemp("end to end")
    data = write_spheres(root / "spheres", num_cases=8, seed=0, shape=(20, 28, 24))
    rename(data, "case_000", "<script>alert(1)<")
    rename(data, "case_001", "Käse mit Löchern")
    workspace = root / "s.autoseg"
    assert main(["plan", str(data), "-w", str(workspace), "--folds", "2"]) == 0
    command = ["train", "-w", str(workspace), "--steps", STEPS, "--configurations", "3d_fullres"]
    assert main(command) == 0
    return root, Workspace(workspace)


def test_spheres_are_learnt(trained):
    _, place = trained
    results = [json.loads(path.read_text()) for path in place.training.rglob("result.json")]
    dice = [c["dice"] for r in results for s in r["scores"] for c in s["classes"]]
    assert len(dice) == 8
    assert np.mean(dice) > 0.85


def test_the_report_is_offline_and_escapes_case_names(trained):
    _, place = trained
    text = place.report.read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text
    assert "Käse mit Löchern" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert 'src="http' not in text


def test_training_again_changes_nothing(trained):
    _, place = trained
    before = {path: path.read_bytes() for path in place.training.rglob("final.pt")}
    zipped = place.model_zip.stat().st_mtime_ns
    assert main(["train", "-w", str(place.root), "--steps", STEPS]) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert place.model_zip.stat().st_mtime_ns == zipped


def test_predict_and_evaluate_unseen_cases(trained, capsys):
    root, place = trained
    unseen = write_spheres(root / "unseen", num_cases=3, seed=1, shape=(20, 28, 24))
    rename(unseen, "case_000", "<script>alert(2)<")
    (unseen / "imagesTr" / "broken_0000.nii.gz").write_bytes(b"not an image")
    out = root / "predictions"
    command = ["predict", str(place.model), str(unseen / "imagesTr"), "-o", str(out)]
    assert main(command) == 2
    assert "broken" in "".join(capsys.readouterr())
    assert len(list(out.glob("*.nii.gz"))) == 3
    assert main(["evaluate", str(out), str(unseen / "labelsTr"), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["summary"]["foreground"]["dice"]["mean"] > 0.85


def test_the_zip_predicts_without_autoseg_and_torch(trained, bare_python):
    root, place = trained
    folder = root / "unzipped"
    with zipfile.ZipFile(place.model_zip) as archive:
        archive.extractall(folder)
    script = next(folder.rglob("predict.py"))
    images = root / "spheres" / "imagesTr"
    command = [str(bare_python), str(script), str(images), str(root / "bare")]
    subprocess.run(command, check=True, cwd=root, timeout=120)
    assert main(["predict", str(place.model), str(images), "-o", str(root / "ours")]) == 0
    for path in (root / "ours").glob("*.nii.gz"):
        ours, bare = read_labels(path).array, read_labels(root / "bare" / path.name).array
        assert (ours == bare).mean() > 0.999


def test_pictures_go_through_both_commands(tmp_path):
    data = write_rings(tmp_path / "rings", num_cases=6, seed=0, num_channels=3)
    workspace = tmp_path / "r.autoseg"
    assert main(["plan", str(data), "-w", str(workspace), "--folds", "2"]) == 0
    command = ["train", "-w", str(workspace), "--steps", "40", "--folds", "0"]
    assert main(command) == 0
    out = tmp_path / "out"
    assert main(["predict", str(workspace), str(data / "images"), "-o", str(out)]) == 0
    values = np.unique(read_labels(out / "case_000.png").array)
    assert set(values) <= {0, 1}


def test_valid_convolutions_see_volumes_from_training_to_prediction(tmp_path):
    data = write_spheres(tmp_path / "spheres", num_cases=4, seed=0, shape=(13, 18, 16))
    settings = {
        "network.stages": small_stages(),
        "network.decoder_convs": "1",
        "network.padding": "valid",
        "patch_size": "18,18,18",
    }
    place = Workspace(tmp_path / "v.autoseg")
    words = [f"--set=3d_fullres.{key}={value}" for key, value in settings.items()]
    assert main(["plan", str(data), "-w", str(place.root), "--planner", "nnunet", *words]) == 0
    command = ["train", "-w", str(place.root), "--steps", "40", "--folds", "0"]
    assert main([*command, "--configurations", "3d_fullres"]) == 0
    out = tmp_path / "out"
    assert main(["predict", str(place.model), str(data / "imagesTr"), "-o", str(out)]) == 0
    validated = place.fold("3d_fullres", "0").validation
    paths = sorted(validated.glob("*.nii.gz"))
    assert paths
    for path in paths:
        ours, wanted = (read_labels(folder / path.name).array for folder in (out, validated))
        assert wanted.any()
        assert (ours == wanted).mean() > 0.999


def test_a_stopped_training_goes_on_and_ends_with_the_same_weights(tmp_path):
    data = write_spheres(tmp_path / "spheres", num_cases=4, seed=0)
    once, stopped = tmp_path / "once.autoseg", tmp_path / "stopped.autoseg"
    assert main(["plan", str(data), "-w", str(once), "--folds", "2"]) == 0
    shutil.copytree(once, stopped)
    assert subprocess.run(train_command(once), timeout=300, check=False).returncode == 0
    process = subprocess.Popen(train_command(stopped), stderr=subprocess.PIPE, text=True)
    _wait_for_settings(Workspace(stopped), process)
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "To go on: autoseg train" in errors
    assert not Workspace(stopped).fold("3d_fullres", "0").final.exists()
    assert subprocess.run(train_command(stopped), timeout=300, check=False).returncode == 0
    ours, theirs = (weights_of(Workspace(root)) for root in (once, stopped))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_killed_training_that_began_with_a_model_ends_with_the_same_weights(tmp_path):
    data = write_spheres(tmp_path / "spheres", num_cases=4, seed=0, shape=(10, 12, 12))
    first, once, killed = (tmp_path / f"{name}.autoseg" for name in ("first", "once", "killed"))
    stages = f"--set=3d_fullres.network.stages={small_stages()}"
    plan = ["plan", str(data), "--planner", "nnunet", stages, "--folds", "2", "-w"]
    assert main([*plan, str(first)]) == 0
    assert subprocess.run(train_command(first, 5), timeout=PATIENCE_S, check=False).returncode == 0
    assert main([*plan, str(once)]) == 0
    shutil.copytree(once, killed)
    begun = ["--init", str(first)]
    command = [*train_command(once, 40), *begun]
    assert subprocess.run(command, timeout=PATIENCE_S, check=False).returncode == 0
    command, fold = [*train_command(killed, 40), *begun], Workspace(killed).fold("3d_fullres", "0")
    # Before there is a checkpoint, then when one has been written, then beyond it.
    for ending, step in ((signal.SIGKILL, 3), (signal.SIGTERM, 10), (signal.SIGKILL, 20)):
        process = subprocess.Popen(command, start_new_session=True)
        _wait_for_step(fold.metrics, step, process)
        if ending == signal.SIGKILL:
            os.killpg(process.pid, ending)  # a power cut ends all processes at once
        else:
            process.send_signal(ending)
        process.wait(timeout=PATIENCE_S)
        assert not fold.final.exists()
    assert subprocess.run(command, timeout=PATIENCE_S, check=False).returncode == 0
    steps = [json.loads(line)["step"] for line in fold.metrics.read_text().splitlines()]
    assert steps == sorted(set(steps))
    ours, theirs = (weights_of(Workspace(root)) for root in (once, killed))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def small_stages():
    """Return two stages of a 3D network that is fast to train, as JSON."""
    return json.dumps(
        [
            {
                "features": 4 * stride,
                "kernel_size": [3] * 3,
                "strides": [stride] * 3,
                "num_blocks": 1,
            }
            for stride in (1, 2)
        ]
    )


def train_command(workspace, steps=60):
    command = [str(Path(sys.executable).parent / "autoseg"), "train", "-w", str(workspace)]
    return [*command, "--steps", str(steps), "--folds", "0", "--configurations", "3d_fullres"]


def weights_of(place):
    path = place.fold("3d_fullres", "0").final
    return torch.load(path, weights_only=True)["weights"]


def _wait_for_settings(place, process):
    """Wait until the fold has begun."""
    settings = place.fold("3d_fullres", "0").settings
    for _ in range(600):
        if settings.exists() or process.poll() is not None:
            time.sleep(1.0)
            return
        time.sleep(0.1)


def _wait_for_step(metrics, step, process):
    """Wait until the fold has logged a step."""
    until = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < until:
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        if any(json.loads(line)["step"] >= step for line in lines[:-1]):
            return
        time.sleep(0.02)

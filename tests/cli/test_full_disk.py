"""A disk that is full at a checkpoint and at the export: told once, nothing lost, then goes on."""

import hashlib

import pytest

from autoseg.cli.main import main
from autoseg.testing.synthetic import write_spheres
from autoseg.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

LIVING = {"autoseg.log", "run.json", "events.jsonl", ".lock"}
"""Files that every command may write."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workspace with one trained fold of two, and its model."""
    root = tmp_path_factory.mktemp("full disk")
    data = write_spheres(root / "spheres", num_cases=4, seed=0, shape=(12, 14, 16))
    workspace = root / "s.autoseg"
    assert main(["plan", str(data), "-w", str(workspace), "--folds", "2"]) == 0
    assert main(train(workspace, fold=0)) == 0
    return Workspace(workspace)


def train(workspace, fold):
    words = ["train", "-w", str(workspace), "--steps", "2", "--configurations", "3d_fullres"]
    return [*words, "--folds", str(fold), "--no-images"]


def files_of(place):
    """Return the hash of each file that stays as it is."""
    paths = [path for path in place.root.rglob("*") if path.is_file() and path.name not in LIVING]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def check_refusal(done, place, before):
    """Require one message, exit code 2, and every earlier file as it was."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("found:") == 1
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr or "space" in done.stderr
    after = files_of(place)
    assert {path: after.get(path) for path in before} == before
    assert not [path for path in after if path.suffix == ".tmp"]


def test_a_full_disk_at_a_checkpoint(place, on_full_disk):
    before = files_of(place)
    limit = place.fold("3d_fullres", "0").final.stat().st_size // 2
    command = train(place.root, fold=1)
    check_refusal(on_full_disk(limit, *command), place, before)
    assert not place.fold("3d_fullres", "1").result.exists()
    assert main(command) == 0
    assert place.fold("3d_fullres", "1").result.exists()


def test_a_full_disk_at_the_export(place, on_full_disk):
    before = files_of(place)
    limit = max(path.stat().st_size for path in place.model.glob("*.onnx*")) // 2
    command = ["export", "-w", str(place.root), "--verification-case", "none"]
    check_refusal(on_full_disk(limit, *command), place, before)
    assert main(command) == 0
    assert "no verification case" in (place.model / "model_card.md").read_text(encoding="utf-8")

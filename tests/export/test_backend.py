"""Which backend computes, and where an artifact is found."""

import subprocess
import sys
from dataclasses import replace
from zipfile import ZipFile

import pytest

from autoseg.errors import AutosegError
from autoseg.export import backend
from autoseg.export.backend import choose_backend, find_artifact, open_model, parse_effort
from autoseg.export.bundle import list_files, write_zip
from autoseg.export.members import describe_member
from autoseg.export.threads import ThreadChoice
from autoseg.runtime.manifest import Manifest, Timing
from autoseg.runtime.model import ACCURATE, BALANCED


def make_timing(name, import_seconds, tile_seconds):
    return Timing(
        backend=name,
        num_threads=2,
        import_seconds=import_seconds,
        load_seconds=0.0,
        tile_seconds=tile_seconds,
    )


@pytest.fixture
def manifest(trained) -> Manifest:
    from autoseg.export import export
    from autoseg.export.members import load_sources

    sources = load_sources(
        trained.plan,
        trained.dataset,
        trained.workspace,
        trained.ensemble,
        trained.postprocessing,
    )
    (item,) = (describe_member(sources, member) for member in trained.ensemble.members)
    timings = (make_timing("onnx", 0.2, 0.05), make_timing("torch-bf16", 1.2, 0.03))
    item = replace(item, timings=timings, tiles_per_case=2.0)
    return replace(export._describe(sources), configurations=(item,))


def write(folder, manifest):
    folder.mkdir()
    (item,) = manifest.configurations
    for name in (item.onnx, item.torchscript):
        (folder / name).write_bytes(name.encode())
    manifest = replace(manifest, files=list_files(folder))
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("wanted", "num_cases", "expected"),
    [
        ("auto", 1, "onnx"),
        ("auto", 52, "torch-bf16"),
        ("onnx", 52, "onnx"),
        ("torch", 1, "torch-bf16"),
    ],
)
def test_the_backend_that_finishes_first_is_chosen(manifest, wanted, num_cases, expected):
    chosen = choose_backend(manifest, wanted, device="cpu", num_cases=num_cases)
    assert chosen == expected


def test_mirrored_tiles_count_for_the_choice(manifest):
    def choose(effort):
        return choose_backend(manifest, "auto", device="cpu", num_cases=5, effort=effort)

    assert choose(replace(BALANCED, mirroring="never")) == "onnx"
    assert choose(ACCURATE) == "torch-bf16"


def test_a_gpu_means_torch(manifest):
    assert choose_backend(manifest, "auto", device="cuda", num_cases=1) == "torch"
    with pytest.raises(AutosegError, match="onnxruntime on the CPU"):
        choose_backend(manifest, "onnx", device="cuda:1", num_cases=1)


def test_unknown_words_are_refused(manifest):
    with pytest.raises(AutosegError, match="tensorrt"):
        choose_backend(manifest, "tensorrt", device="cpu", num_cases=1)
    with pytest.raises(AutosegError, match="quick"):
        parse_effort("quick", mirroring=True)


def test_no_tta_overrules_the_effort():
    assert parse_effort("accurate", mirroring=False).mirroring == "never"


def test_an_artifact_is_found_in_folder_workspace_and_zip(manifest, tmp_path):
    root = tmp_path / "x.autoseg"
    root.mkdir()
    folder = write(root / "model", manifest)
    write_zip(folder, root / "model.zip")
    for place in (folder, root):
        with find_artifact(place) as found:
            assert found == folder
    with find_artifact(root / "model.zip") as found:
        assert (found / "3d_fullres.onnx").read_bytes() == b"3d_fullres.onnx"
        kept = found
    assert not kept.exists()


def test_what_is_no_artifact_is_refused(tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK broken")
    with ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "")
    for place in (tmp_path, tmp_path / "missing", tmp_path / "broken.zip", tmp_path / "other.zip"):
        with pytest.raises(AutosegError), find_artifact(place):
            pass


def test_a_zip_cannot_write_outside_its_folder(manifest, tmp_path):
    (item,) = manifest.configurations
    folder = write(tmp_path / "model", manifest)
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    evil = text.replace(item.onnx, "../evil.onnx")
    with ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("manifest.json", evil)
        archive.writestr("../evil.onnx", "evil")
    with (
        pytest.raises(AutosegError, match="inside the artifact"),
        find_artifact(tmp_path / "evil.zip"),
    ):
        pass


def test_the_same_files_give_the_same_zip(manifest, tmp_path):
    first, second = (write(tmp_path / name, manifest) for name in ("a", "b"))
    assert write_zip(first, tmp_path / "1.zip") == write_zip(second, tmp_path / "2.zip")
    (second / "more").write_bytes(b"")
    assert write_zip(first, tmp_path / "1.zip") != write_zip(second, tmp_path / "2.zip")


def test_choosing_a_backend_loads_neither_torch_nor_pydantic():
    names = f"{backend.__name__}, autoseg.cli.predict, autoseg.runtime.runner"
    code = f"import {names}, sys; print(*sys.modules)"
    run = [sys.executable, "-c", code]
    loaded = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert "autoseg.runtime.runner" in loaded
    assert not {"torch", "pydantic", "ray", "onnx", "onnxruntime", "rich"} & set(loaded)


def test_the_faster_thread_count_is_kept_and_the_other_tried_now_and_then():
    cost = {2: 1.0, 1: 3.0}
    choice = ThreadChoice([2, 1])
    used = []
    for _ in range(100):
        used.append(choice.count)
        choice.learn(used[-1], cost[used[-1]])
    assert used.count(1) in range(2, 10)
    cost[2] = 9.0
    for _ in range(100):
        used.append(choice.count)
        choice.learn(used[-1], cost[used[-1]])
    assert used[-60:].count(1) > 50


def test_cases_are_counted_without_the_files_of_missing_channels(manifest, tmp_path, monkeypatch):
    (item,) = manifest.configurations
    channels = tuple(replace(item.recipe.channels[0], name=name) for name in ("CT", "PET"))
    item = replace(item, recipe=replace(item.recipe, channels=channels))
    both = replace(manifest, channels=("CT", "PET"), configurations=(item,))
    folder = write(tmp_path / "model", both)
    for name in ("a_0001.nii.gz", "b_0001.nii.gz"):
        (tmp_path / name).touch()
    counted = []

    def choose(*_, num_cases, **__):
        counted.append(num_cases)
        return "onnx"

    monkeypatch.setattr(backend, "choose_backend", choose)
    monkeypatch.setattr(backend, "Model", lambda *_: None)
    for missing in ((), (0,)):
        open_model(folder, "auto", device="cpu", inputs=[tmp_path], missing=missing)
    assert counted == [0, 2]

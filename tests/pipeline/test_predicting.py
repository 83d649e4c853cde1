"""`autoseg.load(...).predict(...)`, with the graph of the runtime's tests."""

import asyncio
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import autoseg
from autoseg.errors import AutosegError
from autoseg.export.bundle import list_files
from autoseg.runtime.geometry import Geometry, Image
from autoseg.runtime.images import read_labels, write_image
from autoseg.runtime.manifest import Configuration, Manifest
from autoseg.runtime.recipe import Channel, Labels, Recipe

SHAPE = (9, 12, 10)
SPACING = (2.0, 1.0, 1.0)


@pytest.fixture
def model(tmp_path):
    """A model that finds what is brighter than the mean."""
    folder = tmp_path / "model"
    folder.mkdir()
    sizes = ["batch", 1, "z", "y", "x"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("tile", sizes), ("mean", ["batch", 1]), ("std", ["batch", 1]))
    ]
    nodes = [
        helper.make_node("Unsqueeze", ["mean", "axes"], ["means"]),
        helper.make_node("Sub", ["tile", "means"], ["centred"]),
        helper.make_node("Conv", ["centred", "weights"], ["logits"]),
    ]
    constants = [
        helper.make_tensor("weights", TensorProto.FLOAT, (2, 1, 1, 1, 1), [0.0, 1.0]),
        helper.make_tensor("axes", TensorProto.INT64, (3,), [2, 3, 4]),
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2, *sizes[2:]])
    graph = helper.make_graph(nodes, "made", inputs, [output], constants)
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "a.onnx")
    (folder / "a.pt").write_bytes(b"")
    recipe = Recipe(
        transpose=(0, 1, 2),
        spacing=SPACING,
        channels=(Channel(name="MR", scheme="zscore"),),
        order="resample-normalise",
        spline_order=1,
        coarse_ratio=3.0,
        padding="mirror",
        overlap=0.5,
        mirror_axes=(),
        test_time_mirroring=False,
    )
    configuration = Configuration(
        name="3d_fullres",
        weight=1.0,
        folds=("0",),
        recipe=recipe,
        patch_size=(8, 8, 8),
        tiles_per_case=8.0,
        input="raw",
        spatial="dynamic",
        spatial_multiple=(1, 1, 1),
        onnx="a.onnx",
        torchscript="a.pt",
        parity=(),
        timings=(),
    )
    manifest = Manifest(
        autoseg_version="0",
        name="made up",
        planner="auto",
        plan_digest="0",
        fingerprint_digest="0",
        seed=0,
        unit="mm",
        channels=("MR",),
        channel_files="suffix",
        file_ending=".nii.gz",
        labels=Labels(names=("background", "bright"), values=(0, 7)),
        configurations=(configuration,),
        postprocessing=(),
        verification=None,
        files=list_files(folder),
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return folder


def draw(seed=0):
    return np.random.default_rng(seed).integers(1, 200, SHAPE).astype(np.int16)


def expected(array):
    return np.where(array > array.mean(), 7, 0)


def test_an_array_is_predicted_with_and_without_an_axis_of_channels(model):
    predictor = autoseg.load(model, backend="onnx")
    assert predictor.labels == {0: "background", 7: "bright"}
    assert predictor.channels == ("MR",)
    for array in (draw(), draw()[None]):
        result = predictor.predict(array, spacing=SPACING, probabilities=True)
        np.testing.assert_array_equal(result.labels, expected(draw()))
        assert result.probabilities is not None
        assert result.probabilities.shape == (2, *SHAPE)
        assert result.meta.spacing == SPACING


def test_a_file_keeps_its_geometry_and_the_result_can_be_saved(model, tmp_path):
    geometry = Geometry(SPACING, origin=(1.0, 2.0, 3.0), direction=(1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    path = tmp_path / "a.nii.gz"
    write_image(path, Image(draw()[None], geometry))
    predictor = autoseg.load(str(model), backend="onnx")
    for given in (path, str(path), [path]):
        result = predictor.predict(given)
        np.testing.assert_array_equal(result.labels, expected(draw()))
        assert result.meta.origin == pytest.approx(geometry.origin)
    result.save(tmp_path / "out.nii.gz")
    saved = read_labels(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(saved.array[0], expected(draw()))
    assert saved.geometry.spacing == pytest.approx(SPACING)


def test_threads_may_share_a_model(model):
    predictor = autoseg.load(model, backend="onnx")
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda seed: predictor.predict(draw(seed), spacing=SPACING), range(6))
    for seed, result in enumerate(results):
        np.testing.assert_array_equal(result.labels, expected(draw(seed)))


def test_an_array_needs_the_distance_of_its_voxels(model):
    predictor = autoseg.load(model, backend="onnx")
    with pytest.raises(AutosegError, match="without spacing") as caught:
        predictor.predict(draw())
    assert "spacing=(1.0, 1.0, 1.0,)" in caught.value.fix
    with pytest.raises(AutosegError, match="spacing of 2 numbers"):
        predictor.predict(draw(), spacing=(1.0, 1.0))
    with pytest.raises(AutosegError, match="axes"):
        predictor.predict(draw()[0], spacing=SPACING)
    with pytest.raises(ValueError, match="files know theirs"):
        predictor.predict("a.nii.gz", spacing=SPACING)


def test_too_little_memory_is_told_before_anything_is_computed(model):
    with pytest.raises(AutosegError, match="with large arrays in files"):
        autoseg.load(model, backend="onnx", ram=1000).predict(draw(), spacing=SPACING)


def test_the_example_of_the_docs_runs_as_a_script_without_a_main_guard(model, tmp_path, repository):
    text = (repository / "docs" / "prediction.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "liver.autoseg").mkdir()
    model.rename(tmp_path / "liver.autoseg" / "model")
    write_image(tmp_path / "scan.nii.gz", Image(draw()[None], Geometry(SPACING)))
    script = tmp_path / "script.py"
    script.write_text(example, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(
        read_labels(tmp_path / "scan_labels.nii.gz").array[0], expected(draw())
    )


def test_labels_are_written_where_output_says(model, tmp_path):
    path = tmp_path / "a_0000.nii.gz"
    write_image(path, Image(draw()[None], Geometry(SPACING)))
    predictor = autoseg.load(model, backend="onnx")
    target = tmp_path / "chosen.nii.gz"
    target.write_bytes(b"of another time")
    for given in (path, str(path), [path]):
        assert predictor.predict(given, output=target) == target
        np.testing.assert_array_equal(read_labels(target).array[0], expected(draw()))
    named = predictor.predict(path, probabilities=True, output=str(tmp_path / "labels"))
    assert named == tmp_path / "labels" / "a.nii.gz"
    assert (tmp_path / "labels" / "a_probabilities.nii.gz").exists()
    np.testing.assert_array_equal(read_labels(named).array[0], expected(draw()))


def test_threads_write_labels_of_their_own(model, tmp_path):
    predictor = autoseg.load(model, backend="onnx")
    for seed in range(4):
        path = tmp_path / f"{seed}.nii.gz"
        write_image(path, Image(draw(seed)[None], Geometry(SPACING)))

    def predict(seed):
        return predictor.predict(tmp_path / f"{seed}.nii.gz", output=tmp_path / "labels")

    with ThreadPoolExecutor(4) as pool:
        for seed, path in enumerate(pool.map(predict, range(4))):
            np.testing.assert_array_equal(read_labels(path).array[0], expected(draw(seed)))


def test_labels_that_cannot_be_written_are_told(model, tmp_path):
    path = tmp_path / "a.nii.gz"
    write_image(path, Image(draw()[None], Geometry(SPACING)))
    content = path.read_bytes()
    predictor = autoseg.load(model, backend="onnx")
    with pytest.raises(AutosegError, match="which is the image"):
        predictor.predict(path, output=path)
    assert path.read_bytes() == content
    with pytest.raises(AutosegError, match="without loss"):
        predictor.predict(path, output=tmp_path / "a.png")
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(AutosegError, match=r"a\.nii\.gz"):
        predictor.predict(path, output=tmp_path / "labels")
    assert not list((tmp_path / "labels").iterdir())
    with pytest.raises(ValueError, match=r"Result\.save"):
        predictor.predict(draw(), output=tmp_path / "labels")
    path.write_bytes(content)
    with pytest.raises(AutosegError, match="with large arrays in files"):
        autoseg.load(model, backend="onnx", ram=1000).predict(path, output=tmp_path / "labels")


def test_a_running_event_loop_as_notebooks_have_is_no_obstacle(model, tmp_path):
    path = tmp_path / "a.nii.gz"
    write_image(path, Image(draw()[None], Geometry(SPACING)))

    async def cell():
        predictor = autoseg.load(model, backend="onnx")
        return predictor.predict(path).labels, predictor.predict(path, output=tmp_path / "labels")

    labels, written = asyncio.run(cell())
    np.testing.assert_array_equal(labels, read_labels(written).array[0])


def test_a_file_that_cannot_fit_is_refused_before_it_is_read(model, tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    write_image(path, Image(draw()[None], Geometry(SPACING)))
    monkeypatch.delattr("autoseg.pipeline.predicting.read_image")
    with pytest.raises(AutosegError, match="with large arrays in files"):
        autoseg.load(model, backend="onnx", ram=1000).predict(path)

"""Zarr images predicted to Zarr labels, row by row."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.formats.zarr_levels import open_levels, storage
from autoseg.errors import AutosegError
from autoseg.infer.zarr_stores import LabelZarr, ZarrStores
from autoseg.pipeline.predicting import Predictor
from autoseg.runtime.geometry import Geometry, Image
from autoseg.runtime.model import Model
from autoseg.runtime.recipe import Channel
from autoseg.runtime.runner import PredictOptions, predict_files
from autoseg.runtime.stream_prepare import choose_level
from autoseg.testing.streamed import draw, make_model, make_recipe

zarr = pytest.importorskip("zarr")

SHAPE = (40, 60, 50)
CT = (Channel(name="CT", scheme="zscore"),)


def write_plain(path: Path, array: np.ndarray, zarr_format: int = 3) -> Path:
    stored = zarr.create_array(
        str(path),
        shape=array.shape,
        dtype=array.dtype,
        chunks=(16, 32, 20)[: array.ndim],
        zarr_format=zarr_format,
    )
    stored[...] = array
    return path


def write_ome(path: Path, array: np.ndarray, scales: tuple[int, ...] = (1, 2)) -> Path:
    """Write an image (C, *S) with smaller copies, in micrometres."""
    group = zarr.open_group(str(path), mode="w")
    axes = [{"name": "c", "type": "channel"}]
    axes += [
        {"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"[-array.ndim + 1 :]
    ]
    datasets = []
    for level, step in enumerate(scales):
        part = array[(slice(None), *(slice(None, None, step),) * (array.ndim - 1))]
        chunks = (1, *(min(24, size) for size in part.shape[1:]))
        stored = group.create_array(str(level), shape=part.shape, dtype=part.dtype, chunks=chunks)
        stored[...] = part
        scale = [1.0, *(0.5 * step,) * (array.ndim - 1)]
        steps = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": datasets}],
    }
    return path


def predict(model: Model, image: Path, out: Path, *, probabilities: bool = False) -> Path:
    options = PredictOptions(stores=ZarrStores(), probabilities=probabilities)
    (outcome,) = predict_files(model, [image], out, options).outcomes
    assert outcome.output is not None, outcome.message
    return outcome.output


def whole(path: Path) -> np.ndarray:
    voxels = open_levels(path)[0]
    return voxels.read(tuple((0, size) for size in voxels.shape))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_volume_is_predicted_to_labels_of_its_chunks(tmp_path, zarr_format):
    array = draw(SHAPE)[..., 0]
    image = write_plain(tmp_path / "scan.zarr", array, zarr_format)
    model = make_model(tmp_path / "model", channels=CT, recipe={"spacing": (1.0, 1.0, 1.0)})
    output = predict(model, image, tmp_path / "labels")
    assert output.name == "scan.zarr"
    stored = zarr.open(str(output))
    assert (stored.metadata.zarr_format, stored.chunks) == (zarr_format, (16, 32, 20))
    expected = model.predict_image(Image(array[None], open_levels(image)[0].geometry))
    np.testing.assert_array_equal(stored[...], expected.labels)
    assert len(np.unique(expected.labels)) > 1


def test_an_image_of_ome_zarr_gets_labels_with_its_scale(tmp_path):
    array = np.moveaxis(draw((90, 70)), -1, 0)
    image = write_ome(tmp_path / "slide.ome.zarr", array)
    model = make_model(tmp_path / "model", recipe={"spacing": (0.0005, 0.0005)})
    output = predict(model, image, tmp_path / "labels")
    assert output.name == "slide.ome.zarr"
    (labels,) = open_levels(output)
    assert labels.geometry.spacing == open_levels(image)[0].geometry.spacing == (0.0005, 0.0005)
    expected = model.predict_image(Image(array, labels.geometry)).labels
    np.testing.assert_array_equal(whole(output)[0], expected)
    attributes = zarr.open_group(str(output)).attrs["ome"]
    assert attributes["multiscales"][0]["axes"][0] == {
        "name": "y",
        "type": "space",
        "unit": "micrometer",
    }


def test_a_coarse_recipe_reads_a_coarse_level(tmp_path):
    array = np.moveaxis(draw((96, 64)), -1, 0)
    image = write_ome(tmp_path / "slide.ome.zarr", array, scales=(1, 2, 4))
    fine, *_, coarse = open_levels(image)
    assert coarse.geometry.spacing == pytest.approx((0.002, 0.002))
    assert choose_level((fine, coarse), make_recipe(spacing=(0.0021, 0.0021))) is coarse
    assert choose_level((fine, coarse), make_recipe(spacing=(0.0019, 0.0019))) is fine


def test_axes_in_another_order_change_nothing(tmp_path):
    array = draw(SHAPE)[..., 0]
    image = write_plain(tmp_path / "scan.zarr", array)
    steps = {"spacing": (1.0, 1.0, 1.0), "transpose": (2, 0, 1)}
    model = make_model(tmp_path / "model", channels=CT, recipe=steps)
    output = predict(model, image, tmp_path / "labels")
    expected = model.predict_image(Image(array[None], Geometry((1.0,) * 3))).labels
    np.testing.assert_array_equal(whole(output)[0], expected)


def test_what_needs_the_whole_image_is_read_at_once(tmp_path):
    array = draw(SHAPE)[..., 0]
    image = write_plain(tmp_path / "scan.zarr", array)
    masked = (Channel(name="CT", scheme="zscore", use_mask=True),)
    model = make_model(tmp_path / "model", channels=masked, recipe={"spacing": (1.0, 1.0, 1.0)})
    output = predict(model, image, tmp_path / "labels")
    expected = model.predict_image(Image(array[None], Geometry((1.0,) * 3))).labels
    np.testing.assert_array_equal(whole(output)[0], expected)
    output = predict(model, image, tmp_path / "chances", probabilities=True)
    assert np.load(output.with_name("scan.npz"))["probabilities"].shape == (3, *SHAPE)


def test_a_folder_of_stores_is_a_folder_of_images(tmp_path):
    for name in "ab":
        write_plain(tmp_path / "images" / f"{name}.zarr", draw((20, 16))[..., 0])
    (tmp_path / "images" / "notes.csv").write_text("a,b")
    model = make_model(tmp_path / "model", channels=CT)
    out = tmp_path / "labels"
    options = PredictOptions(stores=ZarrStores())
    assert predict_files(model, [tmp_path / "images"], out, options).count("done") == 2
    assert predict_files(model, [tmp_path / "images"], out, options).count("skipped") == 2
    options = replace(options, overwrite=True)
    assert predict_files(model, [tmp_path / "images"], out, options).count("done") == 2
    assert sorted(path.name for path in out.glob("[ab]*")) == ["a.zarr", "b.zarr"]


def test_the_labels_of_one_store_get_the_name_that_is_given(tmp_path):
    image = write_plain(tmp_path / "a.zarr", draw((20, 16))[..., 0])
    model = make_model(tmp_path / "model", channels=CT)
    assert predict(model, image, tmp_path / "found.zarr") == tmp_path / "found.zarr"
    with pytest.raises(AutosegError, match="a file of the same kind"):
        predict(model, image, tmp_path / "found.tif")


def test_numbers_that_are_not_finite_are_refused_and_nothing_is_left(tmp_path):
    array = draw((60, 50))[..., 0].astype(np.float32)
    array[50, 20] = np.nan
    image = write_plain(tmp_path / "a.zarr", array)
    model = make_model(tmp_path / "model", channels=(Channel(name="CT", scheme="rgb"),))
    options = PredictOptions(stores=ZarrStores())
    summary = predict_files(model, [image], tmp_path / "labels", options)
    assert "1 voxels of channel 0 are NaN" in summary.outcomes[0].message
    assert "a.zarr" in summary.outcomes[0].message
    assert list((tmp_path / "labels").glob("*")) == []


def test_an_artifact_by_itself_says_what_reads_zarr(tmp_path):
    image = write_plain(tmp_path / "a.zarr", draw((20, 16))[..., 0])
    model = make_model(tmp_path / "model", channels=CT)
    summary = predict_files(model, [image], tmp_path / "labels", PredictOptions())
    assert "autoseg predict" in summary.outcomes[0].message


def test_a_volume_that_does_not_fit_in_rows_is_refused_with_numbers(tmp_path):
    image = write_plain(tmp_path / "a.zarr", draw((20, 16))[..., 0])
    model = make_model(tmp_path / "model", channels=CT)
    options = PredictOptions(stores=ZarrStores(), ram=10**6)
    summary = predict_files(model, [image], tmp_path / "labels", options)
    assert "GB with large arrays in files" in summary.outcomes[0].message
    assert "--ram" in summary.outcomes[0].message


def test_python_writes_the_labels_of_a_store_that_is_not_read_at_once(tmp_path, monkeypatch):
    array = draw(SHAPE)[..., 0]
    image = write_plain(tmp_path / "scan.zarr", array)
    model = make_model(tmp_path / "model", channels=CT, recipe={"spacing": (1.0, 1.0, 1.0)})
    expected = model.predict_image(Image(array[None], open_levels(image)[0].geometry)).labels
    monkeypatch.setattr(Model, "predict_prepared", None)
    output = Predictor(model).predict(image, output=tmp_path / "labels.zarr")
    assert output == tmp_path / "labels.zarr"
    np.testing.assert_array_equal(whole(output)[0], expected)


def test_a_copy_that_has_lost_an_axis_is_left_aside(tmp_path):
    array = draw((2, 40, 32))[None, ..., 0]
    image = write_ome(tmp_path / "thin.ome.zarr", array, scales=(1, 2))
    assert [level.shape for level in open_levels(image)] == [(2, 40, 32)]


@pytest.mark.parametrize("shape", [(0, 30, 20), (4, 30, 0)], ids=str)
def test_an_empty_array_is_named_and_the_others_are_predicted(tmp_path, shape):
    full = write_plain(tmp_path / "a.zarr", draw((20, 24, 16))[..., 0])
    empty = write_plain(tmp_path / "b.zarr", np.zeros(shape, np.uint8))
    model = make_model(tmp_path / "model", channels=CT, recipe={"spacing": (1.0, 1.0, 1.0)})
    options = PredictOptions(stores=ZarrStores())
    summary = predict_files(model, [full, empty], tmp_path / "labels", options)
    assert list(summary.to_dict()["done"]) == ["a"]
    assert "at least one along every axis" in summary.to_dict()["failed"]["b"]


def test_a_damaged_chunk_is_told_with_the_name_once(tmp_path):
    image = write_plain(tmp_path / "a.zarr", draw((20, 24, 16))[..., 0])
    chunk = next(path for path in (image / "c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:5])
    model = make_model(tmp_path / "model", channels=CT, recipe={"spacing": (1.0, 1.0, 1.0)})
    options = PredictOptions(stores=ZarrStores())
    (outcome,) = predict_files(model, [image], tmp_path / "labels", options).outcomes
    assert outcome.message.count(str(image)) == 1, outcome.message


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_labels_lie_where_their_image_lies(tmp_path, zarr_format):
    image = write_ome(tmp_path / "a.ome.zarr", draw((30, 20))[None, ..., 0], scales=(1,))
    group = zarr.open_group(str(image))
    described = group.attrs["ome"]
    steps = described["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    steps.append({"type": "translation", "translation": [0.0, 5.0, 7.0]})
    described["multiscales"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [1.0, 2.0, 1.0]},
        {"type": "translation", "translation": [0.0, 1.0, 0.0]},
    ]
    group.attrs["ome"] = described
    like = replace(storage(image), zarr_format=zarr_format)
    with LabelZarr(tmp_path / "labels.zarr", (30, 20), np.dtype("u1"), like) as sink:
        sink.add(np.ones((30, 20), np.uint8))
    attributes = dict(zarr.open_group(str(tmp_path / "labels.zarr")).attrs)
    (stored,) = attributes.get("ome", attributes)["multiscales"][0]["datasets"]
    assert stored["coordinateTransformations"] == [
        {"type": "scale", "scale": [1.0, 0.5]},
        {"type": "translation", "translation": [11.0, 7.0]},
    ]


def test_labels_that_cannot_be_finished_keep_those_before(tmp_path, monkeypatch):
    image = write_plain(tmp_path / "a.zarr", draw((20, 16))[..., 0])
    model = make_model(tmp_path / "model", channels=CT)
    output = predict(model, image, tmp_path / "labels")
    before = whole(output)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LabelZarr, "_write", refuse)
    options = PredictOptions(stores=ZarrStores(), overwrite=True)
    assert predict_files(model, [image], tmp_path / "labels", options).count("failed") == 1
    np.testing.assert_array_equal(whole(output), before)
    assert [path.name for path in (tmp_path / "labels").glob("*a.zarr*")] == ["a.zarr"]


def test_what_a_killed_run_left_is_taken_away_by_the_next(tmp_path):
    image = write_plain(tmp_path / "a.zarr", draw((20, 16))[..., 0])
    model = make_model(tmp_path / "model", channels=CT)
    left = tmp_path / "labels" / ".a.zarr.0123abcd.part"
    left.mkdir(parents=True)
    (left / "chunk").write_bytes(b"half")
    predict(model, image, tmp_path / "labels")
    assert not left.exists()


@pytest.mark.parametrize("changed", ["shape", "spacing"])
def test_channels_of_different_grids_are_refused(tmp_path, changed):
    array = draw((40, 32))[None, ..., 0]
    write_ome(tmp_path / "images" / "c_0000.zarr", array, scales=(1,))
    if changed == "shape":
        write_ome(tmp_path / "images" / "c_0001.zarr", array[:, :30], scales=(1,))
    else:
        write_ome(tmp_path / "images" / "c_0001.zarr", array, scales=(2,))
        group = zarr.open_group(str(tmp_path / "images" / "c_0001.zarr"))
        del group["0"]
        group.create_array("0", data=array)
    two = tuple(Channel(name=name, scheme="zscore") for name in "ab")
    model = make_model(tmp_path / "model", channels=two, channel_files="suffix")
    options = PredictOptions(stores=ZarrStores())
    (outcome,) = predict_files(model, [tmp_path / "images"], tmp_path / "out", options).outcomes
    assert f"c_0001.zarr has {changed}" in outcome.message

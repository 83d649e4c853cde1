"""An artifact at work, with a graph made by hand: class 1 where the image is above its mean."""

import hashlib
import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from autoseg.cli.main import main as autoseg
from autoseg.export.bundle import copy_runtime, list_files
from autoseg.runtime import governor, loading, nifti_header
from autoseg.runtime.cases import find_cases, refuse_missing
from autoseg.runtime.command import main, parse_size
from autoseg.runtime.errors import AutosegError
from autoseg.runtime.images import Geometry, Image, read_image, read_labels, write_image
from autoseg.runtime.manifest import Configuration, Manifest, Timing, Verification
from autoseg.runtime.model import ACCURATE, FAST, Effort, Model, make_tiling, open_onnx
from autoseg.runtime.provenance import RECORD, describe_maker
from autoseg.runtime.recipe import Channel, KeepLargest, Labels, Recipe, SmallestObject
from autoseg.runtime.runner import PredictOptions, predict_files
from autoseg.runtime.scratch import OnDisk

SHAPE = (9, 12, 10)
GEOMETRY = Geometry(
    (2.0, 1.0, 1.0),
    origin=(1.0, 2.0, 3.0),
    direction=(0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
)
ALLOWED = {"numpy", "scipy", "SimpleITK", "PIL", "onnxruntime", "flatbuffers", "google"}
ALLOWED |= {"packaging"}
"""The five requirements, and what onnxruntime needs."""
HOOK = """
import sys
allowed = {allowed!r} | set(sys.stdlib_module_names) | {{"runtime", "predict"}}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and not top.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(name + " is refused", name=name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {folder!r})
sys.argv = ["predict.py", *{arguments!r}]
import runpy
runpy.run_path({folder!r} + "/predict.py", run_name="__main__")
"""


def make_recipe(num_channels: int, spacing: tuple[float, ...]) -> Recipe:
    return Recipe(
        transpose=tuple(range(len(spacing))),
        spacing=spacing,
        channels=tuple(Channel(name=f"MR{i}", scheme="zscore") for i in range(num_channels)),
        order="resample-normalise",
        spline_order=1,
        coarse_ratio=3.0,
        padding="mirror",
        overlap=0.5,
        mirror_axes=tuple(range(len(spacing))),
        test_time_mirroring=False,
    )


def write_graph(path: Path, num_channels: int, dims: int) -> None:
    """Write a graph whose logits are 0 and the normalised first channel."""
    weights = np.zeros((2, num_channels, *(1,) * dims), dtype=np.float32)
    weights[1, 0] = 1
    axes = np.arange(2, 2 + dims)
    nodes = [
        helper.make_node("Unsqueeze", ["mean", "axes"], ["means"]),
        helper.make_node("Unsqueeze", ["std", "axes"], ["stds"]),
        helper.make_node("Sub", ["tile", "means"], ["centred"]),
        helper.make_node("Div", ["centred", "stds"], ["normal"]),
        helper.make_node("Conv", ["normal", "weights"], ["logits"]),
    ]
    shape = ["batch", num_channels, *(f"s{axis}" for axis in range(dims))]
    inputs = [
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, shape if name == "tile" else shape[:2]
        )
        for name in ("tile", "mean", "std")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2, *shape[2:]])
    constants = [
        helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel()),
        helper.make_tensor("axes", TensorProto.INT64, axes.shape, axes),
    ]
    graph = helper.make_graph(nodes, "made", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)


def write_artifact(folder: Path, **changes: object) -> Path:
    """Write an artifact; `changes` are fields of its manifest."""
    folder.mkdir()
    channels = changes.get("channels", ("MR0",))
    assert isinstance(channels, tuple)
    names = changes.pop("names", ("3d_fullres",))
    spacing = changes.pop("spacing", (2.0, 1.0, 1.0))
    assert isinstance(names, tuple)
    assert isinstance(spacing, tuple)
    configurations = tuple(
        Configuration(
            name=name,
            weight=1 / len(names),
            folds=("0",),
            recipe=make_recipe(len(channels), spacing),
            patch_size=(8,) * len(spacing),
            tiles_per_case=8.0,
            input="raw",
            spatial="dynamic",
            spatial_multiple=(1,) * len(spacing),
            onnx=f"{name}.onnx",
            torchscript=f"{name}.torchscript.pt",
            parity=(),
            timings=(),
        )
        for name in names
    )
    for item in configurations:
        write_graph(folder / item.onnx, len(channels), len(spacing))
        (folder / item.torchscript).write_bytes(b"")
    manifest = Manifest(
        autoseg_version="0",
        name="made up",
        planner="auto",
        plan_digest="0",
        fingerprint_digest="0",
        seed=0,
        unit="mm",
        channels=("MR0",),
        channel_files="suffix",
        file_ending=".nii.gz",
        labels=Labels(names=("background", "bright"), values=(0, 7)),
        configurations=configurations,
        postprocessing=(),
        verification=None,
    )
    manifest = replace(manifest, **changes)
    return finish(folder, manifest)


def finish(folder: Path, manifest: Manifest) -> Path:
    manifest = replace(manifest, files=list_files(folder))
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return folder


def draw(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Return (1, *S) values from 1 on: nothing to crop."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 200, (1, *shape)).astype(np.uint8)


def expected_labels(array: np.ndarray) -> np.ndarray:
    return np.where(array[0] > array[0].mean(), 7, 0)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "model")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with cases of difficult names."""
    folder = tmp_path / "images"
    for seed, name in enumerate(("<script>", "Fall ä 1")):
        write_image(folder / f"{name}_0000.nii.gz", Image(draw(seed), GEOMETRY))
    return folder


def predict(artifact: Path, inputs: list[Path], out: Path, **options: object):
    seen = []
    choice = PredictOptions(**options)  # pyright: ignore[reportArgumentType]
    summary = predict_files(
        Model(artifact), inputs, out, choice, lambda *progress: seen.append(progress)
    )
    assert [done for _, done, _ in seen] == list(range(1, len(summary.outcomes) + 1))
    return summary


def test_labels_come_back_in_the_users_values_on_the_images_grid(artifact, images, tmp_path):
    summary = predict(artifact, [images], tmp_path / "out")
    assert summary.count("done") == 2
    result = read_labels(tmp_path / "out" / "<script>.nii.gz")
    np.testing.assert_array_equal(result.array[0], expected_labels(draw(0)))
    given = read_image([images / "<script>_0000.nii.gz"]).geometry
    assert result.geometry.orientation == given.orientation
    assert result.geometry.origin == pytest.approx(given.origin)
    assert result.geometry.spacing == pytest.approx(given.spacing)


def test_an_image_in_memory_is_predicted(artifact):
    prediction = Model(artifact).predict_image(Image(draw(3), GEOMETRY), probabilities=True)
    np.testing.assert_array_equal(prediction.labels, expected_labels(draw(3)))
    assert prediction.probabilities is not None
    assert prediction.probabilities.dtype == np.float16
    np.testing.assert_allclose(prediction.probabilities.sum(axis=0), 1, atol=2e-3)


@pytest.mark.parametrize("array", [np.zeros((1, *SHAPE)), np.full((1, *SHAPE), 5.0)])
def test_a_constant_image_has_no_foreground(artifact, array):
    assert not Model(artifact).predict_image(Image(array.astype("f4"), GEOMETRY)).labels.any()


def test_two_configurations_are_averaged_as_probabilities(artifact, tmp_path):
    other = write_artifact(tmp_path / "two", names=("3d_fullres", "3d_lowres"))
    image = Image(draw(1), GEOMETRY)
    one = Model(artifact).predict_image(image, probabilities=True)
    two = Model(other).predict_image(image, probabilities=True)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert one.probabilities is not None
    assert two.probabilities is not None
    np.testing.assert_allclose(one.probabilities, two.probabilities, atol=2e-3)


def test_post_processing_of_the_manifest_is_applied(tmp_path):
    folder = write_artifact(tmp_path / "model", postprocessing=(KeepLargest(classes=(1,)),))
    array = np.ones((1, *SHAPE), dtype=np.float32)
    array[0, 2:5, 2:5, 2:5] = 9
    array[0, 8, 11, 9] = 9
    labels = Model(folder).predict_image(Image(array, GEOMETRY)).labels
    assert labels[3, 3, 3] == 7
    assert labels[8, 11, 9] == 0


def test_offsets_move_the_border_of_one_network_and_of_several(tmp_path):
    image = Image(draw(1), GEOMETRY)
    sizes = []
    for number, names in enumerate((("3d_fullres",), ("3d_fullres", "3d_lowres"))):
        for offset in (-1.0, 0.0, 1.0):
            folder = tmp_path / f"model {number} {offset}"
            write_artifact(folder, names=names, offsets=(0.0, offset))
            labels = Model(folder).predict_image(image).labels
            sizes.append(int((labels == 7).sum()))
    assert sizes[0] < sizes[1] < sizes[2]
    np.testing.assert_allclose(sizes[:3], sizes[3:], atol=3)  # half precision moves few voxels


def test_small_objects_of_the_manifest_are_removed_by_their_size_in_space(tmp_path):
    array = np.ones((1, *SHAPE), dtype=np.float32)
    array[0, 2:5, 2:5, 2:5] = 9
    array[0, 8, 11, 9] = 9
    image = Image(array, GEOMETRY)
    voxel = float(np.prod(GEOMETRY.spacing))
    for size, is_kept in ((voxel, True), (1.5 * voxel, False)):
        folder = tmp_path / f"model {size}"
        write_artifact(folder, smallest=(SmallestObject(class_index=1, size=size),))
        labels = Model(folder).predict_image(image).labels
        assert labels[3, 3, 3] == 7
        assert (labels[8, 11, 9] == 7) == is_kept


def test_effort_sets_overlap_and_mirroring(artifact):
    (item,) = Model(artifact).manifest.configurations
    mean = np.zeros(1, dtype=np.float32)
    assert make_tiling(item, mean, FAST).overlap == 0.25
    assert make_tiling(item, mean).mirror_axes == ()
    assert make_tiling(item, mean, ACCURATE).mirror_axes == (0, 1, 2)
    assert Effort(1.0, "planned").mirror_axes(replace(item.recipe, test_time_mirroring=True))


def test_a_bad_file_never_stops_the_rest(artifact, images, tmp_path):
    (images / "broken_0000.nii.gz").write_bytes(b"no image")
    nan = draw(5).astype("f4")
    nan[0, 0, 0, 0] = np.nan
    write_image(images / "nan_0000.nii.gz", Image(nan, GEOMETRY))
    write_image(images / "flat_0000.png", Image(draw(6, (8, 8)), Geometry((1.0, 1.0))))
    inputs = [images, tmp_path / "missing_0000.nii.gz", tmp_path / "notes.txt"]
    summary = predict(artifact, inputs, tmp_path / "out")
    assert summary.exit_code == 2
    told = summary.to_dict()["failed"]
    assert set(told) == {"broken", "nan", "flat", "missing", "notes.txt"}
    assert "nan_0000.nii.gz" in told["nan"]
    assert "NaN" in told["nan"]
    assert "axes" in told["flat"]
    assert names_in(tmp_path / "out") == ["<script>.nii.gz", "Fall ä 1.nii.gz"]


def test_inputs_that_do_not_exist_are_refused_only_where_there_is_no_other(
    artifact, images, tmp_path, capsys
):
    missing = tmp_path / "no" / "folder"
    assert main(artifact, [str(images), str(missing), str(tmp_path / "out")]) == 2
    assert f"folder: failed: no file or folder {missing}" in capsys.readouterr().err
    assert names_in(tmp_path / "out") == ["<script>.nii.gz", "Fall ä 1.nii.gz"]
    refuse_missing([])
    with pytest.raises(AutosegError, match="no file or folder"):
        refuse_missing([missing, tmp_path / "none.png"])


@pytest.mark.parametrize("command", ["autoseg", "predict.py"])
def test_broken_exif_data_are_no_noise_on_the_terminal(artifact, tmp_path, command):
    missing, out = str(tmp_path / "none.png"), str(tmp_path / "out")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        if command == "autoseg":
            assert autoseg(["predict", str(artifact), missing, "-o", out]) == 2
        else:
            assert main(artifact, [missing, out]) == 2
        warnings.warn_explicit("Corrupt EXIF data", UserWarning, "x.py", 1, "PIL.TiffImagePlugin")
        warnings.warn_explicit("other", UserWarning, "x.py", 1, "numpy")
    assert [str(item.message) for item in told] == ["other"]


def names_in(folder: Path) -> list[str]:
    """Return the files that were predicted."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_what_the_same_model_has_made_is_kept_unless_overwritten(artifact, images, tmp_path):
    out = tmp_path / "out"
    assert predict(artifact, [images / "<script>_0000.nii.gz"], out).count("done") == 1
    (out / "<script>.nii.gz").write_bytes(b"kept")
    summary = predict(artifact, [images], out)
    assert (summary.count("skipped"), summary.count("done")) == (1, 1)
    assert (out / "<script>.nii.gz").read_bytes() == b"kept"
    assert predict(artifact, [images], out, overwrite=True).count("done") == 2
    assert (out / "<script>.nii.gz").read_bytes() != b"kept"


def test_a_file_of_unknown_origin_is_refused_before_anything_is_predicted(
    artifact, images, tmp_path
):
    out = tmp_path / "out"
    out.mkdir()
    (out / "<script>.nii.gz").write_bytes(b"mine")
    with pytest.raises(AutosegError, match=r"<script>\.nii\.gz: of unknown origin") as caught:
        predict(artifact, [images], out)
    assert "--overwrite" in caught.value.fix
    assert names_in(out) == ["<script>.nii.gz"]
    assert predict(artifact, [images], out, overwrite=True).count("done") == 2
    assert predict(artifact, [images], out).count("skipped") == 2


def test_outputs_of_another_model_are_refused_and_both_models_named(artifact, images, tmp_path):
    out = tmp_path / "out"
    predict(artifact, [images], out)
    other = write_artifact(
        tmp_path / "other", name="second", postprocessing=(KeepLargest(classes=(1,)),)
    )
    with pytest.raises(AutosegError, match="made by model made up") as caught:
        predict(other, [images], out)
    assert "second" in caught.value.expected
    predict(other, [images / "<script>_0000.nii.gz"], out, overwrite=True)
    with pytest.raises(AutosegError) as caught:
        predict(other, [images], out)
    assert "holds Fall ä 1.nii.gz:" in caught.value.found


def test_other_options_are_another_maker_but_only_where_they_change_something(
    artifact, images, tmp_path
):
    out = tmp_path / "out"
    predict(artifact, [images], out)
    unmirrored = Effort(1.0, "never")  # the recipe plans no mirroring
    assert predict(artifact, [images], out, effort=unmirrored).count("skipped") == 2
    with pytest.raises(AutosegError, match="mirrored axes none") as caught:
        predict(artifact, [images], out, effort=ACCURATE)
    assert "mirrored axes 0, 1, 2" in caught.value.expected


def test_exporting_again_does_not_make_another_model(artifact, images, tmp_path):
    predict(artifact, [images], tmp_path / "out")
    manifest = Model(artifact).manifest
    timing = Timing(
        backend="onnx", num_threads=1, import_seconds=1.0, load_seconds=1.0, tile_seconds=1.0
    )
    timed = tuple(replace(item, timings=(timing,)) for item in manifest.configurations)
    (artifact / "model_card.md").write_text("new")
    finish(artifact, replace(manifest, configurations=timed))
    assert predict(artifact, [images], tmp_path / "out").count("skipped") == 2


def test_models_from_before_cascades_are_still_the_same(artifact):
    manifest = Model(artifact).manifest
    content = json.loads(replace(manifest, files=manifest.files[:1]).to_json())
    for name in ("previous", "region_margin"):
        del content["configurations"][0][name]
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert describe_maker(manifest, FAST).digest == digest


def test_a_broken_line_of_the_record_says_nothing(artifact, images, tmp_path):
    out = tmp_path / "out"
    predict(artifact, [images], out)
    record = out / RECORD
    record.write_text("{\n" + record.read_text(encoding="utf-8"), encoding="utf-8")
    assert predict(artifact, [images], out).count("skipped") == 2
    record.write_text("{\n")
    with pytest.raises(AutosegError, match="unknown origin"):
        predict(artifact, [images], out)


def test_labels_alone_do_not_stand_for_probabilities(artifact, images, tmp_path):
    out = tmp_path / "out"
    assert predict(artifact, [images], out).count("done") == 2
    (out / "<script>.nii.gz").write_bytes(b"mine")
    summary = predict(artifact, [images], out, probabilities=True)
    assert summary.count("done") == 2
    assert (out / "<script>_probabilities.nii.gz").exists()
    assert (out / "<script>.nii.gz").read_bytes() == b"mine"
    assert predict(artifact, [images], out, probabilities=True).count("skipped") == 2


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_volume_formats_of_2d_images_get_npz_probabilities(tmp_path, ending):
    folder = write_artifact(tmp_path / "model", spacing=(1.0, 1.0))
    image = Image(draw(0, (11, 9)), Geometry((1.0, 1.0)))
    write_image(tmp_path / "in" / f"a_0000{ending}", image)
    summary = predict(folder, [tmp_path / "in"], tmp_path / "out", probabilities=True)
    assert summary.to_dict()["failed"] == {}
    assert np.load(tmp_path / "out" / "a.npz")["probabilities"].shape == (2, 11, 9)
    labels = read_labels(tmp_path / "out" / f"a{ending}").array[0]
    np.testing.assert_array_equal(labels, expected_labels(draw(0, (11, 9))))


def test_probabilities_that_cannot_be_written_leave_the_labels(artifact, images, tmp_path):
    (tmp_path / "out" / "<script>_probabilities.nii.gz").mkdir(parents=True)
    summary = predict(artifact, [images], tmp_path / "out", probabilities=True, overwrite=True)
    assert "cannot be written" in summary.to_dict()["failed"]["<script>"]
    assert (tmp_path / "out" / "<script>.nii.gz").is_file()


def test_images_are_never_replaced_by_their_labels(tmp_path):
    folder = write_artifact(tmp_path / "model", channel_files="single")
    write_image(tmp_path / "a.nii.gz", Image(draw(0), GEOMETRY))
    before = (tmp_path / "a.nii.gz").read_bytes()
    summary = predict(folder, [tmp_path / "a.nii.gz"], tmp_path, overwrite=True)
    assert summary.count("failed") == 1
    assert (tmp_path / "a.nii.gz").read_bytes() == before


def test_channels_are_grouped_and_a_missing_one_is_named(tmp_path):
    folder = write_artifact(tmp_path / "model", channels=("MR0", "MR1"))
    for name, seed in (("a_0000", 0), ("a_0001", 1), ("b_0000", 2), ("b_0002", 3)):
        write_image(tmp_path / "in" / f"{name}.nii.gz", Image(draw(seed), GEOMETRY))
    summary = predict(folder, [tmp_path / "in"], tmp_path / "out")
    assert "b_0002.nii.gz" in summary.to_dict()["failed"]["b"]
    result = read_labels(tmp_path / "out" / "a.nii.gz").array[0]
    np.testing.assert_array_equal(result, expected_labels(draw(0)))


def test_two_inputs_of_one_name_are_refused(tmp_path):
    paths = [tmp_path / "x" / "a.png", tmp_path / "y" / "a.png"]
    cases, failed = find_cases(paths, "single", 1)
    assert [case.paths for case in cases] == [(paths[0],)]
    assert "same name" in failed[0].message


@pytest.mark.parametrize(
    ("kind", "names"),
    [("single", ("a.jpg", "a.png")), ("suffix", ("a.png", "a_0000.png"))],
)
def test_two_files_of_one_channel_are_both_named(tmp_path, kind, names):
    for name in (*names, "b.png"):
        (tmp_path / name).write_bytes(b"")
    cases, failed = find_cases([tmp_path], kind, 1)
    assert [case.case_id for case in cases] == ["b"]
    assert [item.case_id for item in failed] == ["a"]
    assert all(name in failed[0].message for name in names)


def test_a_folder_without_images_is_a_failure(artifact, tmp_path):
    (tmp_path / "empty").mkdir()
    assert predict(artifact, [tmp_path / "empty"], tmp_path / "out").exit_code == 2


def test_pictures_get_png_labels_and_npz_probabilities(tmp_path):
    folder = write_artifact(tmp_path / "model", channel_files="single", spacing=(1.0, 1.0))
    write_image(tmp_path / "in" / "a.png", Image(draw(0, (11, 9)), Geometry((1.0, 1.0))))
    shutil.copy(tmp_path / "in" / "a.png", tmp_path / "in" / "b.jpg")
    summary = predict(folder, [tmp_path / "in"], tmp_path / "out", probabilities=True)
    assert summary.count("done") == 2
    names = names_in(tmp_path / "out")
    assert names == ["a.npz", "a.png", "b.npz", "b.png"]
    stored = np.load(tmp_path / "out" / "a.npz")["probabilities"]
    assert stored.shape == (2, 11, 9)
    np.testing.assert_array_equal(
        read_labels(tmp_path / "out" / "a.png").array[0], expected_labels(draw(0, (11, 9)))
    )


def test_at_most_one_image_is_read_ahead(artifact, tmp_path, monkeypatch):
    for index in range(5):
        write_image(tmp_path / "in" / f"{index}_0000.nii.gz", Image(draw(index), GEOMETRY))
    counts = {"read": 0, "predicted": 0}
    read = loading.read_image

    def counted(paths):
        counts["read"] += 1
        assert counts["read"] - counts["predicted"] <= 2
        return read(paths)

    monkeypatch.setattr(loading, "read_image", counted)
    model = Model(artifact)

    def count(*_):
        counts["predicted"] += 1

    predict_files(model, [tmp_path / "in"], tmp_path / "out", PredictOptions(), count)
    assert counts == {"read": 5, "predicted": 5}


def test_a_changed_network_is_refused(artifact):
    with (artifact / "3d_fullres.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(AutosegError, match="not the file that was exported"):
        Model(artifact)


def test_an_output_folder_that_cannot_be_made_is_told(artifact, images, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AutosegError, match="cannot be made"):
        predict(artifact, [images], tmp_path / "file" / "out")


def test_a_file_in_place_of_the_output_folder_is_told(artifact, images, tmp_path):
    file = tmp_path / "case.txt"
    file.write_bytes(b"")
    with pytest.raises(AutosegError, match="is a file") as caught:
        predict(artifact, [images], file)
    assert str(tmp_path / "case_labels") in caught.value.fix
    assert predict(artifact, [images], tmp_path / "case_labels").exit_code == 0


def test_the_labels_of_one_image_get_the_name_that_is_given(artifact, images, tmp_path):
    image, file = images / "Fall ä 1_0000.nii.gz", tmp_path / "out" / "one.nii"
    summary = predict(artifact, [image], file, probabilities=True)
    assert summary.outcomes[0].output == file
    assert file.is_file()
    np.testing.assert_array_equal(read_labels(file).array[0], expected_labels(draw(1)))
    made = {path.name for path in file.parent.iterdir()}
    assert made == {"one.nii", "one_probabilities.nii", RECORD}
    assert predict(artifact, [image], file, probabilities=True).count("skipped") == 1


def test_one_file_for_several_images_is_refused_with_a_folder_that_works(
    artifact, images, tmp_path
):
    file = tmp_path / "one.nii.gz"
    with pytest.raises(AutosegError, match="2 images") as caught:
        predict(artifact, [images], file)
    assert not file.exists()
    folder = Path(caught.value.fix.rpartition(" ")[2])
    assert predict(artifact, [images], folder).exit_code == 0


def test_a_file_that_cannot_hold_the_labels_is_refused(artifact, images, tmp_path):
    image = images / "Fall ä 1_0000.nii.gz"
    with pytest.raises(AutosegError, match="the same kind") as caught:
        predict(artifact, [image], tmp_path / "one.png")
    assert "ends in .nii.gz" in caught.value.fix
    assert list(tmp_path.glob("one*")) == []


def test_a_file_of_labels_that_is_there_is_not_replaced_unasked(artifact, images, tmp_path):
    image, file = images / "Fall ä 1_0000.nii.gz", tmp_path / "one.nii.gz"
    shutil.copy(image, file)
    before = file.read_bytes()
    with pytest.raises(AutosegError, match="of unknown origin"):
        predict(artifact, [image], file)
    assert file.read_bytes() == before
    predict(artifact, [image], file, overwrite=True)
    assert file.read_bytes() != before


def test_one_image_is_never_replaced_by_its_labels(artifact, images):
    image = images / "Fall ä 1_0000.nii.gz"
    summary = predict(artifact, [image], image, overwrite=True)
    assert summary.count("failed") == 1
    assert "would replace the image" in summary.outcomes[0].message


def test_a_folder_with_the_name_of_an_image_stays_a_folder(artifact, images, tmp_path):
    folder = tmp_path / "one.nii.gz"
    folder.mkdir()
    assert predict(artifact, [images], folder).count("done") == 2


def add_verification(artifact: Path, *, correct: bool) -> None:
    (artifact / "verification").mkdir()
    names = ("verification/image_0000.nii.gz", "verification/expected.nii.gz")
    labels = expected_labels(draw(0))
    labels = labels if correct else 7 - labels
    write_image(artifact / names[0], Image(draw(0), GEOMETRY))
    write_image(artifact / names[1], Image(labels[None].astype(np.uint8), GEOMETRY))
    case = Verification(kind="synthetic", images=names[:1], expected=names[1], label_agreement=1.0)
    finish(artifact, replace(Model(artifact).manifest, verification=case))


@pytest.mark.parametrize(("correct", "code"), [(True, 0), (False, 2)])
def test_the_verification_case_tells_whether_the_artifact_works(artifact, capsys, correct, code):
    add_verification(artifact, correct=correct)
    assert main(artifact, ["--verify"]) == code
    assert "label agreement" in capsys.readouterr().out


def test_the_command_reports_and_returns_two_when_a_file_failed(artifact, images, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(artifact, [str(images), out, "--no-tta", "--effort", "fast"]) == 0
    assert main(artifact, [str(tmp_path / "missing.nii.gz"), "-o", out]) == 2
    assert "missing" in capsys.readouterr().err
    (artifact / "manifest.json").write_text("{}", encoding="utf-8")
    assert main(artifact, [str(images), out]) == 2
    assert "missing field" in capsys.readouterr().err


def test_the_command_needs_inputs_and_an_output(artifact):
    with pytest.raises(SystemExit) as caught:
        main(artifact, ["only"])
    assert caught.value.code == 2


def test_threads_do_not_change_the_labels(artifact):
    image = Image(draw(9), GEOMETRY)
    single = Model(artifact, lambda *place: open_onnx(*place, num_threads=1)).predict_image(image)
    np.testing.assert_array_equal(single.labels, Model(artifact).predict_image(image).labels)


def run_script(command: list, artifact: Path, images: Path, out: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for seed, name in enumerate(("<script>", "Fall ä 1")):
        labels = read_labels(out / f"{name}.nii.gz").array[0]
        np.testing.assert_array_equal(labels, expected_labels(draw(seed)))


def test_predict_py_runs_where_only_its_requirements_can_be_imported(artifact, images, tmp_path):
    copy_runtime(artifact)
    arguments = [str(images), str(tmp_path / "out")]
    code = HOOK.format(allowed=ALLOWED, folder=str(artifact), arguments=arguments)
    run_script([sys.executable, "-c", code], artifact, images, tmp_path / "out")
    refused = HOOK.format(allowed=ALLOWED - {"numpy"}, folder=str(artifact), arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", refused], capture_output=True, text=True, check=False
    )
    assert "numpy is refused" in done.stderr


@pytest.mark.slow
def test_predict_py_runs_in_a_bare_environment(artifact, images, tmp_path, bare_python):
    copy_runtime(artifact)
    probe = [bare_python, "-c", "import torch"]
    assert subprocess.run(probe, capture_output=True, check=False).returncode != 0
    command = [bare_python, artifact / "predict.py", images, tmp_path / "out"]
    run_script(command, artifact, images, tmp_path / "out")


def test_the_copied_runtime_is_the_runtime(tmp_path, repository):
    copy_runtime(tmp_path)
    source = repository / "autoseg" / "runtime"
    names = {path.name for path in source.glob("*.py")}
    assert {path.name for path in (tmp_path / "runtime").iterdir()} == names
    assert all(
        (tmp_path / "runtime" / name).read_bytes() == (source / name).read_bytes() for name in names
    )
    requirements = (tmp_path / "requirements.txt").read_text().split()
    assert requirements == ["numpy", "scipy", "SimpleITK", "onnxruntime", "pillow"]


def test_large_arrays_in_files_change_nothing(artifact, images, tmp_path, monkeypatch):
    on_disk = []
    zeros = OnDisk.zeros
    monkeypatch.setattr(
        OnDisk, "zeros", lambda self, *place: on_disk.append(place) or zeros(self, *place)
    )
    monkeypatch.setattr(governor, "refuse_too_large", lambda *_: None)
    plain = predict(artifact, [images], tmp_path / "a", probabilities=True)
    assert plain.count("done") == 2
    assert on_disk == []
    tight = predict(artifact, [images], tmp_path / "b", probabilities=True, ram=1)
    assert tight.count("done") == 2
    assert len(on_disk) == 4
    assert all("in files" in item.measures for item in tight.outcomes)
    assert not any(item.measures for item in plain.outcomes)
    for name in names_in(tmp_path / "a"):
        first, second = (read_image([tmp_path / place / name]).array for place in "ab")
        np.testing.assert_array_equal(first, second)
    assert names_in(tmp_path / "b") == names_in(tmp_path / "a")


def test_an_image_too_large_for_the_memory_is_named_and_the_others_are_predicted(
    artifact, images, tmp_path
):
    with (images / "huge_0000.nii").open("wb") as file:
        file.write(nifti_header.build((1000, 1000, 500), np.dtype(np.uint8), GEOMETRY))
        file.truncate(file.tell() + 10)  # never read so far
    summary = predict(artifact, [images], tmp_path / "out", ram=2_000_000_000)
    assert summary.count("done") == 2
    assert summary.exit_code == 2
    told = summary.to_dict()["failed"]["huge"]
    assert "GB with large arrays in files" in told
    assert "--ram" in told


@pytest.mark.parametrize("where", ["reading", "predicting"])
def test_memory_that_runs_out_stops_one_case_only(artifact, images, tmp_path, monkeypatch, where):
    calls = []

    def fail_once(real):
        def wrapped(*words, **options):
            calls.append(where)
            if len(calls) == 1:
                raise MemoryError
            return real(*words, **options)

        return wrapped

    name = "prepare" if where == "reading" else "predict_prepared"
    monkeypatch.setattr(Model, name, fail_once(getattr(Model, name)))
    summary = predict(artifact, [images], tmp_path / "out")
    assert (summary.count("failed"), summary.count("done")) == (1, 1)
    (told,) = summary.to_dict()["failed"].values()
    assert "not enough memory" in told
    assert "GB were expected" in told


@pytest.mark.parametrize(("text", "size"), [("8GB", 8 * 10**9), ("1.5GiB", 3 * 2**29)])
def test_sizes_are_read_as_users_write_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["8", "GB", "-1GB", "8TBs", "lots"])
def test_what_is_no_size_is_refused(artifact, text, capsys):
    with pytest.raises(SystemExit):
        main(artifact, ["a.nii.gz", "out", f"--ram={text}"])
    assert "--ram" in capsys.readouterr().err


def test_ram_is_an_option_of_both_commands(artifact, images, tmp_path):
    words = [str(images), "-o", str(tmp_path / "a"), "--ram", "100GB"]
    assert autoseg(["predict", str(artifact), *words]) == 0
    assert main(artifact, [str(images), str(tmp_path / "b"), "--ram", "1MB"]) == 2

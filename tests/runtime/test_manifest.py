"""The strict manifest."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from autoseg.runtime.errors import AutosegError
from autoseg.runtime.manifest import (
    Configuration,
    Manifest,
    StoredFile,
    check_file,
    describe_file,
    load_manifest,
    parse_manifest,
)
from autoseg.runtime.recipe import Channel, KeepLargest, Labels, Recipe

CONTENT = b"weights"


def make_manifest() -> Manifest:
    recipe = Recipe(
        transpose=(0, 1, 2),
        spacing=(1.0, 1.0, 1.0),
        channels=(Channel(name="MR", scheme="zscore"),),
        order="resample-normalise",
        spline_order=3,
        coarse_ratio=3.0,
        padding="mirror",
        overlap=0.5,
        mirror_axes=(0, 1),
        test_time_mirroring=True,
    )
    configuration = Configuration(
        name="3d_fullres",
        weight=1.0,
        folds=("0",),
        recipe=recipe,
        patch_size=(8, 8, 8),
        tiles_per_case=1.0,
        input="raw",
        spatial="dynamic",
        spatial_multiple=(4, 4, 4),
        onnx="3d_fullres.onnx",
        torchscript="3d_fullres.torchscript.pt",
        parity=(),
        timings=(),
    )
    return Manifest(
        autoseg_version="0",
        name="made up <b> ä",
        planner="auto",
        plan_digest="0",
        fingerprint_digest="0",
        seed=0,
        unit="mm",
        channels=("MR",),
        channel_files="suffix",
        file_ending=".nii.gz",
        labels=Labels(names=("background", "ball"), values=(0, 7)),
        configurations=(configuration,),
        postprocessing=(KeepLargest(classes=(1,)),),
        verification=None,
        files=tuple(
            StoredFile(name=name, num_bytes=1, sha256="0" * 64)
            for name in ("3d_fullres.onnx", "3d_fullres.torchscript.pt")
        ),
    )


def change(edit: Callable[[dict], object]) -> str:
    """Return the manifest as text, after an edit of its content."""
    content = json.loads(make_manifest().to_json())
    edit(content)
    return json.dumps(content)


def first(content: dict) -> dict:
    return content["configurations"][0]


def test_a_manifest_survives_json():
    manifest = make_manifest()
    assert parse_manifest(manifest.to_json()) == manifest


def test_a_manifest_from_before_the_choices_decides_as_it_did():
    content = json.loads(make_manifest().to_json())
    for name in ("offsets", "smallest"):
        del content[name]
    manifest = parse_manifest(json.dumps(content))
    assert (manifest.offsets, manifest.smallest) == ((), ())


def test_a_manifest_from_before_cascades_reads_unchanged():
    content = json.loads(make_manifest().to_json())
    for name in ("previous", "region_margin"):
        del first(content)[name]
    assert parse_manifest(json.dumps(content)) == make_manifest()


def make_cascade(**changes) -> Manifest:
    """Return a manifest of two stages; `changes` are those of the second."""
    manifest = make_manifest()
    (second,) = manifest.configurations
    lowres = replace(second, name="3d_lowres", weight=0.0)
    second = replace(second, **{"previous": "3d_lowres", "region_margin": 5.0, **changes})
    return replace(manifest, configurations=(lowres, second))


def test_a_cascade_survives_json():
    manifest = make_cascade()
    assert parse_manifest(manifest.to_json()) == manifest
    assert [manifest.num_inputs(item) for item in manifest.configurations] == [1, 2]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"previous": "2d"}, "[1].previous: expected a configuration that is listed before"),
        ({"previous": "3d_fullres"}, "'3d_lowres', found '3d_fullres'"),
        ({"previous": None}, "[1].region_margin: expected none without a previous stage"),
        ({"previous": None, "region_margin": None}, "[0].weight: expected a number above 0, or 0"),
        ({"region_margin": -1.0}, "[1].region_margin: expected a number of at least 0, found -1"),
        ({"weight": 0.0}, "[1].weight: expected a number above 0"),
        ({"decision": "regions"}, "[1].previous: expected classes that exclude each other"),
    ],
)
def test_stages_that_cannot_follow_each_other_are_refused(changes, problem):
    with pytest.raises(AutosegError) as caught:
        parse_manifest(make_cascade(**changes).to_json())
    assert problem in caught.value.found


def test_stages_that_wait_for_each_other_are_refused():
    manifest = make_cascade(weight=0.5)
    first, second = manifest.configurations
    circle = (replace(first, previous=second.name, weight=0.5), second)
    with pytest.raises(AutosegError, match="listed before, of which there are none, found"):
        parse_manifest(replace(manifest, configurations=circle).to_json())


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda m: m.update(patch=1), "patch: unknown field"),
        (lambda m: m.pop("seed"), "seed: missing field"),
        (lambda m: m.update(schema_version=2), "schema_version: expected one of 1, found 2"),
        (lambda m: m.update(seed=True), "seed: expected an integer, found true"),
        (lambda m: m.update(labels=[]), "labels: expected an object with named fields, found []"),
        (
            lambda m: first(m).update(patch_size=[8, "8", 8]),
            'configurations[0].patch_size[1]: expected an integer, found "8"',
        ),
        (
            lambda m: first(m)["recipe"].update(overlap=None),
            "configurations[0].recipe.overlap: expected a finite number, found null",
        ),
        (
            lambda m: first(m)["recipe"]["channels"][0].update(scheme="pickle"),
            "configurations[0].recipe.channels[0].scheme: expected one of",
        ),
        (
            lambda m: first(m)["recipe"].pop("padding"),
            "configurations[0].recipe.padding: missing field",
        ),
        (lambda m: m.update(postprocessing=3), "postprocessing: expected a list, found 3"),
    ],
)
def test_a_wrong_field_is_refused_with_its_path(edit, problem):
    with pytest.raises(AutosegError) as caught:
        parse_manifest(change(edit))
    assert f"manifest.json: {problem}" in caught.value.found


def test_all_problems_are_told_at_once():
    with pytest.raises(AutosegError) as caught:
        parse_manifest(change(lambda m: m.update(seed="0", extra=1, unit="inch")))
    assert len(caught.value.found.splitlines()) == 3


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda m: m["labels"].update(values=[0]), "labels: expected as many names as values"),
        (lambda m: m["labels"].update(values=[0, 0]), "labels.values: expected different"),
        (lambda m: m.update(configurations=[]), "configurations: expected different names"),
        (lambda m: first(m).update(weight=0.5), "weights that sum to 1"),
        (lambda m: first(m).update(patch_size=[0, 8, 8]), "patch_size: expected"),
        (lambda m: first(m).update(patch_size=[8]), "recipe.spacing: expected"),
        (lambda m: first(m).update(spatial_multiple=[3, 4, 4]), "spatial_multiple: expected"),
        (lambda m: first(m)["recipe"].update(transpose=[0, 0, 1]), "recipe.transpose"),
        (lambda m: first(m)["recipe"].update(spacing=[0, 1, 1]), "recipe.spacing"),
        (lambda m: first(m)["recipe"].update(overlap=1), "recipe.overlap"),
        (lambda m: first(m)["recipe"].update(mirror_axes=[3]), "recipe.mirror_axes"),
        (lambda m: first(m)["recipe"]["channels"][0].update(std=0), "channels[0].std"),
        (lambda m: first(m)["recipe"]["channels"][0].update(lower=2, upper=1), "lower below"),
        (lambda m: m["postprocessing"][0].update(classes=[2]), "postprocessing[0].classes"),
        (lambda m: m.update(offsets=[0.5]), "offsets: expected none, or 2"),
        (lambda m: m.update(smallest=[{"class_index": 0, "size": 1.0}]), "smallest[0]: expected"),
        (lambda m: m.update(smallest=[{"class_index": 1, "size": 0}]), "smallest[0]: expected"),
        (lambda m: m["files"].pop(), "is not listed"),
        (lambda m: m["files"][0].update(sha256="x"), "SHA-256"),
        (lambda m: first(m).update(onnx="../other.onnx"), "names inside the artifact"),
        (lambda m: first(m).update(onnx="/etc/passwd"), "names inside the artifact"),
    ],
)
def test_nonsense_is_refused(edit, problem):
    with pytest.raises(AutosegError) as caught:
        parse_manifest(change(edit))
    assert problem in caught.value.found


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"seed": NaN}'])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(AutosegError, match=r"manifest\.json"):
        parse_manifest(text)


def test_a_folder_without_manifest_is_named(tmp_path):
    with pytest.raises(AutosegError, match=str(tmp_path)):
        load_manifest(tmp_path)


def test_a_changed_file_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    manifest = replace(make_manifest(), files=(describe_file(tmp_path, "a"),))
    assert check_file(tmp_path, manifest, "a") == tmp_path / "a"
    (tmp_path / "a").write_bytes(CONTENT[::-1])
    with pytest.raises(AutosegError, match="is not the file that was exported"):
        check_file(tmp_path, manifest, "a")
    (tmp_path / "a").unlink()
    with pytest.raises(AutosegError, match="is missing"):
        check_file(tmp_path, manifest, "a")

"""What bad input gets: one message with file, found, expected and remedy, and exit code 2."""

import json
from pathlib import Path

import numpy as np
import pytest

from autoseg.cli.main import main
from autoseg.pipeline.choices import keep_images
from autoseg.runtime.images import (
    Geometry,
    Image,
    read_image,
    read_labels,
    write_image,
    write_labels,
)
from autoseg.testing.synthetic import write_spheres
from autoseg.workspace import Workspace

GEOMETRY = Geometry((1.0, 1.0, 1.0))


@pytest.fixture
def data(tmp_path):
    return write_spheres(tmp_path / "spheres", num_cases=4, seed=0, shape=(10, 12, 14))


def refused(capsys, *arguments):
    """Run a command that must be refused, and return its message."""
    assert main([str(item) for item in arguments]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    for word in ("found:", "expected:", "fix:"):
        assert word in message
    return message


def image_of(data, case):
    return data / "imagesTr" / f"{case}_0000.nii.gz"


def labels_of(data, case):
    return data / "labelsTr" / f"{case}.nii.gz"


def remove_image(data):
    image_of(data, "case_001").unlink()


def remove_labels(data):
    labels_of(data, "case_001").unlink()


def other_shape(data):
    write_labels(labels_of(data, "case_001"), np.zeros((9, 12, 14), np.uint8), GEOMETRY)


def other_spacing(data):
    labels = read_labels(labels_of(data, "case_001")).array[0]
    write_labels(labels_of(data, "case_001"), labels, Geometry((2.0, 1.0, 1.0)))


def truncated(data):
    path = image_of(data, "case_001")
    path.write_bytes(path.read_bytes()[:-200])


def not_an_image(data):
    image_of(data, "case_001").write_bytes(b"hello")


def with_nan(data):
    image = read_image([image_of(data, "case_001")])
    array = image.array.astype(np.float32)
    array[0, 2, 3, 4] = np.nan
    write_image(image_of(data, "case_001"), Image(array, image.geometry))


def with_infinity(data):
    image = read_image([image_of(data, "case_001")])
    array = image.array.astype(np.float32)
    array[0, 2, 3, 4] = np.inf
    write_image(image_of(data, "case_001"), Image(array, image.geometry))


def undeclared_value(data):
    labels = read_labels(labels_of(data, "case_001")).array[0].copy()
    labels[0, 0, 0] = 7
    write_labels(labels_of(data, "case_001"), labels, GEOMETRY)


def fractional_labels(data):
    image = read_labels(labels_of(data, "case_001"))
    array = image.array.astype(np.float32)
    array[0, 0, 0, 0] = 0.5
    write_image(labels_of(data, "case_001"), Image(array, image.geometry))


DEFECTS = {
    remove_image: "case_001",
    remove_labels: "case_001",
    other_shape: "case_001",
    other_spacing: "case_001",
    truncated: "case_001",
    not_an_image: "case_001",
    with_nan: "NaN",
    with_infinity: "nfinit",
    undeclared_value: "7",
    fractional_labels: "0.5",
}


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_is_named_and_nothing_is_planned(defect, data, tmp_path, capsys):
    defect(data)
    message = refused(capsys, "plan", data, "-w", tmp_path / "w")
    assert "case_001" in message
    assert DEFECTS[defect] in message
    assert not (tmp_path / "w" / "plan.json").exists()


def test_all_defects_are_listed_at_once(data, tmp_path, capsys):
    with_nan(data)
    labels_of(data, "case_002").unlink()
    labels = read_labels(labels_of(data, "case_003")).array[0].copy()
    labels[0, 0, 0] = 9
    write_labels(labels_of(data, "case_003"), labels, GEOMETRY)
    message = refused(capsys, "plan", data, "-w", tmp_path / "w")
    assert all(case in message for case in ("case_001", "case_002", "case_003"))


def test_a_data_set_without_any_foreground_is_refused(data, tmp_path, capsys):
    for path in (data / "labelsTr").iterdir():
        write_labels(path, np.zeros((10, 12, 14), np.uint8), GEOMETRY)
    assert "foreground" in refused(capsys, "plan", data, "-w", tmp_path / "w")


def test_more_folds_than_cases_are_refused_when_asked_for(data, tmp_path, capsys):
    assert "4" in refused(capsys, "plan", data, "-w", tmp_path / "w", "--folds", "9")


def test_a_budget_that_training_would_refuse_is_refused_before_anything_is_read(
    data, tmp_path, capsys
):
    (data / "dataset.json").unlink()
    shown = refused(capsys, "plan", data, "-w", tmp_path / "w", "--budget", "40s")
    assert "--budget 109s or more" in shown
    assert "49 s" not in shown
    assert not (tmp_path / "w").exists()


def test_an_unknown_planner_gets_the_nearest_name(data, capsys):
    assert "'nnunet'" in refused(capsys, "plan", data, "--planner", "nnunett")


def test_an_unknown_option_gets_the_nearest_name(data, capsys):
    assert main(["plan", str(data), "--buget", "2h"]) == 2
    assert "--budget" in capsys.readouterr().err


def test_an_unknown_key_gets_the_nearest_name(data, tmp_path, capsys):
    options = ("--set", "3d_fullres.batch_sise=4")
    assert "batch_size" in refused(capsys, "plan", data, "-w", tmp_path / "w", *options)


@pytest.fixture
def planned(data, tmp_path, capsys):
    assert main(["plan", str(data), "-w", str(tmp_path / "w"), "--folds", "2"]) == 0
    capsys.readouterr()
    return tmp_path / "w"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"schema_version": 99}, "schema_version"),
        ({"num_fols": 3}, "num_fols"),
        ({"seed": "zero"}, "seed"),
        ({"configurations": "none"}, "configurations"),
    ],
)
def test_a_plan_edited_into_nonsense_names_the_place(change, word, planned, capsys):
    path = planned / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    message = refused(capsys, "train", "-w", planned)
    assert "plan.json" in message
    assert word in message


def test_numbers_of_a_plan_that_contradict_each_other_are_named(planned, capsys):
    path = planned / "plan.json"
    content = json.loads(path.read_text())
    content["configurations"][0]["batch_size"] = -2
    content["configurations"][0]["patch_size"] = [7, 7]
    path.write_text(json.dumps(content))
    message = refused(capsys, "train", "-w", planned)
    assert "batch_size is -2" in message
    assert "patch_size" in message


def test_a_plan_that_is_no_json_names_the_file(planned, capsys):
    (planned / "plan.json").write_text("{")
    assert "plan.json" in refused(capsys, "train", "-w", planned)


def test_training_without_a_workspace_says_how_to_make_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "autoseg plan" in refused(capsys, "train")


def test_a_workspace_that_is_none_is_told_and_gets_no_log(data, tmp_path, capsys):
    before = sorted(data.iterdir())
    assert "no plan.json" in refused(capsys, "train", "-w", data)
    assert "is a file" in refused(capsys, "report", "-w", data / "dataset.json")
    assert "no folder" in refused(capsys, "export", "-w", tmp_path / "gone")
    assert sorted(data.iterdir()) == before


def test_a_data_set_is_never_planned_into_itself(data, capsys):
    description = (data / "dataset.json").read_bytes()
    assert "is no workspace" in refused(capsys, "plan", data, "-w", data)
    assert (data / "dataset.json").read_bytes() == description


def test_pictures_that_were_left_out_stay_out_until_they_are_asked_for(planned, capsys):
    place = Workspace(planned)
    for option, images in (("--no-images", False), ("", False), ("--images", True), ("", True)):
        assert main(["report", "-w", str(planned), *option.split()]) == 0
        assert keep_images(place, asked=None) is images


def test_a_full_disk_while_planning_leaves_no_plan(data, tmp_path, on_full_disk):
    done = on_full_disk(900, "plan", data, "-w", tmp_path / "w")
    assert done.returncode == 2, done.stderr
    assert "free space" in done.stderr
    assert not list((tmp_path / "w").glob("plan.json"))
    assert not list(Path(tmp_path / "w").rglob("*.tmp"))


def test_an_error_is_json_for_programs(tmp_path, capsys):
    assert main(["check", str(tmp_path / "nowhere"), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "nowhere" in error["found"]
    assert error["fix"]


def test_predicting_what_is_not_there_names_it_before_anything_is_made(tmp_path, capsys):
    out = tmp_path / "out"
    message = refused(capsys, "predict", tmp_path, tmp_path / "nothere", "-o", out)
    assert "nothere" in message
    assert not out.exists()

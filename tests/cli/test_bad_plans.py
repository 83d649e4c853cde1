"""What planning cannot do: one message, and the plan that was there stays."""

import json

import numpy as np
import pytest

from autoseg.cli.main import main
from autoseg.runtime.images import Geometry, write_labels
from autoseg.testing.synthetic import write_rings, write_spheres
from autoseg.workspace import Workspace

GEOMETRY = Geometry((1.0, 1.0, 1.0))
SHAPE = (10, 12, 14)


@pytest.fixture
def data(tmp_path):
    return write_spheres(tmp_path / "spheres", num_cases=4, seed=0, shape=SHAPE)


@pytest.fixture
def plan(tmp_path, capsys):
    """Plan into one workspace, and return its exit code with what was told."""

    def run(data, *options):
        place = tmp_path / "w"
        code = main(["plan", str(data), "-w", str(place), "--device", "cpu", *options])
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return code, told.err if code else told.out

    return run


def refused(outcome):
    code, message = outcome
    assert code == 2, message
    for word in ("found:", "expected:", "fix:"):
        assert word in message
    return message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--budget", "1s"], ["budget of 1 s", "--budget 109s"]),
        (["--memory", "100MB"], ["100 MB of memory", "--memory 500MB or more"]),
        (["--ram", "100MB"], ["100 MB of memory", "--ram 500MB or more"]),
        (["--memory", "90MB", "--ram", "100MB"], ["--ram 500MB and --memory 500MB"]),
        (["--set", "2d.batch_size=2", "--set", "2d.batch_size=3"], ["leave one out"]),
        (["--set", "2d.batch_sise=2"], ["2d.batch_size=..."]),
        (["--set", "2d.batch_size=two"], ["2d.batch_size=two", "a whole number"]),
        (["--set", "2d.patch_size=11,13"], ["not divisible", "(10, 14) is"]),
        (["--set", "1d.batch_size=2"], ["no configuration 1d", "3d_fullres, 2d"]),
        (["--set", "3d_fullres.batch_size=100000"], ["GB of memory", "3d_fullres.batch_size="]),
        (["--set", "loss=focall"], ["one of", "'focal'"]),
        (
            ["--set", "3d_fullres.network.padding=valid", "--set", "3d_fullres.patch_size=8,8,8"],
            ["valid convolutions cannot take"],
        ),
        (["--planner", "nnunett"], ["'nnunet'"]),
        (["--folds", "9"], ["9", "4"]),
    ],
    ids=str,
)
def test_what_cannot_be_planned_is_told_and_the_plan_stays(data, plan, tmp_path, options, words):
    assert plan(data, "--budget", "10m")[0] == 0
    place = Workspace(tmp_path / "w")
    before = {path: path.read_bytes() for path in (place.plan, place.splits, place.fingerprint)}
    message = refused(plan(data, *options))
    assert all(word in message for word in words), message
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("option", ["--memory", "--ram"])
def test_the_memory_that_is_proposed_is_enough(data, plan, option):
    message = refused(plan(data, option, "100MB"))
    proposed = message.partition(f"{option} ")[2].split()[0]
    assert plan(data, option, proposed)[0] == 0


def test_the_budget_that_is_proposed_is_enough(data, plan):
    message = refused(plan(data, "--budget", "1s"))
    assert plan(data, "--budget", message.partition("--budget ")[2].split()[0])[0] == 0


@pytest.mark.parametrize(
    "option", ["3d_fullres.batch=2", "3d_fullres.batch_size=two", "batch_size=2", "seed=1.5"]
)
def test_settings_are_checked_before_anything_is_measured(data, plan, tmp_path, option):
    (data / "dataset.json").unlink()
    assert "--set" in refused(plan(data, "--set", option))
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("1d.batch_size=2", "no configuration 1d"),
        ("3d_fullres.patch_size=64,64", "one number for each of the 3 axes"),
        ("3d_fullres.batch_size=0", "1 or more"),
        ("lerning_rate=1e-3", "write 3d_fullres.training.peak_lr="),
        ("batch_size=2", "write 3d_fullres.batch_size=..., or with another configuration: 2d\n"),
    ],
)
def test_the_data_are_looked_at_and_not_measured_for_a_wrong_setting(
    data, plan, tmp_path, option, words
):
    assert words in refused(plan(data, "--set", option)) + "\n"
    assert not (tmp_path / "w" / "measured").exists()


def test_the_best_configuration_of_the_plan_that_is_there_is_proposed(data, plan):
    assert plan(data, "--planner", "auto")[0] == 0
    message = refused(plan(data, "--set", "batch_size=2"))
    assert "write 3d_fullres.batch_size=..., or with another configuration: 2d" in message


def test_the_batch_that_is_proposed_fits(data, plan):
    message = refused(plan(data, "--set", "3d_fullres.batch_size=100000"))
    proposed = message.partition("--set 3d_fullres.batch_size=")[2].split()[0]
    assert plan(data, "--set", f"3d_fullres.batch_size={proposed}")[0] == 0


def test_one_case_is_too_few(data, plan):
    for index in (1, 2, 3):
        (data / "imagesTr" / f"case_00{index}_0000.nii.gz").unlink()
        (data / "labelsTr" / f"case_00{index}.nii.gz").unlink()
    message = refused(plan(data))
    assert "found: 1 case\n" in message


def test_one_class_in_one_case_is_planned_with_a_finding(data, plan):
    for index in (1, 2, 3):
        path = data / "labelsTr" / f"case_00{index}.nii.gz"
        write_labels(path, np.zeros(SHAPE, np.uint8), GEOMETRY)
    code, told = plan(data, "--planner", "nnunet")
    assert code == 0, told
    assert "in 1 of 4 cases" in told or "1 case" in told


def four_dimensional(path):
    """Write a NIfTI image with a fourth axis of time."""
    import SimpleITK as sitk

    volumes = [sitk.GetImageFromArray(np.ones(SHAPE, np.float32)) for _ in range(3)]
    sitk.WriteImage(sitk.JoinSeries(volumes), str(path))


def test_images_of_four_axes_are_named(data, plan):
    four_dimensional(data / "imagesTr" / "case_001_0000.nii.gz")
    message = refused(plan(data))
    assert "case_001" in message
    assert "4" in message


def patch_header(path, offset, values):
    """Overwrite numbers in the header of a compressed NIfTI file."""
    import gzip

    content = bytearray(gzip.decompress(path.read_bytes()))
    content[offset : offset + 4 * len(values)] = np.array(values, "<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


PIXDIM = 76 + 4
"""Offset of the spacings in the header of a NIfTI-1 file."""


@pytest.mark.parametrize("spacing", [(0.0, 0.0, 0.0), (0.0, 1.0, 1.0), (np.nan, 1.0, 1.0)])
def test_a_spacing_of_zero_is_named_with_its_file(data, plan, spacing):
    for path in (
        data / "imagesTr" / "case_001_0000.nii.gz",
        data / "labelsTr" / "case_001.nii.gz",
    ):
        patch_header(path, PIXDIM, spacing)
    code, told = plan(data)
    assert code == 2, told
    assert "case_001" in told
    assert "spacing" in told


def test_pictures_without_a_spacing_are_planned_in_pixels(tmp_path, plan):
    code, told = plan(write_rings(tmp_path / "rings", num_cases=3, seed=0))
    assert code == 0, told
    assert "1 x 1 pixel" in told


def fingerprint_with(plan, data, tmp_path, **changes):
    """Return the fingerprint of a data set with other facts about its first case."""
    assert plan(data)[0] == 0
    content = json.loads((tmp_path / "w" / "fingerprint.json").read_text())
    content["cases"][0] |= changes
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spacing": [0.0, 1.0, 1.0]}, "spacing"),
        ({"spacing": [-1.0, 1.0, 1.0]}, "spacing"),
        ({"spacing": [1.0, 1.0]}, "spacing"),
        ({"spacing": []}, "spacing"),
        ({"shape_after_crop": [0, 4, 4]}, "shape_after_crop"),
        (
            {
                "shape": [2, 10, 12, 14],
                "shape_after_crop": [2, 10, 12, 14],
                "spacing": [1.0, 1.0, 1.0, 1.0],
            },
            "axes",
        ),
    ],
    ids=str,
)
def test_a_fingerprint_that_no_planner_can_read_is_told(
    data, plan, tmp_path, capsys, changes, words
):
    path = fingerprint_with(plan, data, tmp_path, **changes)
    assert main(["plan", "--fingerprint", str(path)]) == 2
    message = capsys.readouterr().err
    for word in ("found:", "expected:", "fix:", words, "changed.json"):
        assert word in message, message


def test_a_fingerprint_without_cases_is_told(data, plan, tmp_path, capsys):
    path = fingerprint_with(plan, data, tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cases": []}))
    assert main(["plan", "--fingerprint", str(path)]) == 2
    assert "no cases" in capsys.readouterr().err


def test_one_case_alone_has_no_fold_but_can_be_planned_from_its_fingerprint(
    data, plan, tmp_path, capsys
):
    path = fingerprint_with(plan, data, tmp_path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"cases": content["cases"][:1]}))
    assert main(["plan", "--fingerprint", str(path), "--device", "cpu"]) == 0
    assert "3d_fullres" in capsys.readouterr().out

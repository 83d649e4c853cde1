import json

import pytest

from autoseg.cli.main import main
from autoseg.errors import AutosegError, PlanError
from autoseg.evaluate.scores import CaseScore, ClassScore
from autoseg.pipeline.evidence import read_evidence
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.plan.plan import Plan
from autoseg.train.records import FoldResult

LOOKS = [(0.125, 0.1), (0.5, 0.6), (0.75, 0.7), (0.875, 0.75)]
LABELS = ("background", "sphere")


def score(case_id, dice):
    found = ClassScore(
        dice=dice, iou=None, hd95=None, nsd=None, predicted_voxels=1, reference_voxels=1
    )
    return CaseScore(case_id=case_id, classes=(found,))


def finish(workspace, fold, dice, train_dice=(0.95,)):
    """Write what a finished fold leaves."""
    folder = workspace.fold("3d_fullres", fold)
    folder.root.mkdir(parents=True)
    result = FoldResult(
        autoseg_version="0",
        plan_digest="0",
        configuration="3d_fullres",
        fold=fold,
        seed=0,
        num_steps=1000,
        train_seconds=1.0,
        validation_seconds=1.0,
        scores=tuple(score(f"case {index}", value) for index, value in enumerate(dice)),
        train_dice=train_dice,
    )
    folder.result.write_text(result.to_json(), "utf-8")
    lines = [{"step": 10, "num_steps": 1000, "loss": 1.0}]
    lines += [{"step": 1000 * part, "num_steps": 1000, "dice": value} for part, value in LOOKS]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


@pytest.fixture
def labels(own_place):
    return Plan.load(own_place.plan).labels.names


def test_a_run_tells_the_gap_and_what_its_second_half_gained(own_place, labels):
    finish(own_place, "0", [0.8, 0.6, None])
    finish(own_place, "1", [0.5])
    found = read_evidence(own_place.root, labels)
    (item,) = found.configurations
    assert (item.name, item.folds, found.num_dropped) == ("3d_fullres", ("0", "1"), 0)
    assert item.validation_dice == pytest.approx(0.6)
    assert item.gap == pytest.approx(0.35)
    assert item.late_gain == pytest.approx(0.15)
    assert (
        item.width
        == Plan.load(own_place.plan).configuration("3d_fullres").network.stages[0].features
    )


def test_what_earlier_versions_did_not_record_stays_unknown(own_place, labels):
    finish(own_place, "0", [0.8], train_dice=())
    own_place.fold("3d_fullres", "0").metrics.unlink()
    (item,) = read_evidence(own_place.root, labels).configurations
    assert (item.train_dice, item.gap, item.late_gain) == (None, None, None)


def test_folds_that_are_missing_were_dropped(own_place, labels):
    finish(own_place, "0", [0.8])
    assert read_evidence(own_place.root, labels).num_dropped == 1


def test_a_run_without_a_finished_fold_is_refused(own_place, labels):
    with pytest.raises(PlanError, match="no fold of it is finished") as refused:
        read_evidence(own_place.root, labels)
    assert f"autoseg train -w {own_place.root}" in str(refused.value)


def test_a_run_on_other_classes_is_refused(own_place):
    finish(own_place, "0", [0.8])
    with pytest.raises(PlanError, match="classes background"):
        read_evidence(own_place.root, ("background", "nucleus"))


def test_a_folder_without_a_plan_is_refused(tmp_path):
    with pytest.raises(AutosegError, match=r"no file .*plan\.json"):
        read_evidence(tmp_path, LABELS)


def test_metrics_that_are_no_lines_of_json_are_refused(own_place, labels):
    finish(own_place, "0", [0.8])
    own_place.fold("3d_fullres", "0").metrics.write_text("{", "utf-8")
    with pytest.raises(AutosegError, match=r"metrics\.jsonl cannot be read"):
        read_evidence(own_place.root, labels)


def test_a_plan_after_a_run_says_what_bounded_it(own_place, tmp_path):
    finish(own_place, "0", [0.5])
    options = PlanOptions(
        dataset=tmp_path / "spheres",
        workspace=tmp_path / "next.autoseg",
        device="cpu",
        num_folds=2,
        after=own_place.root,
    )
    decisions = {item.name: item for item in make_plan(options).plan.decisions}
    assert decisions["3d_fullres.after"].value == "bounded by data"


def test_the_command_refuses_a_workspace_that_is_not_there(own_place, tmp_path, capsys):
    words = ["plan", str(tmp_path / "spheres"), "--after", str(tmp_path / "absent")]
    assert main([*words, "-w", str(tmp_path / "new.autoseg"), "--folds", "2"]) == 2
    assert "absent" in capsys.readouterr().err
    assert not (tmp_path / "new.autoseg" / "plan.json").exists()

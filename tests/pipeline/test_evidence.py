import json

import pytest

from autoseg.cli.main import main
from autoseg.errors import AutosegError, PlanError
from autoseg.evaluate.scores import CaseScore, ClassScore
from autoseg.pipeline.evidence import read_evidence
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.plan.plan import Plan
from autoseg.train.records import AnnealedEnd, FoldResult, Request

LOOKS = [(0.125, 0.1), (0.5, 0.6), (0.75, 0.7), (0.875, 0.75)]
LABELS = ("background", "sphere")


def score(case_id, dice):
    found = ClassScore(
        dice=dice, iou=None, hd95=None, nsd=None, predicted_voxels=1, reference_voxels=1
    )
    return CaseScore(case_id=case_id, classes=(found,))


def finish(workspace, fold, dice, train_dice=(0.95,), request=None):
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
        request=request,
    )
    folder.result.write_text(result.to_json(), "utf-8")
    lines = [{"step": 10, "num_steps": 1000, "loss": 1.0}]
    lines += [{"step": 1000 * part, "num_steps": 1000, "dice": value} for part, value in LOOKS]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


@pytest.fixture
def labels(own_place):
    """Return the classes of a plan that trains 3d_fullres alone."""
    plan = Plan.load(own_place.plan)
    trained = tuple(
        item.revised(train_by_default=item.name == "3d_fullres") for item in plan.configurations
    )
    own_place.plan.write_text(plan.revised(configurations=trained).to_json(), "utf-8")
    return plan.labels.names


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


def test_folds_for_which_there_was_no_time_were_dropped(own_place, labels):
    finish(own_place, "0", [0.8])
    line = {"event": "dropped", "configuration": "3d_fullres", "fold": "1"}
    own_place.events.write_text(json.dumps(line) + "\n", "utf-8")
    found = read_evidence(own_place.root, labels)
    assert (found.num_dropped, found.configurations[0].ended_by) == (1, "budget")
    finish(own_place, "1", [0.8])
    assert read_evidence(own_place.root, labels).num_dropped == 0


def test_folds_that_nobody_asked_for_were_not_dropped(own_place, labels):
    finish(own_place, "0", [0.8])
    found = read_evidence(own_place.root, labels)
    assert (found.num_dropped, found.configurations[0].ended_by) == (0, "choice")


@pytest.mark.parametrize(
    ("request_", "ended_by", "budget_s"),
    [
        (Request(num_steps=20, budget_s=None, is_explicit=True), "steps", None),
        (Request(num_steps=250_000, budget_s=None, is_explicit=False), "budget", None),
        (Request(num_steps=None, budget_s=600.0, is_explicit=True), "budget", 600.0),
        (None, "budget", None),
    ],
)
def test_a_run_tells_what_ended_it(own_place, labels, request_, ended_by, budget_s):
    for fold in ("0", "1"):
        finish(own_place, fold, [0.8], request=request_)
    (item,) = read_evidence(own_place.root, labels).configurations
    assert (item.ended_by, item.budget_s) == (ended_by, budget_s)


def test_a_run_that_ended_at_a_plateau_says_so(own_place, labels):
    for fold in ("0", "1"):
        finish(own_place, fold, [0.8])
        path = own_place.fold("3d_fullres", fold).result
        end = AnnealedEnd(
            step=100,
            num_steps=120,
            cases=("case 0",),
            case_dice=(0.8,),
            class_dice=(0.8,),
            is_plateau=True,
            elapsed_s=1.0,
        )
        path.write_text(FoldResult.load(path).revised(ends=(end,)).to_json(), "utf-8")
    (item,) = read_evidence(own_place.root, labels).configurations
    assert item.ended_by == "plateau"


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


def test_a_line_of_metrics_that_was_cut_short_is_passed_over(own_place, labels):
    finish(own_place, "0", [0.8])
    before = read_evidence(own_place.root, labels)
    with own_place.fold("3d_fullres", "0").metrics.open("a", encoding="utf-8") as file:
        file.write('{"step": 1, "di')
    assert read_evidence(own_place.root, labels) == before


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


@pytest.mark.parametrize(
    ("steps", "budget_s"), [(None, 4 * 3600.0), (20, None)], ids=["default", "steps"]
)
def test_a_longer_budget_is_in_the_plan_and_called_so(own_place, labels, tmp_path, steps, budget_s):
    asked = Request(
        num_steps=steps, budget_s=None if steps else 7200.0, is_explicit=steps is not None
    )
    for fold in ("0", "1"):
        finish(own_place, fold, [0.9], request=asked)
    options = PlanOptions(
        dataset=tmp_path / "spheres",
        workspace=tmp_path / "next.autoseg",
        device="cpu",
        num_folds=2,
        after=own_place.root,
    )
    plan = make_plan(options).plan
    decisions = {item.name: item for item in plan.decisions}
    assert plan.budget_s == budget_s
    assert ("default" in decisions["time of a fold"].reason) == (budget_s is None)
    if budget_s is not None:
        assert decisions["budget"].value == "4 h 00 min"
        assert "Twice the 2 h 00 min" in decisions["budget"].reason


def test_the_command_refuses_a_workspace_that_is_not_there(own_place, tmp_path, capsys):
    words = ["plan", str(tmp_path / "spheres"), "--after", str(tmp_path / "absent")]
    assert main([*words, "-w", str(tmp_path / "new.autoseg"), "--folds", "2"]) == 2
    assert "absent" in capsys.readouterr().err
    assert not (tmp_path / "new.autoseg" / "plan.json").exists()

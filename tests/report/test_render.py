"""The report at every stage, whatever a case is called."""

import hashlib
import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from autoseg.dataset.dataset import Dataset
from autoseg.ensemble.choose import Ensemble
from autoseg.ensemble.postprocessing import PostprocessingChoice
from autoseg.ensemble.tried import Tried
from autoseg.errors import AutosegError, WorkspaceError
from autoseg.report import results
from autoseg.report.contents import read_contents
from autoseg.report.render import render_report
from autoseg.report.text import duration
from autoseg.runtime.recipe import KeepLargest, Region
from autoseg.train.records import AnnealedEnd, FoldResult, Request, RunSettings
from autoseg.workspace import Workspace, append_line, write_text


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self._open = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def sections(self):
        return [attributes["id"] for attributes in self.all("section")]


def page_of(workspace, **options):
    return Page(render_report(workspace, **options).read_text(encoding="utf-8"))


@pytest.fixture
def copied(finished, tmp_path):
    """A finished workspace that may be changed."""
    return Workspace(shutil.copytree(finished.root, tmp_path / "spheres.autoseg"))


def test_plan_alone_gives_data_findings_and_plan(plan_workspace, workspace):
    plan_workspace()
    page = page_of(workspace)
    assert page.sections == ["data", "findings", "plan", "cost", "reproduce"]
    text = " ".join(page.text)
    assert "class <b>rare</b> is in 2 cases" in text
    assert not page.all("img")
    assert "autoseg train" in text


def test_every_decision_is_shown_with_its_reason(plan_workspace, workspace):
    _, plan = plan_workspace()
    text = "".join(page_of(workspace).text).replace("\u200b", "")
    for decision in plan.decisions:
        assert decision.name in text
        assert decision.reason in text


def test_training_that_has_begun_is_shown(plan_workspace, workspace, write_settings):
    _, plan = plan_workspace()
    write_settings(plan, workspace, plan.configurations[0].name, 0)
    with workspace.fold(plan.configurations[0].name, "0").metrics.open("a") as file:
        file.write('{"step": 510, "lo')  # being written
    page = page_of(workspace)
    assert "training" in page.sections
    assert "results" not in page.sections
    assert page.all("svg")


def test_speed_is_measured_of_a_finished_fold_and_not_shown_where_nothing_is_known(
    plan_workspace, workspace, train_fold
):
    dataset, plan = plan_workspace()
    name = plan.configurations[0].name
    for fold in (0, 1):
        train_fold(dataset, plan, workspace, name, fold)
    folder = workspace.fold(name, "1")
    folder.result.unlink()
    given = RunSettings.load(folder.settings).revised(seconds_per_step=0.0)
    folder.settings.write_text(given.to_json())
    first, second = read_contents(workspace).folds
    assert results.seconds_per_step(first) == (431.0 / 500, "measured")
    assert results.seconds_per_step(second) is None
    text = " ".join(page_of(workspace).text)
    assert text.count("0.86 s") == 1, "a step's time stands in one place, beside the expected one"
    assert "0.86 s in this run" in text


def test_the_time_at_the_top_says_what_it_counts(plan_workspace, workspace, train_fold):
    dataset, plan = plan_workspace()
    for fold, words in ((0, "of 1 finished fold "), (1, "of 2 finished folds ")):
        train_fold(dataset, plan, workspace, plan.configurations[0].name, fold)
        assert f"and validation {words}" in " ".join(page_of(workspace, images=False).text) + " "


def asked(workspace, plan, **request):
    """Let the first fold be one that was trained as a command has asked."""
    folder = workspace.fold(plan.configurations[0].name, "0")
    wanted = Request(is_explicit=True, **{"num_steps": None, "budget_s": None, **request})
    for kind, path in ((RunSettings, folder.settings), (FoldResult, folder.result)):
        path.write_text(kind.load(path).revised(request=wanted).to_json())


def test_a_run_of_given_steps_shows_no_planned_hours(plan_workspace, workspace, train_fold):
    dataset, plan = plan_workspace()
    item = plan.configurations[0]
    train_fold(dataset, plan, workspace, item.name, 0)
    planned = f"{duration(item.cost.train_seconds)} "
    cost = page_of(workspace, images=False).text
    assert planned in " ".join(cost)
    asked(workspace, plan, num_steps=20)
    shown = " ".join(page_of(workspace, images=False).text)
    assert f"{duration(20 * item.cost.step_seconds)} for the 20 steps asked for" in shown
    told = "Expected by the plan, before training; this run was asked for 20 steps instead."
    assert f"{told} Of these, hardly anything could be expected." in shown
    asked(workspace, plan, budget_s=300.0)
    shown = " ".join(page_of(workspace, images=False).text)
    assert "– a budget of 300 s was asked for" in shown  # noqa: RUF001


def test_a_run_as_planned_has_the_plans_expectation_labelled(plan_workspace, workspace):
    plan_workspace()
    shown = " ".join(page_of(workspace, images=False).text)
    assert "Expected by the plan, before training." in shown
    assert "was asked for" not in shown


def test_a_fold_that_stopped_at_a_plateau_says_so_with_its_numbers(
    plan_workspace, workspace, train_fold
):
    dataset, plan = plan_workspace()
    name = plan.configurations[0].name
    result = train_fold(dataset, plan, workspace, name, 0)
    assert results.plateau_words(result, 500) is None
    ends = tuple(
        AnnealedEnd(
            step=step,
            num_steps=step + step // 5,
            cases=("a", "b"),
            case_dice=(dice, dice),
            class_dice=(dice,),
            gain=gain,
            noise=noise,
            is_plateau=is_plateau,
            elapsed_s=1.0,
        )
        for step, dice, gain, noise, is_plateau in (
            (50, 0.88, None, None, False),
            (100, 0.881, 0.001, 0.0005, True),
        )
    )
    result = result.revised(num_steps=120, ends=ends)
    write_text(workspace.fold(name, "0").result, result.to_json())
    text = " ".join(page_of(workspace).text)
    assert "Fold 0 stopped at a plateau after 120 steps of 500 planned" in text
    assert "annealed after 60 steps its mean Dice was 0.8800" in text
    assert "gain +0.0010, standard error 0.0005" in text
    assert "the score is selected" in text


def test_dropped_folds_are_named_until_they_are_trained(plan_workspace, workspace, train_fold):
    dataset, plan = plan_workspace()
    name = plan.configurations[0].name
    for fold in ("0", "1"):
        line = {"event": "dropped", "configuration": name, "fold": fold}
        append_line(workspace.events, line)
    append_line(workspace.events, {"event": "dropped", "configuration": "gone", "fold": "0"})
    append_line(workspace.events, {"event": "restarted", "configuration": name, "fold": "all"})
    train_fold(dataset, plan, workspace, name, 0)
    text = " ".join(page_of(workspace).text)
    assert f"The budget was too short for {name} fold 1: it has no result" in text


def test_what_bounded_the_speed_of_each_fold_is_told_with_what_helps(
    plan_workspace, workspace, train_fold
):
    dataset, plan = plan_workspace()
    name = plan.configurations[0].name
    for fold, waiting in ((0, 0.3), (1, 0.01)):
        train_fold(dataset, plan, workspace, name, fold)
        path = workspace.fold(name, str(fold)).metrics
        path.write_text("")
        for step in (1, 2):
            append_line(path, {"step": step, "seconds": float(step), "waiting": waiting})
    text = " ".join(page_of(workspace, images=False).text)
    assert "data 30 % waiting for data" in text
    assert "compute 1 % waiting for data" in text
    assert "Fold 0: data bounded the speed. More processor cores" in text
    assert "Fold 1: compute bounded the speed. Only a faster device" in text


def test_what_went_wrong_is_told_with_what_helps(plan_workspace, workspace, train_fold):
    dataset, plan = plan_workspace()
    name = plan.configurations[0].name
    train_fold(dataset, plan, workspace, name, 0)
    folder = workspace.fold(name, "0")
    lost = {"kind": "class lost", "subject": "<b>", "step": 40, "found": "class <b> has been lost"}
    append_line(folder.events, {"event": "trouble", **lost, "fix": "plan with a lower rate"})
    back = {"step": 60, "to_step": 52, "lr_factor": 0.5, "found": "the loss is no number"}
    append_line(folder.events, {"event": "rolled back", **back})
    append_line(folder.events, {"event": "revised", "step": 70, "num_steps": 90})
    text = " ".join(page_of(workspace).text)
    assert "Class <b> has been lost: plan with a lower rate." in text
    assert "The loss is no number: the run went back to step 52, with 0.5 times" in text


def test_model_says_whether_it_holds_a_real_image_and_on_what_it_was_checked(copied):
    def shown():
        return " ".join(page_of(copied, images=False).text)

    assert "no image of the data set is inside" in shown()
    assert "on real validation cases" in shown()
    path = copied.model / "manifest.json"
    content = json.loads(path.read_text())
    content["verification"]["kind"] = "real"
    content["configurations"][0]["parity"][0]["cases"] = "training"
    path.write_text(json.dumps(content))
    assert "contains a real image" in shown()
    assert "on real training cases" in shown()


def test_some_folds_give_results_without_a_model(plan_workspace, workspace, train_fold):
    dataset, plan = plan_workspace()
    train_fold(dataset, plan, workspace, plan.configurations[0].name, 1)
    page = page_of(workspace)
    assert {"results", "cases", "pictures", "training"} <= set(page.sections)
    assert not {"choices", "model"} & set(page.sections)
    assert len(page.all("img")) == 3


def test_finished_workspace_has_every_section(finished, tmp_path):
    page = page_of(finished)
    assert page.sections == [
        *("results", "cases", "pictures", "choices", "model", "data", "findings", "plan"),
        *("training", "cost", "reproduce"),
    ]
    links = [item["href"] for item in page.all("a")]
    assert [link for link in links if link.startswith("#")] == [f"#{s}" for s in page.sections]
    assert [link for link in links if not link.startswith("#")] == ["model.zip"]
    text = " ".join(page.text)
    assert hashlib.sha256(b"zipped" * 5000).hexdigest() in text
    assert "30.0 kB" in text
    assert "99.998 %" in text
    assert "autoseg train -w spheres.autoseg" in text


def test_what_was_tried_without_training_is_told_with_its_honest_gain(copied):
    tried = Tried(
        name="thresholds",
        planned="as planned",
        best="<ball> from a probability of 0.40",
        num_cases=12,
        before=0.8,
        in_sample=0.83,
        cross_fitted=0.8125,
        p_value=0.012,
        used=True,
        reason="It helps.",
    )
    path = copied.postprocessing
    kept = tried.revised(name="smallest object", best="as planned", used=False)
    path.write_text(PostprocessingChoice.load(path).revised(tried=(tried, kept)).to_json())
    text = " ".join(" ".join(page_of(copied, images=False).text).split())
    assert "What needs no training again" in text
    assert "<ball> from a probability of 0.40 12 0.8000 0.8300 0.8125 +0.0125 0.012 used" in text
    assert "0.012 kept as planned" in text


def test_scores_of_a_model_that_predicts_otherwise_are_said_to_be_as_planned(copied):
    told = "predicted as planned; the model predicts with another mirroring or tile overlap"
    assert told not in " ".join(" ".join(page_of(copied, images=False).text).split())
    ensemble = Ensemble.load(copied.ensemble)
    members = tuple(item.revised(overlap=0.625) for item in ensemble.members)
    copied.ensemble.write_text(ensemble.revised(members=members).to_json())
    assert told in " ".join(" ".join(page_of(copied, images=False).text).split())


def test_the_dice_with_post_processing_stands_beside_the_headline(copied):
    path = copied.postprocessing
    choice = PostprocessingChoice.load(path).revised(
        steps=(KeepLargest(classes=(1,)),), dice_cross_fitted=0.87654
    )
    path.write_text(choice.to_json())
    text = " ".join(" ".join(page_of(copied, images=False).text).split())
    assert "With post-processing 0.877" in text
    assert "Mean with post-processing" in text
    path.write_text(choice.revised(steps=()).to_json())
    text = " ".join(page_of(copied, images=False).text)
    assert "With post-processing" not in text
    assert "Mean with post-processing" not in text


def test_regions_have_rows_of_their_own(plan_workspace, workspace, train_fold):
    dataset, plan = plan_workspace()
    region = Region(name="whole <b>", classes=(1, 2))
    plan = plan.revised(labels=replace(plan.labels, regions=(region,)))
    write_text(workspace.plan, plan.to_json())
    train_fold(dataset, plan, workspace, plan.configurations[0].name, 0)
    text = " ".join(page_of(workspace, images=False).text)
    assert "whole <b>" in text
    assert "Mean of regions" in text


def test_nothing_is_fetched_from_anywhere(finished):
    html = render_report(finished).read_text(encoding="utf-8")
    page = Page(html)
    assert "http:" not in html.replace("http-equiv", "")
    assert "https:" not in html
    assert all(item["src"].startswith("data:image/") for item in page.all("img"))
    assert [item["href"] for item in page.all("link")] == ["data:,"]
    assert "@import" not in html
    policy = next(item["content"] for item in page.all("meta") if "http-equiv" in item)
    assert policy.startswith("default-src 'none'")


def test_report_is_small_and_the_same_every_time(finished):
    first = render_report(finished).read_bytes()
    assert len(first) < 500_000
    assert render_report(finished).read_bytes() == first


def test_no_images_leaves_out_every_picture(finished):
    page = page_of(finished, images=False)
    assert not page.all("img")
    assert "pictures" not in page.sections
    assert page.all("svg")


def test_strange_names_are_text_and_never_markup(spheres, workspace, planned, train_fold):
    strange = ("<script>alert(1)<script>", "Übung mit Leerzeichen", "$a_b$ &amp; \"q\" 'p'")
    for index, name in enumerate(strange):
        for path in spheres.glob(f"*/case_{index:03d}*"):
            path.rename(path.with_name(path.name.replace(f"case_{index:03d}", name)))
    description = json.loads((spheres / "dataset.json").read_text())
    description["labels"] = {"background": 0, "<img src=x onerror=alert(2)>": 1, "$x_1$": 2}
    (spheres / "dataset.json").write_text(json.dumps(description))
    dataset, plan = planned(spheres, workspace, 2)
    for fold in range(2):
        train_fold(dataset, plan, workspace, plan.configurations[0].name, fold)
    page = page_of(workspace)
    assert len(page.all("script")) == 1
    assert not any("onerror" in item for _, item in page.elements)
    text = " ".join(page.text)
    for name in strange:
        assert name in text
    assert "<img src=x onerror=alert(2)>" in text
    assert "$x_1$" in text


def test_results_of_another_plan_are_left_out(copied):
    other = "0" * 64
    for path in copied.training.glob("*/fold_*/result.json"):
        write_text(path, FoldResult.load(path).revised(plan_digest=other).to_json())
    assert "results" not in page_of(copied).sections


def test_model_trained_on_all_cases_says_that_it_has_no_score(plan_workspace, workspace):
    _, plan = plan_workspace()
    result = FoldResult(
        autoseg_version="0.1.0",
        plan_digest=plan.digest(),
        configuration=plan.configurations[0].name,
        fold="all",
        seed=0,
        num_steps=10,
        train_seconds=1.0,
        validation_seconds=0.0,
        scores=(),
    )
    write_text(workspace.fold(result.configuration, "all").result, result.to_json())
    page = page_of(workspace)
    assert "no case is left to score it" in " ".join(page.text)
    assert "cases" not in page.sections


def test_images_that_are_gone_are_left_out(copied, tmp_path):
    record = json.loads(copied.dataset.read_text())
    record["root"] = str(tmp_path / "moved away")
    copied.dataset.write_text(json.dumps(record))
    page = page_of(copied)
    assert not page.all("img")
    assert "results" in page.sections


def test_empty_folder_has_nothing_to_report(tmp_path):
    with pytest.raises(WorkspaceError, match="nothing to report"):
        render_report(Workspace(tmp_path))


def test_record_edited_into_nonsense_is_an_error_that_names_it(copied):
    copied.plan.write_text("{}")
    with pytest.raises(AutosegError, match=r"plan\.json"):
        render_report(copied)


def test_the_layout_is_named_as_it_was_found(copied):
    dataset = Dataset.load(copied.dataset).revised(layout="class_folders")
    write_text(copied.dataset, dataset.to_json())
    assert "<dt>Layout</dt><dd>class folders" in render_report(copied).read_text(encoding="utf-8")

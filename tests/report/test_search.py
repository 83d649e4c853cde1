"""The section about a search."""

import pytest

from autoseg.evaluate.candidates import INCUMBENT, HeldOutScore, decide
from autoseg.plan.plan import Decision
from autoseg.plan.search import DECISION, SearchSummary, TrialRow, optimism_words
from autoseg.report.render import render_report
from autoseg.report.search import search_results, typed
from autoseg.seeds import stream
from autoseg.workspace import write_text

TRIALS = (
    TrialRow(
        number=0, state="complete", assignments={}, score=0.81, seconds=61.0, steps=400, reason=""
    ),
    TrialRow(
        number=1,
        state="killed",
        assignments={"2d.training.peak_lr": "0.03"},
        score=0.42,
        seconds=12.0,
        steps=80,
        reason="after a third of its steps it was far behind",
    ),
    TrialRow(
        number=2,
        state="failed",
        assignments={"loss": '"focal"'},
        score=None,
        seconds=3.0,
        steps=10,
        reason="the loss is <b>not a number</b>",
    ),
    TrialRow(
        number=3,
        state="infeasible",
        assignments={},
        score=None,
        seconds=0.0,
        steps=None,
        reason="it needs 9 % more memory than there is",
    ),
    TrialRow(
        number=4,
        state="complete",
        assignments={"loss": '"dice_topk"', "2d.batch_size": "4"},
        score=0.86,
        seconds=64.0,
        steps=400,
        reason="",
    ),
    TrialRow(
        number=5,
        state="complete",
        assignments={"2d.training.peak_lr": "0.004"},
        differs="learning_rate 1.33",
        score=0.83,
        seconds=60.0,
        steps=400,
        reason="",
    ),
)


def held_out(gain):
    rng = stream(0, "held out")
    return tuple(
        HeldOutScore(
            candidate=name,
            fold=str(fold),
            seed=seed,
            case=f"{fold} {case}",
            dice=0.8 + more + float(rng.normal(0, 0.01)),
        )
        for name, more in ((INCUMBENT, 0.0), ("trial 4", gain), ("trial 5", -0.01))
        for fold in (1, 2)
        for seed in (1, 2)
        for case in range(10)
    )


def summary_of(plan, gain=0.0, **changes):
    scores = held_out(gain)
    verdict = decide(scores, 0)
    summary = SearchSummary(
        autoseg_version="0.1.0",
        planner=plan.planner,
        plan_digest=plan.digest(),
        study="search/study.journal",
        seconds=1500.0,
        budget_s=1800.0,
        search_folds=("0",),
        confirm_folds=("1", "2"),
        trials=TRIALS,
        importances={"loss": 0.2, "2d.training.peak_lr": 0.8},
        scores=scores,
        verdict=verdict,
        reason=verdict.reason,
        optimism=0.0412,
        applied=("loss=dice_topk",) if verdict.winner else (),
    )
    return summary.revised(**changes)


@pytest.fixture
def shown(plan_workspace, workspace):
    """Returns the report of a workspace with a search."""
    _, plan = plan_workspace()

    def show(**changes):
        write_text(workspace.search_summary, summary_of(plan, **changes).to_json())
        return render_report(workspace).read_text(encoding="utf-8")

    return show


def test_every_trial_is_shown_with_its_reason_and_what_differs(shown):
    html = shown()
    assert '<section id="search">' in html
    assert "after a third of its steps it was far behind" in html
    assert "the loss is &lt;b&gt;not a number&lt;/b&gt;" in html
    assert "2d.batch_size=4, loss=dice_topk" in html
    assert "nothing: the plan as it is" in html
    assert "learning_rate 1.33" in html
    assert "peak_lr=0.004" not in html


def test_plan_that_was_not_beaten_stays_in_words(shown):
    html = shown()
    assert "The rules were not beaten" in html
    assert "the plan stays" in html
    assert "--set" not in html.split('<section id="search">')[1].split("</section>")[0]


def test_winner_is_shown_with_its_words_and_interval(shown):
    html = shown(gain=0.1)
    assert "Trial 4 replaces the plan" in html
    assert "--set loss=dice_topk" in html
    assert ">better<" in html


def test_optimism_is_named_and_explained(shown):
    assert "+0.0412 Dice" in shown()
    assert "partly by luck" in shown()
    assert "Optimism" not in shown(optimism=None)
    words = optimism_words(-0.01)
    assert "did not flatter its best trial but underrated it by 0.0100" in words


def test_search_that_is_not_finished_has_no_finalists(shown):
    html = shown(verdict=None, scores=(), optimism=None, reason="The search is not finished.")
    assert "The search is not finished." in html
    assert "Finalists" not in html


def test_search_without_any_score_is_shown(shown):
    assert "no score" in shown(trials=TRIALS[2:4], verdict=None, scores=(), importances={})
    assert '<section id="search">' in shown(trials=(), verdict=None, scores=(), importances={})


def test_search_of_another_plan_is_left_out(shown, plan_workspace, workspace):
    assert '<section id="search">' not in shown(plan_digest="0" * 64)
    plan = type(plan_workspace()[1]).load(workspace.plan)
    decided = Decision(name=DECISION, value="no change", rule="decide", inputs={}, reason="")
    write_text(workspace.plan, plan.revised(decisions=(*plan.decisions, decided)).to_json())
    assert '<section id="search">' in render_report(workspace).read_text(encoding="utf-8")


def test_finalist_that_equals_the_plan_is_drawn(shown):
    scores = [item.revised(dice=0.8) for item in held_out(0.0)]
    assert "same scores" in shown(
        scores=tuple(scores), verdict=decide(scores, 0), reason=decide(scores, 0).reason
    )


def test_report_of_a_search_asks_for_nothing_from_elsewhere(shown):
    html = shown()
    assert "http" not in html.split('<section id="search">')[1].split("</section>")[0]


def test_texts_lose_the_quotes_of_json():
    assert typed({"a": '"b"', "c": "[1, 2]", "d": "plain"}) == ("a=b", "c=[1, 2]", "d=plain")


def test_largest_importance_comes_first(plan_workspace):
    found = search_results(summary_of(plan_workspace()[1])).importances
    assert [name for name, _ in found] == ["2d.training.peak_lr", "loss"]

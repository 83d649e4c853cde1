"""A search on synthetic data from the command line, killed in the middle."""

import json
import signal
import subprocess
import sys
import time

import pytest

from autoseg.plan.plan import Plan
from autoseg.plan.search import SearchSummary
from autoseg.testing.synthetic import write_rings
from autoseg.workspace import Workspace

pytestmark = pytest.mark.slow

RUN = [sys.executable, "-c", "from autoseg.cli.main import main; raise SystemExit(main())"]
NUM_TRIALS, STEPS = 3, 4


def run(*words, **options):
    return subprocess.run([*RUN, *words], capture_output=True, text=True, check=False, **options)


def search_words(place, *more):
    words = ["search", "-w", str(place.root), "--steps", str(STEPS), "--trials", str(NUM_TRIALS)]
    return [*words, *more]


def told(place):
    """Return what the trainings of a search have written of their steps so far."""
    found = place.search.rglob("metrics.jsonl")
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def stop_when(place, has_come, number):
    """Search until it has come to a state, then send a signal; return the exit code.

    No clock: a search ends by itself, on busy cores later.
    """
    process = subprocess.Popen(
        [*RUN, *search_words(place)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not has_come() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    return process.wait()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("search")
    data = write_rings(root / "rings", num_cases=9, seed=0, shape=(32, 32))
    workspace = Workspace(root / "rings.autoseg")
    made = run("plan", str(data), "-w", str(workspace.root), "--folds", "3", "--device", "cpu")
    assert made.returncode == 0, made.stderr
    return workspace


@pytest.fixture(scope="module")
def summary(place):
    """Of a search that was killed twice as it trained, and stopped in its confirmation."""
    for _ in range(2):
        before = told(place)
        code = stop_when(place, lambda before=before: told(place) != before, signal.SIGKILL)
        assert code == -signal.SIGKILL
    plan = place.plan.read_text()
    held_out = place.search_run(0, "fold_1_seed_1") / "settings.json"
    code = stop_when(place, held_out.exists, signal.SIGTERM)
    assert code in (130, 0), "0: no trial was better, so that nothing was confirmed"
    assert code == 0 or place.plan.read_text() == plan
    done = run(*search_words(place, "--json"))
    assert done.returncode == 0, done.stderr
    found = SearchSummary.from_json(done.stdout, "stdout")
    assert found == SearchSummary.load(place.search_summary)
    if code == 130:
        assert "[8 of 8]" in done.stderr
    return found


def test_a_killed_search_comes_to_its_end(place, summary):
    complete = [row for row in summary.trials if row.state == "complete"]
    assert len(complete) == NUM_TRIALS
    assert {row.steps for row in complete} == {STEPS}
    assert [row.state for row in summary.trials].count("interrupted") >= 1
    assert complete[0].assignments == {}


def test_every_trial_was_trained_as_its_words_say(place, summary):
    for row in summary.trials:
        if row.state == "complete":
            assert row.score is not None
            assert 0 <= row.score <= 1
    assert list(place.search.rglob("result.json"))
    assert not list(place.search.rglob("*.pt"))


def test_the_plan_follows_the_verdict(place, summary):
    plan = Plan.load(place.plan)
    decision = next(item for item in plan.decisions if item.name == "search")
    assert decision.reason == summary.reason
    has_winner = summary.verdict is not None and summary.verdict.winner is not None
    assert bool(summary.applied) == has_winner


def test_searching_again_says_that_it_is_finished(place, summary):
    again = run(*search_words(place, "--json"))
    assert again.returncode == 0
    if summary.verdict is not None:
        assert "finished" in again.stderr
        assert json.loads(again.stdout) == summary.model_dump(mode="json")


def test_two_workers_search_on_ray(place, summary, tmp_path):
    other = Workspace(tmp_path / "other.autoseg")
    data = place.root.parent / "rings"
    run("plan", str(data), "-w", str(other.root), "--folds", "3", "--device", "cpu")
    done = run(*search_words(other, "--workers", "2", "--json"))
    assert done.returncode == 0, done.stderr
    found = SearchSummary.from_json(done.stdout, "stdout")
    assert [row.state for row in found.trials].count("complete") == NUM_TRIALS

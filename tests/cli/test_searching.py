from types import SimpleNamespace
from typing import Any

from autoseg.cli.main import main
from autoseg.cli.searching import print_search, search_line


def test_a_search_needs_time_or_steps(capsys, tmp_path):
    for words in ([], ["--budget", "1h", "--steps", "3"]):
        assert main(["search", "-w", str(tmp_path), *words]) == 2
        assert "--budget TIME, or --steps N" in capsys.readouterr().err


def test_a_short_search_is_refused_before_anything_is_measured(capsys, tmp_path):
    assert main(["plan", str(tmp_path / "nothing"), "--search", "1m"]) == 2
    assert "a budget of 60 s for a search" in capsys.readouterr().err


def test_a_fingerprint_cannot_be_searched(capsys, tmp_path):
    words = ["plan", "--fingerprint", str(tmp_path / "f.json"), "--search", "1h"]
    assert main(words) == 2
    assert "--search needs a DATASET" in capsys.readouterr().err


def test_every_trial_gets_a_line_when_it_begins_and_when_it_ends():
    trial = {"event": "trial", "number": 3}
    assert search_line({**trial, "what": "begins", "differs": "width 1.5"}) == "trial 3: width 1.5"
    ended = {**trial, "what": "ended", "state": "complete", "score": 0.81234, "reason": ""}
    assert search_line(ended) == "trial 3: Dice 0.8123"
    killed = {**ended, "state": "killed", "score": None, "reason": "far behind"}
    assert search_line(killed) == "trial 3: killed: far behind"


def test_confirmation_is_told_with_its_size_and_what_is_left():
    begun = {"event": "confirming", "finalists": (3,), "folds": (1, 2), "seeds": (1, 2)}
    size = {"done": 0, "total": 8, "left_s": 720.0}
    assert search_line({**begun, **size}) == (
        "Confirming on cases not searched on: trial 3 and the plan as it is, on 2 folds (1, 2) "
        "with 2 seeds each: 8 trainings, about 12 min"
    )
    size = {"done": 3, "total": 8, "left_s": None}
    assert str(search_line({**begun, **size})).endswith("8 trainings, 3 of them done already")


def test_every_training_that_confirms_is_counted():
    run = {"event": "confirmed", "name": "the plan as it is, fold 1, seed 2", "score": 0.5}
    first, last = ({"done": 1, "total": 8, "left_s": 90.0}, {"done": 8, "total": 8, "left_s": 0.0})
    shown = "the plan as it is, fold 1, seed 2: Dice 0.5000"
    assert search_line({**run, **first}) == f"[1 of 8] {shown}, about 90 s left"
    assert search_line({**run, **last}) == f"[8 of 8] {shown}"


def test_negative_optimism_is_told_as_what_it_is(capsys):
    summary: Any = SimpleNamespace(
        trials=(), verdict=None, optimism=-0.002, reason="The plan stays.", applied=()
    )
    print_search(summary)
    shown = capsys.readouterr().out
    assert "did not flatter its best trial but underrated it by 0.0020 Dice" in shown


def test_events_of_trainings_are_left_to_the_progress():
    assert search_line({"event": "trained", "step": 1, "num_steps": 2}) is None

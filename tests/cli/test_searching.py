from autoseg.cli.main import main
from autoseg.cli.searching import search_line


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


def test_confirmation_is_told_by_plan_fold_and_seed():
    begun = {"event": "confirming", "finalists": (3, 5), "folds": (1, 2), "seeds": (1, 2)}
    assert "trials 3, 5" in str(search_line(begun))
    run = {"event": "confirmed", "candidate": "incumbent", "fold": "1", "seed": 2, "score": 0.5}
    assert search_line(run) == "incumbent, fold 1, seed 2: Dice 0.5000"


def test_events_of_trainings_are_left_to_the_progress():
    assert search_line({"event": "trained", "step": 1, "num_steps": 2}) is None

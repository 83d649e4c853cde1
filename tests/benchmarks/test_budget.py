import json

from autoseg.workspace import Workspace
from benchmarks.budget import row_of
from benchmarks.measure import Measurement


def test_a_run_is_told_by_its_events(tmp_path):
    place = Workspace(tmp_path)
    events = (
        {"event": "dropped", "fold": "1"},
        {"event": "shared", "finishing_s": 50.0},
        {"event": "shared", "finishing_s": 40.0},
        {"event": "finished", "seconds": {"export": 30.0, "report": 5.0}},
    )
    place.events.write_text("".join(json.dumps(line) + "\n" for line in events))
    row = row_of(place, "balls", 300.0, Measurement(270.0, 2_000_000, 0))
    assert (row.used, row.folds, row.dropped) == (0.9, 0, 1)
    assert str(row).startswith("balls, budget 300 s: 270 s (90.0%), 2 MB")
    assert str(row).endswith("kept 40.0 s for finishing, which took 35.0 s")


def test_a_run_without_a_budget_has_no_estimates(tmp_path):
    row = row_of(Workspace(tmp_path), "balls", 300.0, Measurement(1.0, 1, 0))
    assert (row.kept_s, row.finishing_s) == (None, None)

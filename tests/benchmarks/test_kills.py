"""Random kills of a whole run, and how their results are compared."""

import json

import pytest
import torch

from autoseg.workspace import Workspace
from benchmarks.kills import broken, kill_often, make_bench, same_weights


@pytest.mark.slow
@pytest.mark.end_to_end
def test_five_kills_in_five_phases_change_no_result(tmp_path):
    rounds = list(kill_often(make_bench(tmp_path), kills=5, seed=0))
    assert sum(killed.total() for killed, _ in rounds) == 5
    assert [difference for _, found in rounds for difference in found] == []


def test_a_file_that_was_cut_short_is_found(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps({"a": 1}))
    (tmp_path / "events.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    assert list(broken(Workspace(tmp_path))) == []
    (tmp_path / "plan.json").write_text('{"a": ')
    (tmp_path / "events.jsonl").write_text('{"a": 1}\n{"a"')
    assert {path.name for path in broken(Workspace(tmp_path))} == {"plan.json", "events.jsonl"}


def test_weights_that_differ_in_one_bit_are_told_apart(tmp_path):
    value = torch.ones(3)
    paths = [tmp_path / name for name in ("a.pt", "b.pt", "c.pt")]
    other = value.clone()
    other[1] += torch.finfo(torch.float32).eps
    for path, weights in zip(paths, (value, value, other), strict=True):
        torch.save({"weights": {"x": weights}}, path)
    assert same_weights(paths[0], paths[1])
    assert not same_weights(paths[0], paths[2])

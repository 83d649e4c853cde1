import json
import subprocess
import sys

import pytest

from autoseg.cli.main import main
from autoseg.cli.plan_views import parse_what_if, spread
from autoseg.errors import PlanError
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.plan.what_if import WhatIf, find_gpu
from autoseg.testing.synthetic import write_spheres


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with one workspace, and a plan by other rules beside it."""
    folder = tmp_path_factory.mktemp("here")
    data = write_spheres(folder / "spheres", num_cases=4, seed=0)
    options = {"dataset": data, "device": "cpu", "num_folds": 2}
    make_plan(PlanOptions(workspace=folder / "spheres.autoseg", budget_s=600.0, **options))
    make_plan(PlanOptions(workspace=folder / "other", planner="nnunet", **options))
    return folder


@pytest.fixture
def shown(here, monkeypatch, capsys):
    """Run a command in that folder and return what it prints."""

    def run(*words, code=0):
        monkeypatch.chdir(here)
        assert main([str(word) for word in words]) == code
        printed = capsys.readouterr()
        return printed.out if code == 0 else printed.err

    return run


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--what-if", "a=1", "b=2", "data"], ["--what-if", "a=1", "--what-if", "b=2", "data"]),
        (["--what-if=a=1", "b=2"], ["--what-if=a=1", "--what-if", "b=2"]),
        (["--what-if", "a=1", "--json", "b=2"], ["--what-if", "a=1", "--json", "b=2"]),
        (["data", "b=2"], ["data", "b=2"]),
        (["--set", "a=1", "b=2"], ["--set", "a=1", "b=2"]),
        (["--compare"], ["--compare="]),
        (["--compare", "--json"], ["--compare=", "--json"]),
        (["--compare", "other"], ["--compare", "other"]),
    ],
)
def test_several_pairs_follow_one_option(words, expected):
    assert spread(words) == expected


@pytest.mark.parametrize("texts", [["memory=24GB", "budget=8h"], ["memory=24GB budget=8h"]])
def test_pairs_are_words_or_one_text(texts):
    assert parse_what_if(texts) == WhatIf(memory_bytes=24 * 10**9, budget_s=8 * 3600.0)


@pytest.mark.parametrize(
    ("text", "gpu"),
    [
        ("gpu=A100", find_gpu("A100")),
        ("gpu=A100:80GB", find_gpu("A100", 80 * 10**9)),
        ("gpu=RTX 4090 cpus=8", find_gpu("4090")),
        ("device=cuda:A100", find_gpu("A100")),
        ("device=cuda:4090", find_gpu("4090")),
    ],
)
def test_a_gpu_is_named_with_or_without_its_memory(text, gpu):
    assert parse_what_if([text]).gpu == gpu


def test_an_index_of_a_device_is_no_name():
    assert parse_what_if(["device=cuda:1"]) == WhatIf(device="cuda:1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bugdet=8h", "did you mean 'budget'"),
        ("budget=", "memory=24GB"),
        ("memory", "KEY=VALUE"),
        ("folds=2 folds=3", "folds twice"),
        ("gpu=A100 device=cuda:T4", "gpu twice"),
    ],
)
def test_a_pair_that_is_none_is_told(text, words):
    with pytest.raises(PlanError) as caught:
        parse_what_if([text])
    assert words in str(caught.value)


@pytest.mark.parametrize("word", ["cpus=0", "folds=1", "folds=two", "memory=lots", "budget=soon"])
def test_a_value_of_the_wrong_kind_is_told(shown, word):
    assert word.partition("=")[2] in shown("plan", "--what-if", word, code=2)


@pytest.mark.parametrize(
    ("word", "fix"),
    [
        ("memory=24", "write it like memory=24GB"),
        ("ram=0", "write it like ram=64GB"),
        ("budget=8", "write it like budget=8h"),
        ("budget=soon", "write it like budget=8h"),
        ("folds=two", "write it like folds=2"),
        ("budget=30s", "give budget=109s or more"),
        ("memory=100MB", "give memory=500MB or more"),
    ],
)
def test_remedies_are_written_as_what_if_takes_them(shown, word, fix):
    told = shown("plan", "--what-if", word, code=2)
    assert f"fix: {fix}" in told
    assert "--memory" not in told
    assert "--budget" not in told
    assert told.count("found:") == 1
    again = fix.removesuffix(" or more").split()[-1]
    assert "nothing is written" in shown("plan", "--what-if", again)


def test_the_plan_for_other_means_is_shown_and_not_written(here, shown):
    before = (here / "spheres.autoseg" / "plan.json").read_bytes()
    told = shown("plan", "--what-if", "memory=24GB", "budget=8h")
    assert "nothing is written" in told
    assert "24 GB" in told
    assert "about 7 h" in told
    assert (here / "spheres.autoseg" / "plan.json").read_bytes() == before
    content = json.loads(shown("plan", "--what-if", "gpu=T4", "--json"))
    assert content["device"] == "cuda"


def test_what_is_not_trained_has_no_training_time(shown):
    told = shown("plan", "--what-if", "budget=8h")
    rows = [line.split("\t") for line in told.splitlines()]
    times = {row[0]: row[3] for row in rows if row[0] in ("2d", "3d_fullres")}
    assert times["2d"] == "–"  # noqa: RUF001 (a dash)
    assert times["3d_fullres"].endswith("min")


@pytest.mark.parametrize("place", [["spheres"], ["-w", "spheres.autoseg"], []])
def test_the_workspace_is_named_or_that_of_the_data_or_the_only_one(shown, place):
    assert "what if folds=3" in shown("plan", *place, "--what-if", "folds=3")


def test_two_plans_are_shown_side_by_side(shown):
    told = shown("plan", "--compare", "other")
    assert "planner\tauto\tnnunet" in told
    assert "3d_fullres.network\tplain" in told
    content = json.loads(shown("plan", "--compare", "other/plan.json", "--json"))
    assert content["plans"] == ["spheres.autoseg", "other/plan.json"]
    assert content["keys"]["planner"] == ['"auto"', '"nnunet"']
    assert {"name", "first", "second", "first_reason", "second_reason"} == set(
        content["differences"][0]
    )


def test_now_is_compared_with_then(shown):
    told = shown("plan", "--what-if", "budget=8h", "--compare")
    assert "budget\t10 min\t8 h 00 min" in told
    assert "spheres.autoseg now" in told
    same = shown("plan", "--what-if", "budget=10m", "--compare")
    assert "decide the same" in same
    third = shown("plan", "--what-if", "budget=8h", "--compare", "other")
    assert "planner\tnnunet\tauto" in third


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--compare"], "--compare OTHER"),
        (["--what-if", "budget=8h", "--planner", "nnunet"], "planner=..."),
        (["--compare", "other", "--seed", "3"], "leave --seed out"),
        (["--compare", "gone"], "no folder gone"),
        (["nowhere", "--what-if", "budget=8h"], "autoseg plan DATASET"),
    ],
)
def test_what_cannot_be_shown_is_told(shown, words, told):
    assert told in " ".join(shown("plan", *words, code=2).replace("│", "").split())


FROM_FINGERPRINT = ["--fingerprint", "spheres.autoseg/fingerprint.json", "--budget", "10m"]


@pytest.mark.parametrize(
    "words", [["--what-if", "gpu=A100", "--compare"], FROM_FINGERPRINT], ids=["what if", "plan"]
)
def test_what_needs_no_images_loads_nothing_heavy(here, words):
    code = (
        "import sys; from autoseg.cli.main import main;"
        f"code = main(['plan', *{words!r}, '--json']);"
        "heavy = {'torch', 'ray', 'scipy.ndimage', 'optuna', 'matplotlib'} & set(sys.modules);"
        "sys.exit(code or (str(heavy) if heavy else 0))"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

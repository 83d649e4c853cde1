import subprocess
import sys

import pytest

from autoseg.errors import PlanError
from autoseg.plan.registry import load_planner, planner_names
from autoseg.testing.contracts import check_planner

MODULE = """
from autoseg_planners.nnunet import plan as nnunet

def plan(request):
    return nnunet(request).revised(planner="theirs")

def forgetful(request):
    return nnunet(request).revised(seed=request.seed + 1)
"""


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """Install a distribution that defines two planners, as pip would."""

    def install(name="third-party", **points):
        folder = tmp_path / name
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "".join(f"{key} = {value}\n" for key, value in points.items())
        (info / "entry_points.txt").write_text(f"[autoseg.planners]\n{lines}")
        (folder / "third_party_planner.py").write_text(MODULE)
        monkeypatch.syspath_prepend(folder)

    return install


def test_our_planners_are_found_by_their_entry_points():
    assert {"auto", "nnunet", "resenc_m", "resenc_l"} <= set(planner_names())


def test_a_planner_of_another_package_is_found_and_keeps_the_contract(third_party):
    third_party(theirs="third_party_planner:plan")
    assert "theirs" in planner_names()
    check_planner(load_planner("theirs"), num_examples=5)


def test_the_contract_finds_a_planner_that_answers_another_request(third_party):
    third_party(forgetful="third_party_planner:forgetful")
    with pytest.raises(AssertionError, match="seed"):
        check_planner(load_planner("forgetful"), num_examples=5)


def test_an_unknown_planner_names_the_nearest():
    with pytest.raises(PlanError) as caught:
        load_planner("nnunett")
    assert "'nnunet'" in caught.value.fix
    assert "resenc_m" in caught.value.expected


def test_two_packages_with_one_name_are_both_named(third_party):
    third_party("one", twice="third_party_planner:plan")
    third_party("two", twice="third_party_planner:plan")
    with pytest.raises(PlanError) as caught:
        load_planner("twice")
    assert "one" in caught.value.found
    assert "two" in caught.value.found


def test_a_planner_that_cannot_be_imported_is_reported(third_party):
    third_party(broken="third_party_planner:missing")
    with pytest.raises(PlanError) as caught:
        load_planner("broken")
    assert "third-party" in caught.value.found


def test_planning_imports_neither_torch_nor_ray():
    code = (
        "import sys; from autoseg.plan.registry import load_planner, planner_names;"
        "[load_planner(name) for name in planner_names()];"
        "sys.exit(bool({'torch', 'ray', 'optuna', 'SimpleITK'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

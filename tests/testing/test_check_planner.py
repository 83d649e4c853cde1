import subprocess
import sys
from dataclasses import replace

import pytest

from autoseg.errors import PlanError
from autoseg.plan.fits import fitting_plan
from autoseg.plan.registry import load_planner
from autoseg.testing.contracts import check_planner
from autoseg.testing.fingerprints import fingerprint_of, request_of

RULES = load_planner("nnunet")


def changed(change):
    """Return a planner whose first configuration is changed."""

    def plan(request):
        made = RULES(request)
        first, *others = made.configurations
        return made.revised(configurations=(change(first), *others))

    return plan


def kernels(item, size):
    stages = tuple(
        stage.revised(kernel_size=(size,) * len(stage.kernel_size)) for stage in item.network.stages
    )
    return item.revised(network=item.network.revised(stages=stages))


def odd_patch(item):
    return item.revised(patch_size=tuple(n + 1 for n in item.patch_size))


def greedy(request):
    return RULES(replace(request, memory_bytes=10**12)).revised(memory_bytes=10**9)


def forgetful(request):
    made = RULES(request)
    return made.revised(decisions=made.decisions[:1])


def unsure(request, calls=[]):  # noqa: B006 (it is to differ from call to call)
    calls.append(request)
    return RULES(request).revised(nsd_tolerance=float(len(calls)))


def repeating(request):
    made = RULES(request)
    return made.revised(decisions=(*made.decisions, made.decisions[0]))


def fearful(request):
    raise PlanError(found="anything", expected="nothing", fix="leave it")


def unlike_its_cost(item):
    return item.revised(cost=item.cost.revised(parameters=item.cost.parameters + 1))


def free(item):
    return item.revised(cost=item.cost.revised(step_seconds=0.0))


@pytest.mark.parametrize(
    ("planner", "words"),
    [
        (changed(odd_patch), "not divisible|has the two"),
        (changed(lambda item: kernels(item, 2)), "not odd"),
        (changed(lambda item: kernels(item, 5)), "parameters"),
        (changed(unlike_its_cost), "parameters"),
        (changed(free), "cost is not above 0"),
        (greedy, "should take|more memory"),
        (forgetful, "no decision about"),
        (repeating, "decided twice"),
        (unsure, "another plan"),
        (fearful, "refused"),
    ],
    ids=str,
)
def test_what_breaks_the_contract_is_told(planner, words):
    with pytest.raises(AssertionError, match=words):
        check_planner(planner, num_examples=8, memory_factor=8.0)


MODULE = """
from dataclasses import replace

from autoseg_planners.nnunet import plan as rules


def plan(request):
    made = rules(request)
    return made.revised(planner="halves")
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put a package with a planner of its own on the path, as pip would."""
    info = tmp_path / "halves-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: halves\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[autoseg.planners]\nhalves = made_halves:plan\n")
    (tmp_path / "made_halves.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_planner_of_another_package_plans_by_its_name(installed):
    plan = fitting_plan(load_planner("halves"), request_of(fingerprint_of([(36, 50, 35)] * 9)))
    assert plan.planner == "halves"


def test_the_example_of_the_documentation_keeps_the_contract(repository, tmp_path):
    text = (repository / "docs" / "planners.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    (tmp_path / "small_batches.py").write_text(blocks[0], encoding="utf-8")
    (tmp_path / "test_small_batches.py").write_text(
        blocks[1].replace("check_planner(plan)", "check_planner(plan, num_examples=3)"),
        encoding="utf-8",
    )
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout

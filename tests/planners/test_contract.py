import pytest

from autoseg.plan.registry import load_planner
from autoseg.testing.contracts import check_planner


@pytest.mark.parametrize("name", ["auto", "nnunet", "resenc_m", "resenc_l"])
def test_planner_keeps_the_contract(name):
    check_planner(load_planner(name), num_examples=10)

import pytest

from autoseg.plan.registry import load_planner
from autoseg.testing.contracts import check_planner

OTHER_MEASURE = 8.0
"""nnU-Net's rules count feature values of a network in half precision: on a CPU without it the same
network takes up to this many times more than they allow."""
PLANNERS = [
    ("auto", 1.0),
    ("nnunet", OTHER_MEASURE),
    ("resenc_m", OTHER_MEASURE),
    ("resenc_l", OTHER_MEASURE),
]


@pytest.mark.parametrize(("name", "memory_factor"), PLANNERS)
def test_planner_keeps_the_contract(name, memory_factor):
    check_planner(load_planner(name), num_examples=3, memory_factor=memory_factor)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "memory_factor"), PLANNERS)
def test_planner_keeps_the_contract_over_hundreds_of_data_sets(name, memory_factor):
    check_planner(load_planner(name), num_examples=400, memory_factor=memory_factor)

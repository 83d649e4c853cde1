from hypothesis import given
from hypothesis import strategies as st

from autoseg.train.guards import (
    best_so_far,
    better,
    gap,
    has_collapsed,
    lost_classes,
    only_background,
    weak_gradient,
)

DICE = st.one_of(st.none(), st.floats(0.0, 1.0))


def test_a_network_collapses_when_all_that_was_found_is_lost():
    assert has_collapsed([0.6, 0.2], [0.0, 0.01])
    assert has_collapsed([0.6, None], [0.0, None])


def test_a_network_that_still_finds_a_class_has_not_collapsed():
    assert not has_collapsed([0.6, 0.5], [0.0, 0.4])


def test_nothing_collapses_that_was_never_found():
    assert not has_collapsed([0.1, 0.2], [0.0, 0.0])
    assert not has_collapsed([], [0.0, 0.0])
    assert not has_collapsed([0.6], [None])


@given(st.lists(DICE, min_size=1, max_size=5))
def test_what_is_as_good_as_ever_is_never_lost(dice):
    names = [f"class {index}" for index in range(len(dice))]
    assert not has_collapsed(dice, dice)
    assert lost_classes(dice, dice, names, 5) == []


def test_a_lost_class_is_named_with_what_it_had():
    (trouble,) = lost_classes([0.61, 0.5, None], [0.0, 0.4, 0.0], ["liver", "kidney", "cyst"], 40)
    assert trouble.subject == "liver"
    assert "0.61" in trouble.found
    assert "step 40" in trouble.found


def test_finding_nothing_is_trouble_late_in_a_run_only():
    assert only_background([0.0, None], step=10, progress=0.25) is None
    assert only_background([0.0, 0.01], step=10, progress=0.75) is None
    assert only_background([None], step=10, progress=0.75) is None
    trouble = only_background([0.0, None], step=30, progress=0.75)
    assert trouble is not None
    assert "75%" in trouble.found


def test_a_first_layer_with_a_thousandth_of_the_gradient_is_told():
    assert weak_gradient(2e-3, 1.0, 5) is None
    assert weak_gradient(0.0, 0.0, 5) is None
    assert weak_gradient(float("nan"), 1.0, 5) is None
    assert weak_gradient(1.0, float("inf"), 5) is None
    trouble = weak_gradient(5e-4, 1.0, 5)
    assert trouble is not None
    assert "5.0e-04" in trouble.found


def test_a_gap_above_a_fifth_is_told():
    assert gap(0.9, 0.75, 5) is None
    assert gap(None, 0.1, 5) is None
    trouble = gap(0.9, 0.6, 5)
    assert trouble is not None
    assert "--after" in trouble.fix


def test_the_best_of_each_class_is_read_from_the_log():
    lines = [{"step": 1}, {"class_dice": [0.1, None]}, {"class_dice": [0.05, 0.3]}]
    assert best_so_far(lines) == [0.1, 0.3]
    assert best_so_far([]) == []


@given(st.lists(st.tuples(DICE, DICE), max_size=5))
def test_the_better_one_is_no_lower_than_either(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    for found, *both in zip(better(first, second), first, second, strict=True):
        assert found == max((value for value in both if value is not None), default=None)

import pytest

from autoseg.plan.foreground import TINY
from autoseg.plan.variants import (
    DEEP,
    SPARE_FOR_ATTENTION,
    SPARE_FOR_NESTED,
    SPARE_FOR_RESIDUAL,
    Means,
    candidates,
    variant,
)
from autoseg.testing.plans import FREE, small_configuration, small_network

GB = 10**9
COSTS = {"plain": 1.0, "residual": 2.0, "attention": 1.5, "nested": 4.0}
"""Seconds of a step."""


def item(train_seconds):
    network = small_network(2, stages=((4, 1), (8, 2), (8, 2)))
    cost = FREE.revised(train_seconds=float(train_seconds))
    return small_configuration((16, 16), image_axes=2, network=network, cost=cost)


def priced(changed, memory_bytes=GB):
    network = changed.network
    kind = network.decoder if network.decoder != "plain" else network.encoder
    cost = changed.cost.revised(step_seconds=COSTS[kind], memory_bytes=memory_bytes)
    return changed.revised(cost=cost)


def chosen(train_seconds, downsamplings=2, share=0.2, *, memory_bytes=GB):
    tried = candidates(2, downsamplings, share)
    found = variant(
        item(train_seconds), tried, Means(100, GB), lambda new: priced(new, memory_bytes)
    )
    assert found.reason.endswith(".")
    return found.value.network


def test_deep_networks_get_residual_blocks_where_the_steps_suffice():
    enough = 100 * SPARE_FOR_RESIDUAL * COSTS["residual"]
    assert chosen(enough, DEEP + 1).encoder == "residual"
    assert chosen(enough - 1, DEEP + 1).encoder == "plain"
    assert chosen(10_000, DEEP).encoder == "plain"


def test_a_variant_that_memory_does_not_hold_is_not_taken():
    assert chosen(10_000, DEEP + 1, memory_bytes=GB + 1).encoder == "plain"


@pytest.mark.parametrize(
    ("train_seconds", "expected"),
    [
        (100 * SPARE_FOR_NESTED * COSTS["nested"], "nested"),
        (100 * SPARE_FOR_ATTENTION * COSTS["attention"], "attention"),
        (100 * SPARE_FOR_ATTENTION * COSTS["attention"] - 1, "plain"),
    ],
)
def test_tiny_structures_get_gates_where_much_time_is_to_spare(train_seconds, expected):
    assert chosen(train_seconds, share=TINY / 2).decoder == expected
    assert chosen(train_seconds, share=TINY).decoder == "plain"


def test_what_was_not_measured_and_signals_stay_plain():
    assert candidates(2, 2, None) == ()
    assert candidates(1, 12, TINY / 2) == ()

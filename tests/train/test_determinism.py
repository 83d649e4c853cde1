"""The same seed gives the same weights on a processor, whatever happens on the way."""

from dataclasses import replace
from shutil import which

import pytest
import torch

from autoseg.train.fold import train_fold
from autoseg.train.job import Interrupted
from autoseg.train.records import RunSettings

NUM_STEPS = 2


@pytest.fixture
def make_dropping(prepared, make_job):
    """Return a function that makes jobs whose network draws while it trains."""
    plan = prepared[0]
    (item,) = plan.configurations
    dropping = item.revised(network=item.network.revised(dropout=0.5))

    def make(seed=0):
        changed = plan.revised(configurations=(dropping,), seed=seed)
        return make_job(num_steps=NUM_STEPS, plan=changed, val_cases=())

    return make


def weights_of(job):
    """Return the final weights."""
    train_fold(job, lambda _: None, lambda: False)
    return torch.load(job.folder.final, weights_only=True)["weights"]


def are_same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.fixture(scope="module")
def kept():
    """The weights of an uninterrupted run, made by the first test that asks."""
    return {}


@pytest.fixture
def uninterrupted(make_dropping, kept):
    if not kept:
        kept.update(weights_of(make_dropping()))
    return kept


def test_dropout_goes_on_after_an_interruption_as_without_one(uninterrupted, make_dropping):
    job = make_dropping()
    with pytest.raises(Interrupted):
        train_fold(job, lambda _: None, lambda: True)  # after the first step
    assert are_same(uninterrupted, weights_of(job))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own code
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.skipif(which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_network_learns_the_same_after_an_interruption(make_dropping):
    def make():
        job = make_dropping()
        training = job.planned.training.revised(compiled=True)
        item = job.planned.revised(training=training)
        return replace(job, plan=job.plan.revised(configurations=(item,)))

    whole, broken = make(), make()
    expected = weights_of(whole)
    assert RunSettings.load(whole.folder.settings).compiled
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    with pytest.raises(Interrupted):
        train_fold(broken, lambda _: None, lambda: True)
    assert are_same(expected, weights_of(broken))


def test_draws_of_others_change_nothing(uninterrupted, make_dropping):
    torch.manual_seed(123)
    torch.rand(7)
    assert are_same(uninterrupted, weights_of(make_dropping()))


def test_another_seed_gives_other_weights(uninterrupted, make_dropping):
    assert not are_same(uninterrupted, weights_of(make_dropping(seed=1)))

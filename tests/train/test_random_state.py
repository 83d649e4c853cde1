import pytest
import torch

from autoseg.train.random_state import random_state, set_random_state


@pytest.fixture
def gpu(monkeypatch):
    """A GPU whose generator is a number for each device."""
    states = {}

    def get(device):
        return states.setdefault(device, torch.zeros(1))

    monkeypatch.setattr(torch.cuda, "get_rng_state", get)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda new, place: states.update({place: new}))
    return states


def test_the_processor_goes_on_from_where_it_stood():
    states = random_state("cpu")
    expected = torch.rand(3)
    set_random_state(states, "cpu")
    assert torch.equal(torch.rand(3), expected)
    assert len(states) == 1


def test_a_device_that_draws_goes_on_too(gpu):
    place = torch.device("cuda:1")
    gpu[place] = torch.ones(1)
    states = random_state("cuda:1")
    gpu[place] = torch.full((1,), 5.0)
    set_random_state(states, place)
    assert float(gpu[place]) == 1.0


def test_a_state_of_another_kind_of_device_leaves_the_device_alone(gpu):
    set_random_state(random_state("cpu"), "cuda")
    assert gpu == {}
    set_random_state((torch.get_rng_state(), torch.ones(1)), "cpu")
    assert gpu == {}

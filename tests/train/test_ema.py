from typing import Any

import pytest
import torch
from torch import nn

from autoseg.train.ema import Ema


def constant_model(value):
    model = nn.Linear(1, 1)
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


def weight(model) -> Any:
    return model.weight


def set_all(model, value):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_average_is_exponential():
    model = constant_model(0.0)
    ema = Ema(model, 0.9)
    set_all(model, 1.0)
    ema.update(10_000)
    ema.update(10_001)
    assert weight(ema.model).item() == pytest.approx(1 - 0.9**2)


def test_early_averages_forget_the_start():
    model = constant_model(0.0)
    ema = Ema(model, 0.999)
    set_all(model, 1.0)
    ema.update(1)
    assert weight(ema.model).item() == pytest.approx(1 - 2 / 11)


def test_no_decay_follows_the_network_exactly():
    model = constant_model(0.0)
    ema = Ema(model, 0.0)
    set_all(model, 0.1)
    ema.update(5)
    assert torch.equal(weight(ema.model), weight(model))


def test_average_is_ready_to_predict_and_apart_from_the_network():
    model = constant_model(0.0)
    ema = Ema(model, 0.5)
    assert not ema.model.training
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
    set_all(model, 3.0)
    assert weight(ema.model).item() == 0


def test_running_statistics_are_averaged_with_the_weights():
    model = nn.BatchNorm1d(1)
    ema = Ema(model, 0.9)
    model(torch.tensor([[9.0], [11.0]]))  # a tenth of the mean of 10 is taken in
    ema.update(10_000)
    average: Any = ema.model
    assert average.running_mean.item() == pytest.approx(0.1)

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from autoseg.network.execution import Execution
from autoseg.train.learner import build_learner, build_loss
from autoseg.train.loop import train
from autoseg.train.sampling import Batch

CPU = Execution(device="cpu", precision="fp32")


def batch(*, is_good=True):
    images = torch.linspace(-1, 1, 2 * 16**3).reshape(2, 1, 16, 16, 16)
    labels = (images[:, 0] > 0).short()
    return Batch(images if is_good else images * math.nan, labels)


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def are_equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_step_with_infinite_gradients_changes_nothing(prepared, optimizer):
    plan = prepared[0].configurations[0]
    plan = plan.revised(training=plan.training.revised(optimizer=optimizer))
    expected, spoilt = (build_learner(plan, CPU, seed=1) for _ in range(2))
    before = weights(spoilt.model)

    def steps(learner, batches):
        return train(
            learner,
            batches,
            build_loss(plan.training),
            execution=CPU,
            learning_rate=lambda _: 1e-3,
            max_gradient_norm=12.0,
        )

    results = steps(spoilt, [batch(is_good=False), batch(), batch()])
    assert not torch.isfinite(next(results).gradient_norm)
    assert are_equal(weights(spoilt.model), before)
    assert are_equal(weights(spoilt.ema.model), before)
    assert len(list(results)) == 2
    list(steps(expected, [batch(), batch()]))
    assert are_equal(weights(spoilt.model), weights(expected.model))
    assert not are_equal(weights(spoilt.model), before)


def test_recomputing_trains_the_same_weights(prepared):
    plan = prepared[0].configurations[0]
    frugal = plan.revised(training=plan.training.revised(recompute=True))
    kept, again = (build_learner(item, CPU, seed=1) for item in (plan, frugal))
    for learner in (kept, again):
        steps = train(
            learner,
            [batch(), batch()],
            build_loss(plan.training),
            execution=CPU,
            learning_rate=lambda _: 1e-3,
            max_gradient_norm=12.0,
        )
        assert len(list(steps)) == 2
    assert [vars(item.model)["checkpointing"] for item in (kept, again)] == [False, True]
    for one, other in zip(weights(kept.model), weights(again.model), strict=True):
        torch.testing.assert_close(one, other)


def test_a_compiled_network_is_the_same_module_with_the_same_names(prepared, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: compiled.append(self))
    plan = prepared[0].configurations[0]
    plain = build_learner(plan, CPU, seed=1)
    assert compiled == []
    learner = build_learner(plan, replace(CPU, compiled=True), seed=1)
    assert compiled == [learner.model]
    assert learner.model.state_dict().keys() == plain.model.state_dict().keys()


def reference_step(model, loss, optimizer, item):
    """Take a step as PyTorch's own introduction writes it."""
    optimizer.zero_grad()
    value = loss(model(item.images), item.labels)
    value.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 12.0)
    optimizer.step()


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_steps_are_those_of_a_loop_that_is_written_out_bit_by_bit(prepared, name):
    plan = prepared[0].configurations[0]
    training = plan.training.revised(optimizer=name, momentum=0.99, weight_decay=3e-5)
    plan = plan.revised(training=training)
    learner, other = (build_learner(plan, CPU, seed=1) for _ in range(2))
    rates = [0.01 * (1 - step / 3) ** 0.9 for step in range(3)]
    list(
        train(
            learner,
            [batch()] * 3,
            build_loss(training),
            execution=CPU,
            learning_rate=lambda step: rates[step],
            max_gradient_norm=12.0,
        )
    )
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    parameters, loss = list(other.model.parameters()), build_loss(training)
    settings = {"lr": 0.0, "weight_decay": 3e-5, "fused": True}
    if name == "sgd":
        optimizer: Any = torch.optim.SGD(parameters, momentum=0.99, nesterov=True, **settings)
    else:
        optimizer = kinds[name](parameters, **settings)
    other.model.train()
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        reference_step(other.model, loss, optimizer, batch())
    assert are_equal(weights(learner.model), weights(other.model))

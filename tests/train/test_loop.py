import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autoseg.network.execution import Execution
from autoseg.train.ema import Ema
from autoseg.train.loop import Learner, train
from autoseg.train.loss import DeepSupervised, DiceAndCrossEntropy

CPU = Execution(device="cpu", precision="fp32")


def learner(lr=0.1) -> Any:
    torch.manual_seed(0)
    model = nn.Conv2d(1, 2, 3, padding=1)
    return Learner(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr),
        ema=Ema(model, 0.9),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
    )


def batches(count) -> Any:
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        images = torch.randn(2, 1, 8, 8, generator=generator)
        yield SimpleNamespace(images=images, labels=(images[:, 0] > 0).short(), annotated=None)


def steps(who, count=20, **changes):
    values = {
        "execution": CPU,
        "learning_rate": lambda _: 0.5,
        "max_gradient_norm": 12.0,
    }
    loss = DeepSupervised(DiceAndCrossEntropy(batch_dice=True), weights=(1.0,))
    return train(who, batches(count), loss, **{**values, **changes})


def test_loss_falls():
    losses = [result.loss.item() for result in steps(learner(), 40)]
    assert losses[-1] < losses[0] - 0.5


def test_classes_that_a_batch_does_not_annotate_reach_the_loss():
    known = torch.tensor([[True, False], [True, False]])
    seen = []

    def loss(logits, labels, annotated):
        seen.append(annotated)
        return logits.mean()

    partly: Any = (SimpleNamespace(**{**vars(batch), "annotated": known}) for batch in batches(2))
    values = {"execution": CPU, "learning_rate": lambda _: 0.5, "max_gradient_norm": 12.0}
    assert len(list(train(learner(), partly, loss, **values))) == 2
    assert all(torch.equal(item, known) for item in seen)


def test_steps_are_counted_from_the_first_step_on():
    seen = []
    results = steps(learner(), 3, first_step=7, learning_rate=lambda step: seen.append(step) or 0.1)
    assert [result.step for result in results] == [8, 9, 10]
    assert seen == [7, 8, 9]


def test_gradients_are_clipped():
    who = learner()
    before = who.model.weight.detach().clone()
    next(steps(who, 1, max_gradient_norm=1e-3, learning_rate=lambda _: 1.0))
    change = (who.model.weight.detach() - before).norm()
    assert 0 < change.item() <= 1e-3


def test_reduced_precision_learns_too():
    execution = Execution(device="cpu", precision="bf16", channels_last=True)
    losses = [result.loss.item() for result in steps(learner(), 40, execution=execution)]
    assert losses[-1] < losses[0] - 0.5


def test_average_moves_with_every_step():
    who = learner()
    before = who.ema.model.weight.clone()
    next(steps(who, 1))
    assert not torch.equal(who.ema.model.weight, before)


CODE = """
import importlib.abc, sys
ALLOWED = {"autoseg", "autoseg.record", "autoseg.errors", "autoseg.runtime",
           "autoseg.runtime.errors", "autoseg.network", "autoseg.train",
           "autoseg.train.loop", "autoseg.train.loss",
           "autoseg.train.accumulate", "autoseg.train.ema"}

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        own = name in ALLOWED or name.startswith(("autoseg.network.", "autoseg.train.loss_terms"))
        if (top == "autoseg" and not own) or top in ("scipy", "SimpleITK", "blosc2", "ray"):
            raise ModuleNotFoundError(f"refused: {name}")

sys.meta_path.insert(0, Refuse())
import autoseg.network.build, autoseg.train.loop, autoseg.train.loss
"""


@pytest.mark.slow
def test_network_and_loop_import_where_only_torch_is():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

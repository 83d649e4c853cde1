"""How a network is executed: the same gradients, kept or computed again."""

import itertools
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from autoseg.network.execution import Execution

KEPT = Execution(device="cpu", precision="fp32")
RECOMPUTED = Execution(device="cpu", precision="fp32", checkpointing=True)


def trained(make_network, execution, variant):
    """Return a network after one backward pass, always with the same numbers."""
    model = execution.place(make_network(variant))
    x = torch.sin(torch.arange(2.0 * 2 * 16 * 16)).reshape(2, 2, 16, 16)
    torch.manual_seed(0)
    with execution.autocast():
        outputs = model(execution.images(x))
    torch.stack([output.float().square().mean() for output in outputs]).sum().backward()
    return model


def test_recomputing_gives_the_same_gradients(make_network, variant):
    kept, recomputed = (trained(make_network, how, variant) for how in (KEPT, RECOMPUTED))
    for first, second in zip(kept.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad)


def test_recomputing_counts_a_batch_once_in_running_statistics(make_network):
    kept, recomputed = (trained(make_network, how, "batch") for how in (KEPT, RECOMPUTED))
    for first, second in zip(kept.buffers(), recomputed.buffers(), strict=True):
        torch.testing.assert_close(first, second)
    assert all(
        module.track_running_stats
        for module in recomputed.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    )


def test_recomputing_works_in_reduced_precision(make_network):
    reduced = Execution(device="cpu", precision="bf16", checkpointing=True)
    gradients = [
        parameter.grad for parameter in trained(make_network, reduced, "plain").parameters()
    ]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_prediction_recomputes_nothing(make_network):
    model = RECOMPUTED.place(make_network()).eval()
    x = torch.randn(1, 2, 8, 8)
    torch.testing.assert_close(model(x), KEPT.place(make_network()).eval()(x))


def saved_bytes(model, x):
    """Return the bytes that autograd keeps between forward and backward, parameters excluded."""
    own = {parameter.data_ptr() for parameter in model.parameters()}
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model(x)
    del outputs
    return sum(storages.values())


def test_recomputing_keeps_less_between_forward_and_backward(make_network):
    x = torch.randn(1, 2, 64, 64)
    kept, recomputed = (saved_bytes(how.place(make_network()), x) for how in (KEPT, RECOMPUTED))
    assert recomputed < 0.66 * kept


def peak_bytes(model, x):
    """Return the most that tensors take at once during a training step, parameters excluded."""
    model(x).square().mean().backward()  # gradients are there from then on
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        model(x).square().mean().backward()
    results: Any = recorded.profiler
    events = (event for event in results.kineto_results.events() if event.name() == "[memory]")
    return max(itertools.accumulate(event.nbytes() for event in events))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(256, 256), (64, 64, 64)], ids=str)
def test_recomputing_lowers_the_peak_of_memory_by_a_third(make_plan, make_network, shape):
    dimensions = len(shape)
    stages = tuple(
        stage.revised(features=4 * stage.features, strides=(1 if level == 0 else 2,) * dimensions)
        for level, stage in enumerate(make_plan(dimensions=dimensions).stages)
    )
    kept, recomputed = (
        peak_bytes(
            how.place(make_network(dimensions=dimensions, stages=stages, num_supervised=1)),
            torch.randn(1, 2, *shape),
        )
        for how in (KEPT, RECOMPUTED)
    )
    assert recomputed < 0.66 * kept

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from autoseg.network.build import build_network, initialise
from autoseg.network.execution import Execution
from autoseg.plan.losses import LOSSES
from autoseg.record import LossPlan
from autoseg.testing.plans import TRAINING, small_network
from autoseg.train.accumulate import MicroBatches, Way, backward, is_memory_full
from autoseg.train.learner import build_loss, make_learner
from autoseg.train.loop import train

CPU = Execution(device="cpu", precision="fp32")
NETWORK = small_network(2, num_classes=3, stages=((4, 1), (8, 2), (8, 2)))
FULL = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"


def model(**changes) -> Any:
    network = build_network(NETWORK.revised(num_supervised=2, **changes))
    initialise(network, 0)
    return network.train()


def batch(size=5):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 1, 16, 16, generator=generator)
    labels = torch.randint(-1, 3, (size, 16, 16), generator=generator)
    return images, labels


def way(network, loss, micro_batches, execution=CPU, scale=1.0):
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return Way(
        model=network,
        loss=loss,
        scaler=scaler,
        execution=execution,
        micro_batches=micro_batches,
    )


def gradients(network, loss, size, **changes) -> tuple[torch.Tensor, dict[str, Any]]:
    """Return loss and gradients of a batch that goes through a network in parts of `size`."""
    images, labels = batch()
    torch.manual_seed(1)
    value = backward(way(network, loss, MicroBatches(size), **changes), images, (labels,), 0)
    return value, {name: item.grad for name, item in network.named_parameters()}


def assert_close(first, second, tolerance=1e-6):
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        other = second[name]
        assert (gradient is None) == (other is None)
        if gradient is not None:
            torch.testing.assert_close(gradient, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_parts_have_the_gradients_of_the_whole_batch(size, batch_dice):
    loss = build_loss(TRAINING.revised(batch_dice=batch_dice, supervision_weights=(0.7, 0.3)))
    value, whole = gradients(model(), loss, None)
    other, parts = gradients(model(), loss, size)
    torch.testing.assert_close(value, other)
    assert_close(whole, parts)
    assert any(gradient is not None and gradient.any() for gradient in whole.values())


@pytest.mark.parametrize("kind", sorted(set(LOSSES) - {"regions"}))
def test_whatever_the_loss_is(kind):
    plan = LossPlan(kind=kind, class_weights=(1.0, 2.0, 3.0))
    training = TRAINING.revised(loss=plan, batch_dice=True, supervision_weights=(0.7, 0.3))
    (_, whole), (_, parts) = (gradients(model(), build_loss(training), size) for size in (None, 2))
    assert_close(whole, parts, 2e-6)


def test_a_loss_that_takes_no_notice_of_a_resolution_leaves_its_head_alone():
    loss = build_loss(TRAINING.revised(supervision_weights=(1.0, 0.0)))
    (_, whole), (_, parts) = (gradients(model(), loss, size) for size in (None, 2))
    assert_close(whole, parts)
    assert any(gradient is None for gradient in parts.values())


def test_parts_draw_the_same_dropout_both_times():
    network = model(dropout=0.5)
    loss = build_loss(TRAINING.revised(supervision_weights=(0.7, 0.3)))
    gradients(network, loss, 2)
    end = torch.get_rng_state()
    made = {name: item.grad.clone() for name, item in network.named_parameters()}
    network.zero_grad()
    torch.manual_seed(1)
    parts = batch()[0].split(2)
    levels = [network(part) for part in parts]
    loss(tuple(torch.cat(items) for items in zip(*levels, strict=True)), batch()[1]).backward()
    assert_close(made, {name: item.grad for name, item in network.named_parameters()})
    assert torch.equal(end, torch.get_rng_state())


def test_scaled_gradients_are_scaled_in_parts_too():
    loss = build_loss(TRAINING.revised(supervision_weights=(0.7, 0.3)))
    _, plain = gradients(model(), loss, 2)
    value, scaled = gradients(model(), loss, 2, scale=8.0)
    assert value < 8
    assert_close({name: 8 * gradient for name, gradient in plain.items()}, scaled, 1e-5)


def test_batch_normalisation_counts_each_part_once():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3))
    gradients(network, lambda logits, labels: logits.square().mean(), 2)
    assert network[1].num_batches_tracked == 3


def full_for(network, most, *, error: Any = None):
    """Make memory full for a network whenever more than `most` samples go through it."""
    sizes = []

    def check(_, inputs):
        sizes.append(len(inputs[0]))
        if sizes[-1] > most:
            torch.rand(3)  # of dropout layers before the one that fails
            raise error or torch.OutOfMemoryError("CUDA out of memory.")

    network.register_forward_pre_hook(check)
    return sizes


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError(FULL)]
)
def test_full_memory_halves_what_goes_through_at_once(error):
    loss = build_loss(TRAINING.revised(supervision_weights=(0.7, 0.3)))
    _, expected = gradients(model(dropout=0.5), loss, 2)
    network, changes = model(dropout=0.5), []
    sizes = full_for(network, 2, error=error)
    micro_batches = MicroBatches(None, (), lambda *change: changes.append(change))
    images, labels = batch()
    torch.manual_seed(1)
    backward(way(network, loss, micro_batches), images, (labels,), 7)
    assert changes == [(7, 3), (7, 2)]
    assert sizes == [5, 3, 2, 2, 1, 2, 2]
    assert_close(expected, {name: item.grad for name, item in network.named_parameters()})


@pytest.mark.parametrize("size", [None, 1])
def test_memory_that_can_be_freed_is_freed_before_the_parts_become_smaller(size):
    """Also where they cannot become smaller."""
    loss = build_loss(TRAINING.revised(supervision_weights=(0.7, 0.3)))
    _, expected = gradients(model(), loss, size)
    network, held, changes = model(), [True], []

    def check(*_):
        if held:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    network.register_forward_pre_hook(check)
    micro_batches = MicroBatches(
        size, (), lambda *change: changes.append(change), lambda: bool(held) and held.pop()
    )
    images, labels = batch()
    backward(way(network, loss, micro_batches), images, (labels,), 0)
    assert changes == []
    assert_close(expected, {name: item.grad for name, item in network.named_parameters()})


def test_full_memory_in_the_backward_pass_leaves_no_gradients_behind():
    loss = build_loss(TRAINING.revised(supervision_weights=(0.7, 0.3)))
    _, expected = gradients(model(), loss, 3)
    network = model()
    failures = iter([True])

    def fail(*_):
        if next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    network.encoder[1].register_full_backward_hook(fail)
    _, found = gradients(network, loss, None)
    assert_close(expected, found)


def test_running_statistics_forget_what_failed():
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 3, 3))
    full_for(network[1], 2)
    gradients(network, lambda logits, labels: logits.square().mean(), None)
    assert network[0].num_batches_tracked == 3  # of the parts, of 2, 2 and 1


def test_full_memory_for_a_single_sample_is_an_error():
    network = model()
    full_for(network, 0)
    with pytest.raises(torch.OutOfMemoryError):
        gradients(network, build_loss(TRAINING), None)


def test_another_error_is_no_matter_of_memory():
    network = model()
    full_for(network, 0, error=RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes"):
        gradients(network, build_loss(TRAINING), None)
    assert is_memory_full(RuntimeError(FULL))


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory",
        "MPS backend out of memory (MPS allocated: 18 GB)",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "Unable to find a valid cuDNN algorithm to run convolution",
        "std::bad_alloc",
    ],
)
def test_full_memory_is_known_by_its_many_names(words):
    assert is_memory_full(RuntimeError(words))
    assert not is_memory_full(ValueError(words))


def test_the_size_is_that_of_the_last_change_before_a_step():
    micro_batches = MicroBatches(8, [(3, 4), (5, 2)])
    assert [micro_batches.at(step) for step in (0, 2, 3, 4, 5, 9)] == [8, 8, 4, 4, 2, 2]
    micro_batches.halve(4, 4)
    assert [micro_batches.at(step) for step in (3, 4, 5)] == [4, 2, 2]


def test_a_change_that_was_found_again_at_an_earlier_step_holds_from_there():
    assert [MicroBatches(8, [(5, 2), (3, 4)]).at(step) for step in (2, 3, 6)] == [8, 4, 4]


class _Waits(TorchDispatchMode):
    """Counts what would wait for a device: numbers that Python asks for, copies to the CPU."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        if "_local_scalar_dense" in name or "nonzero" in name or "is_nonzero" in name:
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_step_never_waits_for_the_device(monkeypatch, optimizer, precision):
    execution = Execution(device="cpu", precision=precision)
    training = TRAINING.revised(optimizer=optimizer, supervision_weights=(0.7, 0.3), ema_decay=0.9)
    learner = make_learner(model(), training, execution)
    images, labels = batch(2)
    item: Any = SimpleNamespace(images=images, labels=labels, annotated=None)
    copies = []
    for name in ("cpu", "item", "tolist", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_, name=name: copies.append(name))
    steps = train(
        learner,
        [item, item, item],
        build_loss(training),
        execution=execution,
        learning_rate=lambda _: 0.1,
        max_gradient_norm=12.0,
        micro_batches=MicroBatches(None, [(2, 1)]),
    )
    with _Waits() as waits:
        assert len(list(steps)) == 3
    assert (waits.count, copies) == (0, [])


def test_what_torch_says_of_full_memory_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_memory_full(caught.value)

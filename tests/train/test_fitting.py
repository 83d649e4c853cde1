import json
from dataclasses import replace

import pytest
import torch

from autoseg.errors import TrainingError
from autoseg.network.execution import Execution
from autoseg.train import accumulate, fitting
from autoseg.train.fitting import expected_memory, fitting_micro_batch, memory_told
from autoseg.train.fold import Interrupted, train_fold
from autoseg.train.records import RunSettings

CPU = Execution(device="cpu", precision="fp32")
FULL = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"


def ignore_progress(_):
    return None


def never():
    return False


def after(calls):
    """Return a stop request that comes with the given call."""
    count = iter(range(10**9))
    return lambda: next(count) >= calls


def with_batch(job, size):
    item = job.planned.revised(batch_size=size)
    item = item.revised(network=item.network.revised(dropout=0.2))
    return replace(job, plan=job.plan.revised(configurations=(item,)))


def with_sgd(job):
    training = job.planned.training.revised(optimizer="sgd", peak_lr=0.01)
    item = job.planned.revised(training=training)
    return replace(job, plan=job.plan.revised(configurations=(item,)))


def events(job):
    return [json.loads(line) for line in job.folder.events.read_text().splitlines()]


def weights(job):
    return torch.load(job.folder.final, weights_only=True)["weights"]


def assert_same_weights(first, second):
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def fill(monkeypatch):
    """Return a function that makes memory full, for more than some samples, at the n-th pass."""
    once = accumulate._at_once

    def at(most, calls):
        count = iter(range(10**9))

        def full(way, images, targets):
            if next(count) >= calls and len(images) > most:
                way.model(images)  # random numbers are drawn before memory is full
                raise RuntimeError(FULL)
            return once(way, images, targets)

        monkeypatch.setattr(accumulate, "_at_once", full)

    return at


def test_a_fold_whose_memory_is_full_goes_on_with_smaller_parts(make_job, fill):
    job = with_batch(make_job(num_steps=5), 3)
    seen = []
    fill(2, 2)
    result = train_fold(job, seen.append, never)
    assert result.num_steps == 5
    assert events(job) == [{"event": "micro_batch", "step": 2, "micro_batch": 2}]
    assert any("memory was full in step 3" in str(item.get("text")) for item in seen)


def test_a_run_that_was_cut_goes_on_bit_by_bit_after_an_interruption(make_job, fill):
    whole, again = (with_batch(make_job(num_steps=5), 3) for _ in range(2))
    fill(2, 3)
    train_fold(whole, ignore_progress, never)
    fill(2, 3)
    with pytest.raises(Interrupted):
        train_fold(again, ignore_progress, after(1))
    # As if it had been killed after step 4 and had its last checkpoint from step 2.
    again.folder.events.write_text('{"event": "micro_batch", "step": 3, "micro_batch": 2}\n')
    fill(99, 0)
    train_fold(again, ignore_progress, never)
    assert_same_weights(whole, again)


def test_cases_may_take_half_of_what_a_device_has_left(make_job, monkeypatch):
    job = make_job()
    assert fitting.resident_bytes(job) == 0  # a processor has no memory of its own
    needed = expected_memory(job, "fp32", job.planned.batch_size)
    for free, expected in ((needed + 1000, 500), (needed - 1000, 0)):
        monkeypatch.setattr(fitting, "free_memory", lambda _, free=free: free)
        assert fitting.resident_bytes(job) == expected
    item = job.planned.revised(previous_stage="3d_lowres")
    plan = job.plan.model_copy(update={"configurations": (item,)})
    monkeypatch.setattr(fitting, "free_memory", lambda _: 10**15)
    assert fitting.resident_bytes(replace(job, plan=plan)) == 0


def test_a_copy_takes_over_what_its_fold_has_found_out(make_job):
    job = with_batch(make_job(), 4)
    settings = RunSettings.model_construct(micro_batch=None)
    job.folder.root.mkdir(parents=True)
    job.folder.events.write_text('{"event": "micro_batch", "step": 3, "micro_batch": 2}\n')
    copy = replace(job, branch=0)
    found = fitting.read_micro_batches(copy, settings, ignore_listeners(), lambda: False)
    assert (found.at(2), found.at(3)) == (None, 2)
    found.halve(4, 2)
    assert events(job)[-1] == {"event": "micro_batch", "step": 4, "micro_batch": 1}


def ignore_listeners():
    return fitting.Listeners(ignore_progress, never)


def test_memory_that_is_full_for_one_sample_ends_in_an_error_that_says_what_would_fit(
    make_job, fill
):
    job = with_batch(make_job(num_steps=5), 1)
    fill(0, 0)
    with pytest.raises(TrainingError, match="16 x 16 x 16") as caught:
        train_fold(job, ignore_progress, never)
    assert "alloc_cpu" in caught.value.found
    assert "--memory 0.8GB" in caught.value.fix


def test_other_errors_are_none_of_memory(make_job):
    with pytest.raises(RuntimeError, match="shapes"), memory_told(make_job()):
        raise RuntimeError("shapes differ")


def test_a_batch_that_does_not_fit_is_cut_before_the_run(make_job, monkeypatch):
    job = with_batch(make_job(num_steps=3), 8)
    assert fitting_micro_batch(job, CPU) is None
    room = expected_memory(job, "fp32", 3)
    monkeypatch.setattr(fitting, "usable_memory", lambda: room)
    assert fitting_micro_batch(job, CPU) == 2
    monkeypatch.setattr(fitting, "usable_memory", lambda: 1)
    assert fitting_micro_batch(job, CPU) == 1


def test_what_was_decided_is_written_and_trains_like_the_whole_batch(make_job, monkeypatch):
    # Adam would turn differences of the last bit, where gradients are almost 0, into whole steps.
    whole, parts = (with_sgd(make_job(num_steps=3)) for _ in range(2))
    size = whole.planned.batch_size
    train_fold(whole, ignore_progress, never)
    monkeypatch.setattr(fitting, "usable_memory", lambda: 1)
    train_fold(parts, ignore_progress, never)
    assert size > 1
    assert RunSettings.load(whole.folder.settings).micro_batch is None
    assert RunSettings.load(parts.folder.settings).micro_batch == 1
    a, b = weights(whole), weights(parts)
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=0, atol=1e-3)

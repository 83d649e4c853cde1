from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from autoseg.network.execution import Execution
from autoseg.testing.plans import small_configuration
from autoseg.train.device_batches import DeviceBatches, PackedBatch
from autoseg.train.fold import Interrupted, _batches, train_fold
from autoseg.train.learner import build_learner, build_loss
from autoseg.train.loop import train
from autoseg.train.origin import read_settings
from autoseg.train.probe import run_settings
from autoseg.train.records import RunSettings
from autoseg.train.sampling import Batch
from autoseg.train.task import augmentation_place

CPU = Execution(device="cpu", precision="fp32")


def ignore_progress(_):
    return None


def changed(job, objective="segmentation", **changes: Any):
    """Return a job whose plan augments otherwise."""
    item = job.planned
    augmentation = item.training.augmentation.revised(**changes)
    item = item.revised(training=item.training.revised(augmentation=augmentation))
    others = [other for other in job.plan.configurations if other.name != item.name]
    plan = job.plan.revised(configurations=(*others, item))
    return replace(job, plan=plan, objective=objective)


def on_device(job):
    return changed(job, place="device")


def stop_after(calls):
    count = iter(range(10**9))
    return lambda: next(count) >= calls


def weights(job):
    return torch.load(job.folder.final, weights_only=True)["weights"]


@pytest.fixture
def free(monkeypatch):
    """Return a function that lets the processor count as a device with so much memory."""

    def change(num_bytes):
        monkeypatch.setattr("autoseg.train.task.resident_bytes", lambda _: num_bytes)

    return change


def test_batches_are_those_of_the_workers_but_for_noise(make_job):
    job = changed(make_job(), noise_probability=0.0, gamma_probability=0.5)
    job = changed(job, rotation_probability=0.5, scale_probability=0.5)
    theirs, ours = _batches(job), _batches(on_device(job))
    assert isinstance(ours, DeviceBatches)
    for step in range(3):
        expected, found = theirs.batch(step).on(CPU), ours.batch(step).on(CPU)
        assert torch.equal(found.labels, expected.labels)
        assert found.labels.dtype == expected.labels.dtype
        torch.testing.assert_close(found.images, expected.images, atol=1e-4, rtol=0)


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_batches_depend_on_their_step_only(make_job, num_workers):
    job = on_device(make_job())
    stream = _batches(job).stream_from(2, 6, num_workers)
    found = [batch.on(CPU) for batch in stream]
    expected = [_batches(job).batch(step).on(CPU) for step in range(2, 6)]
    assert all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        for a, b in zip(found, expected, strict=True)
    )


def test_interrupted_run_goes_on_to_the_same_weights(make_job):
    whole, broken = on_device(make_job()), on_device(make_job())
    train_fold(whole, ignore_progress, lambda: False)
    with pytest.raises(Interrupted):
        train_fold(broken, ignore_progress, stop_after(3))
    train_fold(broken, ignore_progress, lambda: False)
    assert RunSettings.load(broken.folder.settings).augment_on == "device"
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights(whole).values(), weights(broken).values(), strict=True)
    )


@pytest.mark.parametrize("num_bytes", [0, 10**9])
def test_a_training_step_waits_for_nothing(make_job, free, num_bytes):
    free(num_bytes)
    job = on_device(make_job())
    # Of AdamW the processor's form alone reads its count of steps.
    training = job.planned.training.revised(optimizer="sgd", momentum=0.9)
    batches = (_batches(job).batch(step).on(CPU) for step in range(3))
    steps = train(
        build_learner(job.planned.revised(training=training), CPU, 0),
        batches,
        build_loss(training),
        execution=CPU,
        learning_rate=lambda _: 0.01,
        max_gradient_norm=12.0,
    )
    next(steps)
    with torch.autograd.profiler.profile() as profile:
        next(steps)
    assert profile is not None
    seen = {event.name for event in profile.function_events or ()}
    assert "aten::index_select" in seen
    assert not {"aten::_local_scalar_dense", "aten::nonzero"} & seen


def test_which_classes_a_patch_annotates_goes_along(make_job):
    job = on_device(make_job())
    packed = _batches(job).batch(0)
    assert isinstance(packed, PackedBatch)
    assert packed.on(CPU).annotated is None
    known = torch.ones((2, 2), dtype=torch.bool)
    found = replace(packed, annotated=known).on(CPU)
    assert found.annotated is not None
    assert torch.equal(found.annotated, known)


def test_patches_are_changed_on_a_gpu_and_by_workers_elsewhere(make_job):
    job = make_job()
    assert augmentation_place(job) == "workers"
    assert augmentation_place(replace(job, device="mps")) == "workers"
    assert augmentation_place(replace(job, device="cuda:1")) == "device"
    assert augmentation_place(on_device(job)) == "device"
    assert augmentation_place(changed(replace(job, device="cuda"), place="workers")) == "workers"
    assert augmentation_place(replace(job, device="cuda", objective="denoising")) == "workers"
    assert augmentation_place(changed(job, "denoising", place="device")) == "workers"


def test_where_patches_are_changed_is_decided_once(make_job):
    job = on_device(make_job())
    assert run_settings(job, _batches(job)).augment_on == "device"
    old = RunSettings.load(job.folder.settings).model_dump()
    del old["augment_on"]
    settings = RunSettings.model_validate(old)
    assert settings.augment_on == "workers"
    job.folder.settings.write_text(settings.to_json())
    assert read_settings(job) == settings
    assert augmentation_place(job) == "workers"
    assert isinstance(_batches(job).batch(0), Batch)


def same(first, second):
    return torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)


@pytest.mark.parametrize(
    "changes", [{}, {"cutmix_probability": 0.5, "copy_paste_probability": 0.5}]
)
def test_patches_that_are_cut_on_the_device_are_those_that_are_read(make_job, free, changes):
    job = changed(on_device(make_job()), rotation_probability=0.5, scale_probability=0.5, **changes)
    expected = [_batches(job).batch(step).on(CPU) for step in range(4)]
    case = job.store.info(job.train_cases[0])
    for most in (10**9, 5 * int(np.prod(case.shape))):  # all cases, and some of them
        free(most)
        batches: Any = _batches(job)
        packed = [batches.batch(step) for step in range(4)]
        assert any(item.packed.voxels.numel() for item in packed) == (most < 10**9 or bool(changes))
        assert any(cut is not None for item in packed for cut in item.packed.cuts)
        assert all(same(a, b.on(CPU)) for a, b in zip(expected, packed, strict=True))


def test_slices_are_cut_on_the_device_too(make_job, free):
    job = on_device(make_job())
    item = small_configuration((16, 16), image_axes=3, batch_size=3)
    plan = job.plan.model_copy(update={"configurations": (item.revised(name=job.configuration),)})
    job = on_device(replace(job, plan=plan))
    expected = _batches(job).batch(0).on(CPU)
    free(10**9)
    packed = _batches(job).batch(0)
    assert isinstance(packed, PackedBatch)
    assert None not in packed.packed.cuts
    assert same(expected, packed.on(CPU))


def test_cases_leave_the_device_when_its_memory_is_needed(make_job, free):
    job = on_device(make_job())
    free(10**9)
    batches = _batches(job)
    ahead = batches.batch(0)
    expected = ahead.on(CPU)
    assert batches.relieve()
    assert same(expected, ahead.on(CPU))
    found = batches.batch(0)
    assert isinstance(found, PackedBatch)
    assert set(found.packed.cuts) == {None}
    assert same(expected, found.on(CPU))
    assert not batches.relieve()
    assert not _batches(make_job()).relieve()


def test_a_fold_trains_alike_with_and_without_cases_on_the_device(make_job, free):
    found = []
    for num_bytes in (0, 10**9):
        free(num_bytes)
        job = on_device(make_job(num_steps=2, val_cases=()))
        train_fold(job, ignore_progress, lambda: False)
        found.append(weights(job))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_batch_on_a_device_is_not_copied_again():
    images = torch.from_numpy(np.zeros((2, 1, 4, 4), np.float32))
    batch = Batch(images, torch.zeros((2, 4, 4), dtype=torch.int16)).on(CPU)
    assert batch.images is images
    assert batch.annotated is None


@pytest.mark.parametrize("num_bytes", [0, 10**15])
def test_a_second_stage_trains_alike_on_a_device_and_with_workers(
    make_second_stage, monkeypatch, num_bytes
):
    monkeypatch.setattr("autoseg.train.fitting.free_memory", lambda _: num_bytes)
    job = make_second_stage(num_steps=3)
    theirs = changed(job, noise_probability=0.0, previous_change_probability=1.0)
    ours = on_device(theirs)
    for step in range(3):
        expected, found = (_batches(one).batch(step).on(CPU) for one in (theirs, ours))
        assert found.images.shape == expected.images.shape == (2, 1 + 1, 16, 16, 16)
        assert torch.equal(found.labels, expected.labels)
        assert torch.equal(found.images[:, 1:], expected.images[:, 1:])
        assert set(found.images[:, 1:].unique().tolist()) <= {0.0, 1.0}
        torch.testing.assert_close(found.images, expected.images, atol=1e-4, rtol=0)
    train_fold(ours, ignore_progress, lambda: False)
    assert RunSettings.load(ours.folder.settings).augment_on == "device"
    assert len(list(ours.folder.validation.iterdir())) == len(ours.val_cases)


def test_a_step_of_a_second_stage_waits_for_nothing(make_second_stage):
    job = changed(make_second_stage(), place="device", previous_change_probability=1.0)
    packed = _batches(job).batch(0)
    with torch.autograd.profiler.profile() as profile:
        packed.on(CPU)
    assert profile is not None
    seen = {event.name for event in profile.function_events or ()}
    assert "aten::cat" in seen
    assert not {"aten::_local_scalar_dense", "aten::nonzero"} & seen

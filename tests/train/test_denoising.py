import json
from dataclasses import replace

import pytest
import torch

from autoseg.errors import TrainingError
from autoseg.network.build import build_network
from autoseg.train.denoising import NoiseError, denoising_batches
from autoseg.train.fold import Interrupted, train_fold
from autoseg.train.records import FoldResult, Request

CACHE_BYTES = 10**6


@pytest.fixture
def pretraining(make_job):
    """Return a function that makes jobs of learning without labels."""

    def make(num_steps=3, **changes):
        return make_job(num_steps=num_steps, val_cases=(), objective="denoising", **changes)

    return make


def run(job, should_stop=lambda: False):
    return train_fold(job, lambda _: None, should_stop)


def after(calls):
    count = iter(range(10**9))
    return lambda: next(count) >= calls


def last(job):
    return torch.load(job.folder.last, weights_only=True)


def test_a_training_can_begin_with_the_weights(pretraining):
    job = pretraining()
    result = run(job)
    assert result == FoldResult.load(job.folder.result)
    assert (result.num_steps, result.scores) == (3, ())
    content = last(job)
    assert content["classes"] is None
    assert content["channels"] == ["MRI"]
    assert content["images"] == list(job.train_cases)
    left = build_network(job.planned.network).load_state_dict(content["network"], strict=False)
    assert not left.unexpected_keys
    assert {name.split(".")[0] for name in left.missing_keys} == {"heads"}


def test_its_files_lie_apart_from_those_of_the_folds(pretraining):
    first, every = pretraining(fold="0"), pretraining(fold="all")
    assert first.folder.root == first.root / "pretraining" / "3d_fullres" / "fold_0"
    assert every.folder.last == every.root / "pretraining" / "3d_fullres" / "last.pt"


def test_an_interrupted_run_goes_on_to_the_same_weights(pretraining):
    whole, parted = pretraining(num_steps=4), pretraining(num_steps=4)
    run(whole)
    with pytest.raises(Interrupted):
        run(parted, after(1))
    assert last(parted)["network"].keys() == last(whole)["network"].keys()
    run(parted)
    first, second = last(whole)["network"], last(parted)["network"]
    assert all(torch.equal(first[name], second[name]) for name in first)
    lines = [json.loads(line) for line in parted.folder.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


def test_a_finished_run_is_not_begun_with_another_length(pretraining):
    def asked(steps):
        return Request(num_steps=steps, budget_s=None, is_explicit=True)

    job = pretraining(num_steps=1, request=asked(1))
    run(job)
    with pytest.raises(TrainingError, match="pretraining of 3d_fullres for fold 0"):
        run(pretraining(num_steps=2, request=asked(2), root=job.root))


def test_a_budget_is_kept(pretraining):
    result = run(pretraining(num_steps=None, budget_s=1.0))
    assert result.num_steps >= 1
    assert result.train_seconds < 6.0


def test_a_batch_depends_on_its_step_alone(pretraining):
    batches = denoising_batches(pretraining(), CACHE_BYTES)
    third = list(batches.stream_from(1, 4, 1))[1]
    again = batches.batch(2)
    assert torch.equal(third.images, again.images)
    assert torch.equal(third.labels, again.labels)
    assert not torch.equal(batches.batch(3).labels, again.labels)


def test_the_last_channel_says_how_much_noise_there_is(pretraining):
    batches = denoising_batches(pretraining(), CACHE_BYTES)
    seen = []
    for step in range(20):
        batch = batches.batch(step)
        assert batch.images.shape == (2, 2, 16, 16, 16)
        for image, noise in zip(batch.images, batch.labels, strict=True):
            (told,) = image[1].unique()
            likeness = torch.corrcoef(torch.stack([image[0].flatten(), noise.flatten()]))[0, 1]
            seen.append((told.item(), likeness.item()))
    early = [likeness for told, likeness in seen if told < 200]
    late = [likeness for told, likeness in seen if told > 800]
    assert max(early) < 0.6 < 0.9 < min(late)


def test_labels_have_no_part_in_what_is_seen(pretraining, monkeypatch):
    job = pretraining()
    before = denoising_batches(job, CACHE_BYTES).batch(0)
    monkeypatch.setattr("autoseg.preprocess.store.CaseStore.flat_locations", None)
    monkeypatch.setattr("autoseg.train.sampling.read_labels", lambda stored, box: _nothing(box))
    assert torch.equal(denoising_batches(job, CACHE_BYTES).batch(0).images, before.images)


def test_changes_that_need_labels_or_other_images_have_no_part_in_it(pretraining):
    job = pretraining()
    before = denoising_batches(job, CACHE_BYTES).batch(0)
    (planned,) = job.plan.configurations
    augmentation = planned.training.augmentation.revised(
        cutmix_probability=1.0, copy_paste_probability=1.0, channel_dropout_probability=0.9
    )
    changed = planned.revised(training=planned.training.revised(augmentation=augmentation))
    mixing = replace(job, plan=job.plan.revised(configurations=(changed,)))
    assert torch.equal(denoising_batches(mixing, CACHE_BYTES).batch(0).images, before.images)


def _nothing(box):
    return torch.zeros([high - low for low, high in box], dtype=torch.int16).numpy()


def test_the_error_is_that_of_the_centre_where_no_more_is_predicted():
    noise = torch.zeros(1, 1, 6, 6)
    noise[:, :, 2:4, 2:4] = 2
    assert NoiseError()(torch.zeros(1, 1, 2, 2), noise).item() == 4
    assert NoiseError()(torch.zeros(1, 1, 6, 6), noise).item() == pytest.approx(4 * 4 / 36)


@pytest.mark.slow
def test_noise_is_learnt_to_be_told(pretraining):
    job = pretraining(num_steps=150)
    run(job)
    losses = [json.loads(line)["loss"] for line in job.folder.metrics.read_text().splitlines()]
    assert sum(losses[-20:]) / 20 < 0.4 * sum(losses[:5]) / 5

"""Validation of a second stage shows its network what the first one found in the case."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autoseg.network.execution import Execution
from autoseg.runtime.cascade import CERTAIN, find_previous, one_hot
from autoseg.runtime.images import read_labels
from autoseg.runtime.prepare import Placement
from autoseg.train.fold import train_fold
from autoseg.train.job import Listeners
from autoseg.train.overfitting import training_dice
from autoseg.train.validation import (
    _everywhere,
    found_before,
    overlaps,
    predict_case,
    prediction_path,
    see,
    validate,
)

CPU = Execution(device="cpu", precision="fp32")
QUIET = Listeners(lambda _: None, lambda: False)


class Seeing(nn.Module):
    """Keeps what it sees, and believes the last channel of it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.numpy().copy())
        return torch.stack([1 - x[:, -1], x[:, -1]], dim=1)


def with_margin(job, margin):
    *others, item = job.plan.configurations
    item = item.revised(region_margin=margin)
    return replace(job, plan=job.plan.revised(configurations=(*others, item)))


def logits(job, case_id, network=None):
    rows = predict_case(job, network or Seeing(), CPU, case_id)
    return np.concatenate([part.values for part in rows], axis=1)


def previous_of(job, case_id) -> Any:
    return np.asarray(job.previous.labels(case_id)[:])


def test_without_a_previous_stage_nothing_was_found_before(make_job):
    job = make_job()
    assert found_before(job, job.val_cases[0]) is None


def test_what_was_found_before_lies_on_the_grid_of_the_prepared_case(make_second_stage):
    job = make_second_stage()
    case_id = job.val_cases[0]
    previous = found_before(job, case_id)
    assert previous is not None
    np.testing.assert_array_equal(previous.labels, previous_of(job, case_id))
    assert previous.num_classes == 2
    assert previous.margins is None


@pytest.mark.parametrize("margin", [0.0, 1.0, 2.5, 7.0])
def test_margins_reach_as_far_as_those_of_the_artifact(make_second_stage, margin):
    job = with_margin(make_second_stage(), margin)
    case_id = job.val_cases[0]
    info = job.store.info(case_id)
    placement = Placement.from_dict(info.placement)
    expected = find_previous(
        np.zeros(placement.image_shape, np.uint8),
        placement,
        job.planned.recipe,
        info.spacing,  # as wide as before: nothing is resampled
        num_classes=2,
        margin=margin,
    )
    found = found_before(job, case_id)
    assert found is not None
    assert found.margins == expected.margins == (int(margin),) * 3
    assert found.labels.shape == expected.labels.shape


def test_the_network_sees_the_image_and_then_what_was_found_in_it(make_second_stage):
    job = make_second_stage()
    case_id = job.val_cases[0]
    network = Seeing()
    logits(job, case_id, network)
    first = np.concatenate(network.seen)[0]
    image = np.asarray(job.store.image(case_id)[:])
    corner = (slice(None), *(slice(0, n) for n in job.planned.patch_size))
    np.testing.assert_allclose(first[:1], image[corner].astype(np.float32))
    np.testing.assert_array_equal(first[1:], one_hot(previous_of(job, case_id), 2)[corner])


def test_what_a_network_makes_of_previous_labels_lies_on_their_voxels(make_second_stage):
    job = make_second_stage()
    for case_id in job.val_cases:
        found = logits(job, case_id).argmax(axis=0)
        np.testing.assert_array_equal(found, previous_of(job, case_id))


def test_other_previous_labels_give_another_prediction(make_second_stage, find_previous):
    job = make_second_stage()
    case_id = job.val_cases[0]
    before = logits(job, case_id)
    find_previous(job, [case_id], off=5)
    assert (logits(job, case_id) != before).any()


def test_tiles_far_from_what_was_found_before_are_not_computed(make_second_stage, find_previous):
    job = with_margin(make_second_stage(), 0.0)
    case_id = job.val_cases[0]
    store = find_previous(job, [])
    store.write(case_id, np.zeros_like(previous_of(job, case_id)), (16, 16, 16), "nothing")
    network = Seeing()
    found = logits(job, case_id, network)
    assert network.seen == []
    np.testing.assert_allclose(found[0] - found[1], CERTAIN, rtol=1e-3)


def test_looks_on_the_way_see_previous_labels_too(make_second_stage, find_previous):
    job = make_second_stage()
    find_previous(job, job.val_cases[:1], off=0)
    scores = [see(job, Seeing(), CPU, [case_id], QUIET).dice for case_id in job.val_cases]
    assert scores[0] == [1.0]
    assert scores[1][0] is not None
    assert 0 < scores[1][0] < 1
    inner, total = overlaps(job, Seeing(), CPU, job.val_cases[1])
    found, known = previous_of(job, job.val_cases[1]), job.store.labels(job.val_cases[1])[:]
    assert inner == [(found & known).sum()]
    assert total == [found.sum() + known.sum()]


def test_dice_on_training_cases_sees_previous_labels_too(make_second_stage, find_previous):
    job = make_second_stage()
    find_previous(job, job.train_cases, off=0)
    assert training_dice(job, Seeing(), CPU, 10**6) == (1.0,)


def test_validation_writes_and_scores_what_the_second_stage_found(make_second_stage):
    job = make_second_stage()
    scores, _ = validate(job, Seeing(), CPU, QUIET)
    assert [score.case_id for score in scores] == list(job.val_cases)
    for case_id in job.val_cases:
        written = read_labels(prediction_path(job, case_id)).array[0]
        assert (written > 0).sum() == previous_of(job, case_id).sum()


def test_a_prediction_that_was_deleted_is_made_again_once_the_result_is_gone(make_job):
    job = make_job(num_steps=2)
    result = train_fold(job, lambda _: None, lambda: False)
    lost, kept = (prediction_path(job, case_id) for case_id in job.val_cases)
    before, time = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    job.folder.result.unlink()
    again = train_fold(job, lambda _: None, lambda: False)
    assert lost.read_bytes() == before
    assert kept.stat().st_mtime_ns == time
    assert again.scores == result.scores


class Certain(nn.Module):
    """Gives every voxel one class."""

    def __init__(self, index):
        super().__init__()
        self.index = index

    def forward(self, x):
        found = torch.zeros(len(x), 2, *x.shape[2:])
        found[:, self.index] = CERTAIN
        return found


@pytest.mark.parametrize(
    ("found", "voxels", "expected"),
    [
        ((990, 0), (800, 200, 0), 1),
        ((0, 960), (800, 100, 100), 2),
        ((940, 0), (800, 200, 0), None),  # some voxels are told apart
        ((990, 0), (100, 900, 0), None),  # it really is nearly everywhere
        ((0, 0), (800, 200, 0), None),
    ],
)
def test_a_class_is_found_everywhere_if_few_voxels_are_anything_else(found, voxels, expected):
    assert _everywhere(np.array(found), np.array(voxels)) == expected


def test_a_look_knows_when_every_voxel_is_given_one_foreground_class(make_job):
    job = make_job()
    for index, everywhere in ((0, None), (1, 1)):
        seen = see(job, Certain(index), CPU, job.val_cases, QUIET)
        assert seen.everywhere == everywhere

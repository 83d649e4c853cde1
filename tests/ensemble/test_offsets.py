"""Thresholds are moved only where the Dice of other cases rises."""

import numpy as np
import pytest

from autoseg.ensemble.choose import Member, choose_ensemble
from autoseg.ensemble.offsets import OFFSETS, choose_offsets, count_offsets, in_words
from autoseg.ensemble.postprocessing import choose_postprocessing
from autoseg.ensemble.stored import Source, find_places, load_places
from autoseg.ensemble.weights import class_dice
from autoseg.train.records import FoldResult

MEMBERS = (Member(configuration="2d", folds=("0", "1", "2"), weight=1.0),)


def truth():
    labels = np.zeros((10, 12, 14), np.int8)
    labels[1:6, 1:7, 1:7], labels[6:8, 1:7, 1:7] = 1, 2
    return labels


def draw(seed, shift, noise):
    """Return logits of which class 1 has too little by `shift`."""
    rng = np.random.default_rng(seed)
    logits = 2.0 * (truth() == np.arange(3)[:, None, None, None])
    logits = logits + noise * rng.normal(size=logits.shape)
    logits[1] -= shift
    return logits.astype(np.float32)


@pytest.fixture
def trained(source, plan, train, store):
    """Train three folds of two cases, and return them where every case is a patient."""

    def make(shift, noise=0.6):
        for fold in range(3):
            cases = {}
            for index in (2 * fold, 2 * fold + 1):
                logits = draw(index, shift, noise)
                cases[f"case {index}"] = truth(), logits.argmax(axis=0)
                store("2d", str(fold), f"case {index}", logits)
            train("2d", str(fold), cases)
        cases = tuple(case.revised(group=case.id) for case in source.dataset.cases)
        data = source.dataset.revised(cases=cases)
        return Source(plan, data, source.workspace, source.listeners)

    return make


def test_a_class_that_has_too_little_gets_more(trained):
    offsets, (tried,) = choose_offsets(trained(1.5), MEMBERS)
    assert tried.used
    assert offsets[0] == 0.0
    assert offsets[1] >= 1.0
    assert tried.gain is not None
    assert tried.gain > 0.02
    assert tried.best.startswith("large +")


def test_probabilities_that_are_right_stay(trained):
    offsets, (tried,) = choose_offsets(trained(0.0, noise=0.3), MEMBERS)
    assert offsets == ()
    assert not tried.used
    assert "kept as planned" in tried.reason


def test_each_offset_is_counted_as_the_runtime_decides(trained):
    source = trained(1.0)
    (loaded, *_) = load_places(source, find_places(source, MEMBERS), "counting")
    table = count_offsets(source, loaded, MEMBERS)
    for index in (1, 2):
        for column, by in enumerate(OFFSETS):
            offsets = [0.0, 0.0, 0.0]
            offsets[index] = by
            expected = class_dice(loaded.labels(MEMBERS, offsets), loaded.reference, 3)
            assert table[index - 1, column] == pytest.approx(expected[index - 1], abs=5e-3)


def test_objects_are_judged_after_the_offsets_that_were_chosen(trained, workspace):
    source = trained(1.5)
    results = [
        FoldResult.load(path) for path in sorted(workspace.training.glob("*/fold_*/result.json"))
    ]
    ensemble = choose_ensemble(source.plan, workspace, results)
    offsets, tried = choose_offsets(source, ensemble.members)
    found = choose_postprocessing(source, ensemble, offsets, tried)
    assert found.offsets == offsets
    assert [item.name for item in found.tried] == ["thresholds", "smallest object"]
    assert found.dice == pytest.approx(tried[0].in_sample)
    assert ensemble.candidates[0].dice is not None
    assert found.dice is not None
    assert found.dice > ensemble.candidates[0].dice + 0.02


def test_without_stored_probabilities_nothing_is_moved(source, train):
    train("2d", "0", {"case 0": (truth(), truth())})
    offsets, (tried,) = choose_offsets(source, [MEMBERS[0].revised(folds=("0",))])
    assert offsets == ()
    assert "stored probabilities" in tried.reason


def test_two_classes_have_a_threshold():
    assert in_words((0.0, 1.0), ("background", "ball")) == "ball from a probability of 0.27"
    assert in_words((0.0, 0.5, -1.0), ("background", "a", "b")) == "a +0.5, b -1"
    assert in_words((), ("background", "a", "b")) == "as planned"

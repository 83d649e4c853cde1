"""Searches in which nothing is better."""

import numpy as np
import pytest

from autoseg.evaluate.candidates import INCUMBENT, HeldOutScore
from autoseg.seeds import stream
from benchmarks.null_search import by_fold, drawn, mixed, play, rate, replacements


def recorded(run=0.02, case=0.005, seeds=6):
    rng = stream(0, "recorded")
    dice = 0.8 + run * rng.normal(size=(2, seeds, 1)) + case * rng.normal(size=(2, seeds, 8))
    return [
        HeldOutScore(
            candidate=INCUMBENT,
            fold=str(fold),
            seed=seed,
            case=f"{fold}_{index}",
            dice=float(value),
        )
        for (fold, seed, index), value in np.ndenumerate(dice)
    ]


@pytest.mark.parametrize("draw", [drawn, mixed])
def test_played_trainings_vary_and_go_together_as_the_recorded_ones(draw):
    _, table = by_fold(recorded())["0"]
    rng = stream(0, "played")
    played = np.array([draw(table, rng) for _ in range(4000)])
    error = np.abs(np.cov(played.T) - np.cov(table.T)).max()
    assert error < 0.15 * np.cov(table.T).max()
    assert played.mean(axis=0) == pytest.approx(table.mean(axis=0), abs=0.002)


def test_folds_may_have_different_seeds_but_two_at_least():
    scores = [item for item in recorded() if (item.fold, item.seed) != ("1", 5)]
    assert [table.shape for _, table in by_fold(scores).values()] == [(6, 8), (5, 8)]
    with pytest.raises(ValueError, match="1 folds"):
        by_fold([item for item in scores if item.fold == "0"])
    with pytest.raises(ValueError, match="1 seeds"):
        by_fold([item for item in scores if item.fold == "0" or item.seed == 0])


def test_gain_is_added_to_one_finalist():
    folds = by_fold(recorded())
    plain = play(folds, mixed, stream(0, "search"), finalists=2)
    gained = play(folds, mixed, stream(0, "search"), finalists=2, gain=0.1)
    added = {
        one.candidate: (two.dice or 0) - (one.dice or 0)
        for one, two in zip(plain, gained, strict=True)
    }
    assert added == pytest.approx({INCUMBENT: 0, "trial 1": 0.1, "trial 2": 0})


def test_noise_is_seldom_taken_for_a_gain_and_a_large_gain_is_found():
    folds = by_fold(recorded())
    assert replacements(folds, mixed, 20) <= 3
    assert replacements(folds, mixed, 20, gain=0.15) >= 14


def test_rate_is_told_with_its_interval():
    assert rate(0, 100) == "0.0% (0.0% to 3.6%)"

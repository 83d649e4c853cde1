"""Means and intervals."""

import json

import numpy as np
import pytest

from autoseg.evaluate.scores import CaseScore, ClassScore
from autoseg.evaluate.statistics import case_mean, foreground_mean, summarise
from autoseg.seeds import stream


def case(name, *dices):
    classes = [
        ClassScore(
            dice=value, iou=value, hd95=value, nsd=value, predicted_voxels=1, reference_voxels=1
        )
        for value in dices
    ]
    return CaseScore(case_id=name, classes=tuple(classes))


def interval(values, seed):
    dice = summarise([case(str(index), value) for index, value in enumerate(values)], seed)
    return dice.classes[0].dice.low, dice.classes[0].dice.high


def test_classes_are_averaged_over_cases_first():
    scores = [case("a", 1.0, None), case("b", 0.5, None), case("c", 0.0, 0.2)]
    summary = summarise(scores)
    assert summary.classes[0].dice.mean == pytest.approx(0.5)
    assert summary.classes[1].dice.mean == pytest.approx(0.2)
    assert summary.foreground.dice.mean == pytest.approx(0.35)  # not the mean of the case means
    assert foreground_mean(scores) == pytest.approx(0.35)


def test_cases_that_do_not_count_are_counted():
    summary = summarise([case("a", 1.0, None), case("b", None, None), case("c", 0.0, 0.2)])
    assert [row.dice.num_cases for row in summary.classes] == [2, 1]
    assert summary.foreground.dice.num_cases == 2
    assert summary.num_cases == 3


def test_class_that_never_counts_has_no_mean_and_spoils_no_other():
    summary = summarise([case("a", 0.8, None), case("b", 0.6, None)])
    assert summary.classes[1].dice.mean is None
    assert summary.classes[1].dice.low is None
    assert summary.foreground.dice.mean == pytest.approx(0.7)
    assert case_mean(case("a", None, None)) is None


def test_interval_is_that_of_the_mean():
    values = stream(0, "values").normal(0.8, 0.1, 400)
    low, high = interval(values, seed=0)
    error = values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=error / 3)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=error / 3)


@pytest.mark.parametrize("num_rare", [1, 2])
def test_interval_of_the_mean_is_always_about_the_same_classes(num_rare):
    # Many resamples have no case with the rare class, whose Dice is far from the other's.
    easy = stream(0, "values").normal(0.9, 0.01, 20)
    rare = [0.1 if index < num_rare else None for index in range(20)]
    summary = summarise(
        [
            case(str(i), value, other)
            for i, (value, other) in enumerate(zip(easy, rare, strict=True))
        ]
    )
    mean, alone = summary.foreground.dice, summary.classes[0].dice
    assert mean.low is not None
    assert mean.high is not None
    assert alone.low is not None
    assert alone.high is not None
    assert mean.low == pytest.approx((alone.low + 0.1) / 2)
    assert mean.high == pytest.approx((alone.high + 0.1) / 2)


def test_interval_depends_on_the_seed_alone():
    values = [0.1, 0.5, None, 0.9, 0.7]
    assert interval(values, seed=1) == interval(values, seed=1)
    assert interval(values, seed=1) != interval(values, seed=2)


def test_one_case_has_no_spread():
    assert interval([0.75], seed=0) == (0.75, 0.75)


def test_summary_survives_json():
    summary = summarise([case("a", 0.8, None)])
    assert type(summary).from_json(summary.to_json(), "summary") == summary


def test_regions_are_summarised_beside_the_classes():
    scores = [
        case(name, *dices).revised(regions=case(name, *regions).classes)
        for name, dices, regions in (("a", (1.0, 0.0), (0.8,)), ("b", (0.5, 0.5), (0.6,)))
    ]
    summary = summarise(scores)
    assert summary.foreground.dice.mean == pytest.approx(0.5)
    assert summary.regions[0].dice.mean == pytest.approx(0.7)
    assert summary.region_mean is not None
    assert summary.region_mean.dice.mean == pytest.approx(0.7)


def test_scores_from_before_there_were_regions_are_read():
    score = case("a", 1.0)
    old = score.model_dump(mode="json")
    del old["regions"]
    assert CaseScore.from_json(json.dumps(old), "scores") == score
    summary = summarise([score])
    assert (summary.regions, summary.region_mean) == ((), None)

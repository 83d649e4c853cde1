"""What `ensemble`, and `train` at its end, say about the model."""

import json
import re

import pytest

from autoseg.cli.display import print_summary, score_rows
from autoseg.cli.main import main
from autoseg.dataset.dataset import Dataset
from autoseg.ensemble.postprocessing import PostprocessingChoice
from autoseg.evaluate.statistics import summarise
from autoseg.pipeline.finishing import choose
from autoseg.pipeline.summary import summarise_run
from autoseg.plan.consistency import load_plan
from autoseg.train.job import Interrupted, Listeners
from autoseg.train.records import FoldResult


def test_the_ensemble_tells_folds_dice_and_post_processing(scored_place, capsys):
    assert main(["ensemble", "-w", str(scored_place.root)]) == 0
    told = capsys.readouterr().out
    assert "ensemble: 3d_fullres, folds 0, 1\n" in told
    assert re.search(r"Dice: 0\.9\d\d \(0\.9\d\d to 0\.9\d\d\), .* 4 out-of-fold cases", told)
    assert "post-processing: Keeping only the largest component raises" in told
    assert "Dice with post-processing, cross-fitted: 1.000" in told


def test_the_ensemble_is_json_for_programs(scored_place, capsys):
    assert main(["ensemble", "-w", str(scored_place.root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    mean = told["ensemble"]["summary"]["foreground"]["dice"]["mean"]
    assert mean == pytest.approx(told["postprocessing"]["dice"])
    assert told["postprocessing"]["dice_cross_fitted"] == 1.0


def test_the_last_lines_of_training_tell_the_dice_with_post_processing(scored_place, capsys):
    assert main(["ensemble", "-w", str(scored_place.root)]) == 0
    capsys.readouterr()
    print_summary(summarise_run(scored_place))
    assert "Dice with post-processing, cross-fitted: 1.000" in capsys.readouterr().out


def test_each_choice_is_told_and_a_stop_leaves_the_former_ones(scored_place):
    plan, dataset = load_plan(scored_place.plan), Dataset.load(scored_place.dataset)
    told = []
    choose(plan, dataset, scored_place, Listeners(told.append, lambda: False))
    names = [event["name"] for event in told]
    parts = (
        "configurations and weights",
        "mirroring and tile overlap",
        "thresholds",
        "objects to remove",
    )
    assert names == [f"choose: {part}" for part in parts]
    before = scored_place.ensemble.read_bytes(), scored_place.postprocessing.read_bytes()
    with pytest.raises(Interrupted):
        choose(plan, dataset, scored_place, Listeners(told.append, lambda: True))
    assert before == (scored_place.ensemble.read_bytes(), scored_place.postprocessing.read_bytes())


def test_without_a_rule_no_second_dice_is_told(scored_place, capsys):
    assert main(["ensemble", "-w", str(scored_place.root)]) == 0
    capsys.readouterr()
    path = scored_place.postprocessing
    path.write_text(PostprocessingChoice.load(path).revised(steps=()).to_json())
    print_summary(summarise_run(scored_place))
    told = capsys.readouterr().out
    assert "post-processing: " in told
    assert "cross-fitted" not in told


def test_regions_follow_the_classes_in_a_table(scored_place, capsys):
    scores = [
        score.revised(regions=score.classes)
        for path in scored_place.training.rglob("result.json")
        for score in FoldResult.load(path).scores
    ]
    summary = summarise(scores).model_dump(mode="json")
    rows = score_rows(["ball"], summary, ["whole"])
    assert [row[0] for row in rows] == ["ball", "mean", "whole", "mean of regions"]
    assert rows[0][1:] == rows[2][1:]

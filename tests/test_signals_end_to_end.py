"""Signals from tables through both commands to predictions, with the artifact alone, too."""

import json
import subprocess
import sys

import numpy as np
import pytest

from autoseg.cli.main import main
from autoseg.runtime.images import (
    Geometry,
    Image,
    read_image,
    read_labels,
    write_image,
    write_labels,
)
from autoseg.seeds import stream
from autoseg.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

LENGTH, STEP_S, IGNORED = 400, 0.004, 9


def write_beats(root, num_cases, seed):
    """Write signals with a narrow and a wide wave in turn, whose ends nobody annotated."""
    geometry = Geometry((STEP_S,), unit="s")
    for index in range(num_cases):
        rng = stream(seed, "beats", index)
        labels, signal = np.zeros(LENGTH, np.uint8), rng.normal(0, 0.1, LENGTH)
        for start in range(int(rng.integers(5, 30)), LENGTH - 60, 80):
            labels[start : start + 10], labels[start + 25 : start + 50] = 1, 2
            signal[start : start + 10] += 2.0
            signal[start + 25 : start + 50] += np.hanning(25)
        labels[:20], labels[-20:] = IGNORED, IGNORED
        name = f"beat{index}.csv"
        write_image(root / "images" / name, Image(signal[None].astype(np.float32), geometry))
        write_labels(root / "labels" / name, labels, geometry)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("signals")
    data = write_beats(root / "beats", num_cases=8, seed=0)
    spec = root / "beats.json"
    labels = {"background": 0, "narrow": 1, "wide": 2}
    spec.write_text(json.dumps({"channels": ["beat"], "labels": labels, "ignore": IGNORED}))
    place = root / "beats.autoseg"
    plan = ["plan", str(data), "--spec", str(spec), "-w", str(place), "--folds", "2"]
    assert main([*plan, "--budget", "120s"]) == 0
    assert main(["train", "-w", str(place), "--steps", "50", "--folds", "0"]) == 0
    return root, Workspace(place)


def test_waves_are_learnt_and_shown(trained):
    _, place = trained
    result = json.loads(place.fold("1d", "0").result.read_text())
    dice = [score["dice"] for case in result["scores"] for score in case["classes"]]
    assert np.mean(dice) > 0.7
    assert "whole signal" in place.report.read_text(encoding="utf-8")


def test_predictions_of_signals_keep_their_times_and_are_evaluated(trained, capsys):
    root, place = trained
    unseen = write_beats(root / "unseen", num_cases=3, seed=1)
    out = root / "predictions"
    assert main(["predict", str(place.model), str(unseen / "images"), "-o", str(out)]) == 0
    assert len(list(out.glob("*.csv"))) == 3
    geometry = read_labels(out / "beat0.csv").geometry
    assert (geometry.unit, geometry.spacing) == ("s", pytest.approx((STEP_S,)))
    capsys.readouterr()
    command = ["evaluate", str(out), str(unseen / "labels"), "--ignore", str(IGNORED), "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["summary"]["foreground"]["dice"]["mean"] > 0.7


def test_the_artifact_alone_reads_the_same_files(trained):
    root, place = trained
    unseen = write_beats(root / "alone", num_cases=1, seed=2)
    command = [sys.executable, "predict.py", str(unseen / "images"), str(root / "out")]
    subprocess.run(command, cwd=place.model, check=True, capture_output=True)
    assert main(["predict", str(place.model), str(unseen / "images"), "-o", str(root / "o")]) == 0
    own, other = (read_labels(root / name / "beat0.csv").array for name in ("out", "o"))
    assert (own == other).mean() > 0.99


def write_record(folder, name, signal):
    """Write a WFDB record of one lead, "ii", in thousandths."""
    folder.mkdir()
    header = f"{name} 1 {1 / STEP_S:g} {len(signal)}\n{name}.dat 16 1000(0)/mV 16 0 0 0 0 ii\n"
    (folder / f"{name}.hea").write_text(header)
    np.round(1000 * signal).astype("<i2").tofile(folder / f"{name}.dat")


def test_records_are_predicted_like_their_tables(trained, capsys):
    pytest.importorskip("wfdb", reason="needs the extra signals")
    root, place = trained
    unseen = write_beats(root / "recorded", num_cases=1, seed=3) / "images"
    write_record(root / "records", "r", read_image([unseen / "beat0.csv"]).array[0])
    (root / "records" / "broken.hea").write_text("broken 1 250 10\nbroken.dat 16 1\n")
    out = root / "from_records"
    assert main(["predict", str(place.model), str(root / "records"), "-o", str(out)]) == 2
    shown = "".join(capsys.readouterr())
    assert "1 predicted, 0 there already, 1 failed" in shown
    assert "broken.hea cannot be read" in shown
    assert main(["predict", str(place.model), str(unseen), "-o", str(out)]) == 0
    table, record = (out / name for name in ("beat0.csv", "r_ii.csv"))
    assert record.read_text(encoding="utf-8").startswith("t,label\n")
    assert (read_labels(table).array == read_labels(record).array).mean() > 0.99


def test_a_signal_without_times_is_not_stretched_but_refused(trained, capsys):
    root, place = trained
    np.save(root / "bare.npy", np.zeros(LENGTH))
    command = ["predict", str(place.model), str(root / "bare.npy"), "-o", str(root / "bare")]
    assert main(command) == 2
    assert "first column t of times" in "".join(capsys.readouterr())

import json

from autoseg.cli import shared
from autoseg.cli.doctor import machine_rows
from autoseg.cli.main import main
from autoseg.machine import Gpu, TrainedSpeed
from autoseg.plan.speed import estimated_speed
from autoseg.testing.fingerprints import machine_of
from autoseg.testing.synthetic import write_rings


def test_doctor_speaks_in_units(capsys):
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    rows = dict(line.split("\t") for line in told.splitlines() if "\t" in line)
    assert rows["memory"].endswith(" GB")
    assert any(name.startswith("free disk at ") for name in rows)
    assert {"torch", "onnxruntime", "ray", "autoseg", "cache"} <= set(rows)


def test_doctor_is_raw_for_programs(capsys):
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["num_cpus"] >= 1
    assert told["memory_bytes"] > 10**8
    assert all(count > 0 for count in told["free_bytes"].values())
    assert "torch" in told["versions"]


def test_a_gpu_that_the_installed_torch_cannot_use_is_told():
    gpu = Gpu(name="Tesla", memory_bytes=16 * 10**9)
    assert dict(machine_rows(machine_of(gpu), "2.6.0"))["GPU"] == "Tesla with 16.0 GB"
    assert "cannot use it" in dict(machine_rows(machine_of(gpu), "2.6.0+cpu"))["GPU"]
    rows = dict(machine_rows(machine_of(), "2.6.0+cpu"))
    assert (rows["GPU"], rows["trains on"]) == ("none", "cpu")
    assert rows["bfloat16 in hardware"] == "yes"


def measured(machine, device, on_probe):
    on_probe(1, 1)
    return estimated_speed(machine, device)


def test_what_doctor_measures_is_kept_for_plans_and_printed(monkeypatch, tmp_path, capsys):
    path = tmp_path / "machine.json"
    monkeypatch.setattr(shared, "machine_file", lambda: path)
    monkeypatch.setattr("autoseg.pipeline.measuring.measure_speed", measured)
    assert main(["doctor", "--measure"]) == 0
    told = capsys.readouterr()
    assert "measured 1 of 1" in told.err
    assert "million feature values a second" in told.out
    assert main(["doctor", "--json"]) == 0
    (speed,) = json.loads(capsys.readouterr().out)["speeds"]
    assert speed["value_s"] > 0


def test_folds_that_corrected_the_speed_are_told():
    fold = TrainedSpeed(
        run="hearts 2d fold 0", device="cpu", dimensions=2, precision="bf16", ratio=1.2
    )
    rows = dict(machine_rows(machine_of().revised(trained=(fold,)), "2.6.0"))
    assert rows["a step in hearts 2d fold 0"] == "1.20 times what was expected"


def test_a_plan_can_be_made_for_the_machine_in_a_file(monkeypatch, tmp_path, capsys):
    assert main(["doctor", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    path = tmp_path / "large.json"
    path.write_text(json.dumps({**content, "num_cpus": 61}))
    data = write_rings(tmp_path / "rings", num_cases=3, seed=0)
    words = ["plan", str(data), "-w", str(tmp_path / "w"), "--machine", str(path), "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["num_threads"] == 61
    assert main([*words[:-2], str(tmp_path / "none.json")]) == 2
    assert "doctor --json" in capsys.readouterr().err

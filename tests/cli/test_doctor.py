import json

from autoseg.cli.doctor import machine_rows
from autoseg.cli.main import main
from autoseg.machine import Gpu
from autoseg.testing.fingerprints import machine_of


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

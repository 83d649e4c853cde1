import subprocess
import sys

import pytest

OTHERS = [
    "scipy",
    "SimpleITK",
    "ray",
    "optuna",
    "typer",
    "rich",
    "jinja2",
    "matplotlib",
    "blosc2",
    "edt",
    "cc3d",
    "PIL",
    "tifffile",
    "onnx",
    "onnxruntime",
    "platformdirs",
    "sklearn",
    "zarr",
    "timm",
]
"""What autoseg imports elsewhere."""
RUN = """
import runpy, sys
for name in {others!r}:
    sys.modules[name] = None  # to import it fails
sys.argv = ["gpu_augmentation", "--device", "cpu", "--workers", "1", "--seconds", "0.05"]
sys.argv += ["--max-voxels", "5000"]
runpy.run_module("benchmarks.gpu_augmentation", run_name="__main__")
"""


@pytest.mark.slow
def test_it_runs_where_only_torch_numpy_and_pydantic_are(pytestconfig):
    run = subprocess.run(
        [sys.executable, "-c", RUN.format(others=OTHERS)],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    *_, row = run.stdout.splitlines()
    patch, _, workers, device, *_, difference, equal = row.split()
    assert patch == "4096"
    assert float(workers) > 0
    assert float(device) > 0
    assert float(difference) < 1e-3
    assert equal == "100.00%"

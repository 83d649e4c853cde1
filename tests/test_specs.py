"""The declarations in datasets_spec/ fit their data sets, and their schema accepts them."""

import json
from pathlib import Path

import jsonschema
import pytest

from autoseg.dataset.open import open_dataset
from autoseg.dataset.spec import load_spec
from autoseg.testing.synthetic import write_rings, write_spheres

FOLDER = Path(__file__).parents[1] / "datasets_spec"
SCHEMA = json.loads((FOLDER / "dataset.schema.json").read_text(encoding="utf-8"))
SPECS = sorted(path for path in FOLDER.rglob("*.json") if path.name != "dataset.schema.json")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_schema_accepts_the_spec(path):
    jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), SCHEMA)


def test_the_schema_refuses_a_misspelt_key():
    with pytest.raises(jsonschema.ValidationError, match="chanels"):
        jsonschema.validate({"chanels": ["MRI"]}, SCHEMA)


@pytest.mark.parametrize(("name", "write"), [("spheres", write_spheres), ("rings", write_rings)])
def test_a_synthetic_spec_declares_what_is_written(name, write, tmp_path):
    spec = load_spec(FOLDER / "synthetic" / f"{name}.json")
    assert spec.source is not None
    call = f"autoseg.testing.synthetic.{write.__name__}(root, "
    assert spec.source.startswith(call)
    arguments = eval(f"dict({spec.source.removeprefix(call)}")  # ours, and checked to be a call
    root = write(tmp_path / name, **{**arguments, "num_cases": 3})
    found = open_dataset(root, spec.revised(labels=None, channels=None), None)
    declared = open_dataset(root, spec, None)
    assert declared.labels.values == found.labels.values
    assert len(declared.channels) == len(found.channels) == 1
    assert declared.layout == found.layout


@pytest.mark.parametrize(
    ("name", "num_cases", "num_groups"),
    [("hippocampus", 208, 208), ("isbi2012", 20, 20), ("acdc", 30, 15)],
)
def test_a_spec_fits_the_real_data(data, name, num_cases, num_groups):
    spec = load_spec(FOLDER / f"{name}.json")
    dataset = open_dataset(data / name, spec, None)
    assert len(dataset.cases) == num_cases
    assert len({case.group for case in dataset.cases}) == num_groups
    assert dataset.labels.names == tuple(spec.labels or ())


def test_membranes_are_the_foreground_of_isbi2012(data):
    dataset = open_dataset(data / "isbi2012", load_spec(FOLDER / "isbi2012.json"), None)
    assert dataset.labels.names == ("background", "membrane")
    assert dataset.labels.values == (255, 0)

import json

import jsonschema
import pytest

from autoseg.dataset.spec import json_schema, load_spec
from autoseg.errors import DatasetError

SPEC = {"name": "membranes", "labels": {"background": 255, "membrane": 0}, "channels": ["EM"]}


def test_a_spec_is_read(tmp_path):
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    spec = load_spec(tmp_path / "spec.json")
    assert spec.labels == SPEC["labels"]
    assert spec.channels == ("EM",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"label": {}}', r"spec\.json: label"),
        ('{"labels": {"a": "1"}}', r"labels\.a"),
        ("{", r"spec\.json"),
    ],
)
def test_a_misspelt_spec_is_refused_with_the_place(tmp_path, content, message):
    (tmp_path / "spec.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        load_spec(tmp_path / "spec.json")


def test_a_missing_spec_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.json"):
        load_spec(tmp_path / "none.json")


def test_the_schema_accepts_what_the_record_does():
    schema = json.loads(json_schema())
    jsonschema.validate(SPEC, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"label": {}}, schema)

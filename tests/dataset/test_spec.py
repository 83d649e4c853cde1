import json
import re
from pathlib import Path

import jsonschema
import pytest

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.label_values import spec_labels
from autoseg.dataset.spec import EXAMPLES, LINE_LENGTH, json_schema, load_spec, spec_json
from autoseg.errors import DatasetError

DOCS = Path(__file__).parents[2] / "docs"
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


@pytest.mark.parametrize(
    ("content", "found", "expected"),
    [
        ('{"lables": {}}', "lables: no such field; did you mean 'labels'?", "label_map, threshold"),
        ('{"labels": {"a": "1"}}', 'labels.a: "1" cannot', '"labels": {"background": 0, "lesion"'),
        ('{"channels": "CT"}', 'channels: "CT" cannot be understood', '"channels": ["T1", "T2"]'),
        ('{"masks": 3}', "masks: 3 cannot be understood", '"masks": "masks/{case}.png"'),
        ('{"fixes": ["x"]}', "only 'round_labels', 'resample_labels'", '"fixes": ["round_labels"]'),
        ("[1]", "should be an object", "labels, label_map"),
    ],
)
def test_a_misspelt_spec_is_refused_with_the_right_form(tmp_path, content, found, expected):
    (tmp_path / "spec.json").write_text(content)
    with pytest.raises(DatasetError) as caught:
        load_spec(tmp_path / "spec.json")
    assert found in caught.value.found
    assert expected in caught.value.expected
    assert caught.value.fix == f"correct {tmp_path / 'spec.json'}"


def test_every_field_has_an_example_and_a_description():
    assert isinstance(DatasetSpec.model_validate_json(json.dumps(EXAMPLES)), DatasetSpec)
    fields = json.loads(json_schema())["properties"]
    assert EXAMPLES.keys() == fields.keys() == DatasetSpec.model_fields.keys()
    assert [name for name, field in fields.items() if not field.get("description")] == []


def page_examples():
    text = (DOCS / "spec.md").read_text(encoding="utf-8")
    return re.findall(r"```json\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("content", page_examples())
def test_the_examples_of_the_page_are_specs(content):
    labels = spec_labels(DatasetSpec.model_validate_json(content))
    assert labels is None or labels.names[0] == "background"


def test_the_page_has_an_example_of_every_field_that_changes_what_is_read():
    named = {field for content in page_examples() for field in json.loads(content)}
    assert EXAMPLES.keys() - named <= {"name", "task", "source", "licence"}


def test_a_missing_spec_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.json"):
        load_spec(tmp_path / "none.json")


def test_the_schema_accepts_what_the_record_does():
    schema = json.loads(json_schema())
    jsonschema.validate(SPEC, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"label": {}}, schema)


def test_a_written_spec_is_read_as_it_was(tmp_path):
    spec = DatasetSpec(
        name="Größe",
        images=("images/{case}.tif",),
        masks={"whole": "whole/{case}.png", "core": "core/{case}.png"},
        labels={"background": 0, "whole": (1, 2), "core": 2},
        split={"test": tuple(f"case_{index:03d}" for index in range(40))},
        threshold=0.5,
        fixes=("round_labels",),
    )
    (tmp_path / "spec.json").write_text(spec_json(spec), encoding="utf-8")
    assert load_spec(tmp_path / "spec.json") == spec


def test_a_written_spec_keeps_the_order_of_classes_and_leaves_out_the_rest():
    spec = DatasetSpec(labels={"sky": "#808080", "bicycle": "#0080c0", "ant": "#000000"})
    text = spec_json(spec)
    assert list(json.loads(text)) == ["labels"]
    assert list(json.loads(text)["labels"]) == ["sky", "bicycle", "ant"]


def test_a_long_field_of_a_written_spec_has_a_line_an_entry():
    channels = tuple(f"channel number {index}" for index in range(20))
    lines = spec_json(DatasetSpec(name="a", channels=channels, label_map={"1": 2})).splitlines()
    assert '  "name": "a",' in lines
    assert '    "channel number 7",' in lines
    assert '  "label_map": {"1": 2}' in lines
    assert max(map(len, lines)) <= LINE_LENGTH


@pytest.mark.parametrize(
    ("case_id", "is_out"),
    [("a_4d", True), ("a[1]", True), ("a1", False), ("b", True), ("c", False)],
)
def test_cases_are_left_out_by_id_or_pattern(case_id, is_out):
    spec = DatasetSpec(exclude={"*_4d": "whole cycle", "a[1]": "blurred", "b": "double"})
    assert spec.excludes(case_id) == is_out

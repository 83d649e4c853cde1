"""What a user may declare about a data set: reading and writing it, and its schema for editors."""

import json
from pathlib import Path

from pydantic import ValidationError

from autoseg.dataset.dataset import DatasetSpec
from autoseg.errors import DatasetError, nearest

LINE_LENGTH = 100
"""A longer field is written with one line an entry."""
MAX_FOUND = 80
"""Letters of a wrong value that are shown."""
EXAMPLES = {
    "name": "my-nuclei",
    "task": "nuclei in fluorescence microscopy",
    "source": "title of the publication",
    "licence": "CC BY 4.0",
    "layout": "folders",
    "images": ["images/{case}.tif"],
    "masks": "masks/{case}.png",
    "table": "cases.csv",
    "channels": ["T1", "T2"],
    "labels": {"background": 0, "lesion": 255},
    "label_map": {"255": 1},
    "threshold": 128,
    "ignore": 255,
    "annotated": {"liver_*": ["liver"]},
    "orientation": "LPS",
    "group_by": r"(patient\d+)",
    "site_by": "^([a-z]+)",
    "split": {"train": ["case_0*"], "test": ["case_1*"]},
    "exclude": {"case_007": "blurred"},
    "fixes": ["round_labels"],
}
"""One right value of each field."""


def load_spec(path: Path) -> DatasetSpec:
    """Return the declaration in a JSON file.

    Raises
    ------
    DatasetError
        The file is missing, no JSON, or a field is unknown or mistyped; one line a problem.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(
            found=f"{path} cannot be read: {error.strerror}",
            expected="a JSON file that declares the data set",
            fix="correct the path given with --spec",
        ) from error
    try:
        return DatasetSpec.model_validate_json(content)
    except ValidationError as error:
        raise _refusal(path, content, error) from None


def _refusal(path: Path, content: bytes, error: ValidationError) -> DatasetError:
    """Return what is wrong in a spec: one line a place, with an example of the right form."""
    problems = error.errors(include_url=False)
    places = [item["loc"] for item in problems]
    if () in places:  # no JSON, or no object
        found = {path.name: problems[0]["msg"]}
    else:
        given = json.loads(content)
        found = {}
        for place, item in zip(places, problems, strict=True):
            where = _place(given, place)
            text = f"{_shown(item['input'])} cannot be understood"
            if item["type"] == "literal_error":
                text += f", only {item.get('ctx', {}).get('expected')}"
            if place[0] not in EXAMPLES:
                text = f"no such field{nearest(str(place[0]), [*EXAMPLES])}"
            found.setdefault(f"{path.name}: {where}", text)
    fields = {str(place[0]) for place in places if place}
    expected = "one object in JSON"
    if fields - EXAMPLES.keys() or not fields:
        expected += f" with some of these fields: {', '.join(EXAMPLES)}"
    shown = {name: EXAMPLES[name] for name in EXAMPLES if name in (fields or {"labels"})}
    if shown:
        expected += f"\ne.g. {json.dumps(shown, ensure_ascii=False)}"
    return DatasetError(
        found="\n".join(f"{place}: {text}" for place, text in found.items()),
        expected=expected,
        fix=f"correct {path}",
    )


def _place(given: dict, place: tuple[int | str, ...]) -> str:
    """Return where in a spec something is, "labels.lesion"; pydantic adds the types it tried."""
    first, *others = place
    inside = given[first]
    known = [item for item in others if isinstance(inside, dict) and item in inside]
    return f"{first}.{known[0]}" if known else str(first)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_FOUND else text[: MAX_FOUND - 3] + "..."


def spec_json(spec: DatasetSpec) -> str:
    """Return a declaration as text: what is declared, in the order of the record.

    Keys are not sorted: the order of classes, colours and masks means something.
    """
    content = spec.model_dump(mode="json", exclude_defaults=True)
    lines = (f"  {json.dumps(key)}: {_value_text(key, value)}" for key, value in content.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _value_text(key: str, value: object) -> str:
    """Return a field's value in one line, or one line an entry where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    if len(key) + len(text) + len('  "": ,') <= LINE_LENGTH or not isinstance(value, (dict, list)):
        return text
    if isinstance(value, dict):
        entries = [
            f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(item, ensure_ascii=False)}"
            for name, item in value.items()
        ]
        return "{\n    " + ",\n    ".join(entries) + "\n  }"
    entries = [json.dumps(item, ensure_ascii=False) for item in value]
    return "[\n    " + ",\n    ".join(entries) + "\n  ]"


def json_schema() -> str:
    """Return the JSON Schema of a declaration with examples, as text with sorted keys."""
    schema = DatasetSpec.model_json_schema()
    for name, example in EXAMPLES.items():
        schema["properties"][name]["examples"] = [example]
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"

"""What a user may declare about a data set: reading and writing it, and its schema for editors."""

import json
from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec
from autoseg.errors import AutosegError, DatasetError

LINE_LENGTH = 100
"""A longer field is written with one line an entry."""


def load_spec(path: Path) -> DatasetSpec:
    """Return the declaration in a JSON file.

    Raises
    ------
    DatasetError
        The file is missing, no JSON, or a field is unknown or mistyped; one line a problem.
    """
    fix = "correct the file (datasets_spec/dataset.schema.json says what it may hold)"
    try:
        return DatasetSpec.from_json(path.read_bytes(), path.name)
    except OSError as error:
        raise DatasetError(
            found=f"{path} cannot be read: {error.strerror}",
            expected="a JSON file that declares the data set",
            fix="correct the path given with --spec",
        ) from error
    except AutosegError as error:
        raise DatasetError(
            found=error.found, expected="a declaration of a data set", fix=fix
        ) from None


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
    """Return the JSON Schema of a declaration, as text with sorted keys."""
    return json.dumps(DatasetSpec.model_json_schema(), indent=2, sort_keys=True) + "\n"

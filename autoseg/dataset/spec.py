"""What a user may declare about a data set: reading it, and its schema for editors."""

import json
from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec
from autoseg.errors import AutosegError, DatasetError


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


def json_schema() -> str:
    """Return the JSON Schema of a declaration, as text with sorted keys."""
    return json.dumps(DatasetSpec.model_json_schema(), indent=2, sort_keys=True) + "\n"

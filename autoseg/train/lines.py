"""Logs of one JSON object a line, as kills and full disks leave them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autoseg.workspace import write_text

Line = dict[str, Any]


def read_lines(path: Path) -> list[Line]:
    """Return the lines of a log; none where there is no file.

    A line that is being written, or that was cut short, is left out.
    """
    return [line for _, line in _parsed(path)]


def keep_lines(path: Path, is_wanted: Callable[[Line], bool] = lambda _: True) -> list[Line]:
    """Return the wanted lines of a log, and take all others and damaged ones out of the file.

    Else the next line would be appended to what is left of a line that was cut short.
    """
    kept = [(text, line) for text, line in _parsed(path) if is_wanted(line)]
    content = "".join(text + "\n" for text, _ in kept)
    if path.exists() and path.read_bytes() != content.encode():
        write_text(path, content)
    return [line for _, line in kept]


def _parsed(path: Path) -> list[tuple[str, Line]]:
    """Return the lines that hold an object, as text and as content."""
    found = []
    content = path.read_bytes() if path.exists() else b""
    for text in content.decode(errors="replace").split("\n"):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            found.append((text, line))
    return found

"""Which model made which file of an output folder, so that those of two models are never mixed."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import AutosegError
from .manifest import Manifest
from .model import Effort
from .strict import parse_json

RECORD = ".autoseg-predictions.jsonl"
"""In the output folder: one line for each file that was written, the latest counts."""
CASCADE_FIELDS = ("previous", "region_margin")
MAX_NAMED = 5
"""Files that a message names."""


@dataclass(frozen=True, kw_only=True)
class Maker:
    """A model, and how it was used as far as that changes what it predicts."""

    model: str
    digest: str
    """Of everything in the artifact that changes its predictions."""
    options: str

    def __str__(self) -> str:
        """Return the maker for messages."""
        return f"model {self.model} {self.digest[:8]} ({self.options})"


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One line of the record."""

    file: str
    maker: Maker


def describe_maker(manifest: Manifest, effort: Effort, missing: Sequence[int] = ()) -> Maker:
    """Return who predicts with this effort, without the channels that are missing.

    The backend is left out: it is chosen by the number of images, and the export has proved that
    backends agree.
    """
    options = [
        f"{item.name}: overlap {min(item.recipe.overlap, effort.max_overlap):g}, mirrored axes "
        f"{', '.join(map(str, effort.mirror_axes(item.recipe))) or 'none'}"
        for item in manifest.configurations
    ]
    if missing:
        options.append(f"without {', '.join(manifest.channels[index] for index in missing)}")
    return Maker(model=manifest.name, digest=_digest(manifest), options="; ".join(options))


def _digest(manifest: Manifest) -> str:
    """Return a hash that the same model has after each export: timings and checks do not count.

    Nor do fields of cascades where there is none: artifacts were written before there were any.
    """
    bare = replace(
        manifest,
        configurations=tuple(
            replace(item, parity=(), timings=()) for item in manifest.configurations
        ),
        verification=None,
        files=tuple(
            stored
            for stored in manifest.files
            if any(stored.name.startswith(item.onnx) for item in manifest.configurations)
        ),
    )
    content = json.loads(bare.to_json())
    for item in content["configurations"]:
        for name in CASCADE_FIELDS:
            if item[name] is None:
                del item[name]
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    return hashlib.sha256(text.encode()).hexdigest()


def record_file(path: Path, maker: Maker) -> None:
    """Write down beside a file who made it.

    Raises
    ------
    AutosegError
        The folder cannot be written.
    """
    content = dataclasses.asdict(_Line(file=path.name, maker=maker))
    record = path.with_name(RECORD)
    try:
        with record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(content, ensure_ascii=False, sort_keys=True) + "\n")
    except OSError as error:
        raise AutosegError(
            found=f"{record} cannot be written: {error.strerror or error}",
            expected="an output folder with enough free space",
            fix="free space, or choose another output folder",
        ) from error


def refuse_foreign(folder: Path, kept: Sequence[Path], maker: Maker) -> None:
    """Refuse to keep files beside new ones that somebody else has made.

    Parameters
    ----------
    kept
        Files of the folder that would not be written again.

    Raises
    ------
    AutosegError
        Another model or other options made some of them, or nobody knows who did.
    """
    made = _read_makers(folder) if kept else {}
    foreign = [path.name for path in kept if made.get(path.name) != maker]
    if not foreign:
        return
    others = sorted({f"made by {made[name]}" for name in foreign if name in made})
    if any(name not in made for name in foreign):
        others.append("of unknown origin")
    more = f" and {len(foreign) - MAX_NAMED} more" if len(foreign) > MAX_NAMED else ""
    raise AutosegError(
        found=f"{folder} holds {', '.join(foreign[:MAX_NAMED])}{more}: {'; '.join(others)}",
        expected=f"no such file, or one made by {maker}",
        fix="add --overwrite to predict them again, or name another output folder",
    )


def _read_makers(folder: Path) -> dict[str, Maker]:
    """Return who made which file; lines that cannot be read say nothing."""
    try:
        text = (folder / RECORD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    makers = {}
    for line in text.splitlines():
        try:
            item = parse_json(_Line, line, RECORD)
        except AutosegError:
            continue
        makers[item.file] = item.maker
    return makers

"""The strict base of every record, and the one record that must load where only torch is there.

`NetworkPlan` stands here and not in `autoseg.plan` so that the network and the training loop need
nothing but torch, numpy, pydantic and this file.
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from autoseg.errors import AutosegError


class Record(BaseModel):
    """Immutable, typed, JSON round-trippable value; refuses unknown, missing, mistyped fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def to_json(self) -> str:
        """Return the record as JSON with sorted keys, two spaces of indent and a final newline."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, allow_nan=False)
        return text + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, source: str) -> Self:
        """Return the record in `text`; `source` names the text in error messages.

        Raises
        ------
        AutosegError
            One line a problem, with the path inside the text.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise AutosegError(
                found="\n".join(f"{source}: {line}" for line in _problems(error)),
                expected="a file written by this version of autoseg",
                fix=f"undo the change to {source}, or run the command that writes it again",
            ) from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the record in a JSON file."""
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            raise AutosegError(
                found=f"no file {path}",
                expected=f"the {cls.__name__} that an earlier step writes",
                fix="run `autoseg plan` first, or correct the path",
            ) from None
        except OSError as error:
            raise AutosegError(
                found=f"{path} cannot be read: {error.strerror or error}",
                expected=f"the {cls.__name__} that an earlier step writes",
                fix="correct the path, or the permissions of the file",
            ) from None
        return cls.from_json(text, path.name)

    def revised(self, **changes: object) -> Self:
        """Return a copy with some fields changed, checked like a record that is read."""
        return type(self).model_validate({**dict(self), **changes})

    def digest(self) -> str:
        """Return the SHA-256 of the record's content, hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _problems(error: ValidationError) -> list[str]:
    """Return one line a problem: where, what was expected, what was found."""
    lines = []
    for item in error.errors(include_url=False):
        where = "".join(
            f"[{key}]" if isinstance(key, int) else f".{key}" for key in item["loc"]
        ).lstrip(".")
        found = repr(item["input"])
        found = found if len(found) <= 80 else found[:77] + "..."
        lines.append(f"{where or 'content'}: {item['msg']}, found {found}")
    return lines


class StagePlan(Record):
    """One resolution of the U-Net."""

    features: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    """Downsampling on entering the stage; the first stage has ones."""
    num_blocks: int
    """Convolutions (plain encoder) or residual blocks (residual encoder)."""


class NetworkPlan(Record):
    """Everything that defines a network's shape; the same plan always builds the same network."""

    encoder: Literal["plain", "residual"]
    in_channels: int
    num_classes: int
    stages: tuple[StagePlan, ...]
    decoder_convs: int
    """Convolutions in each decoder stage."""
    num_supervised: int
    """Resolutions with a head while training, the finest included; 1 is no deep supervision."""

    @property
    def dimensions(self) -> int:
        """Number of spatial axes."""
        return len(self.stages[0].strides)

    @property
    def total_strides(self) -> tuple[int, ...]:
        """Product of all strides, per axis: what a patch must be divisible by."""
        total = [1] * self.dimensions
        for stage in self.stages:
            total = [t * s for t, s in zip(total, stage.strides, strict=True)]
        return tuple(total)


def autoseg_version() -> str:
    """Return the version of the installed autoseg, which every written record carries."""
    return version("autoseg-unet")

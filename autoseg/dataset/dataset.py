"""The records of a data set: what a user may declare, and what was found."""

from pathlib import Path
from typing import Literal

from autoseg.record import Record
from autoseg.runtime.recipe import Labels


class DatasetSpec(Record):
    """What a user may declare about a data set; what is left out is inferred."""

    name: str | None = None
    task: str | None = None
    source: str | None = None
    licence: str | None = None
    layout: Literal["nnunet", "folders"] | None = None
    channels: tuple[str, ...] | None = None
    """Names of the channels; "CT" selects CT normalisation, "rgb_to_0_1" and "noNorm" theirs."""
    labels: dict[str, int] | None = None
    """Value of each class in the files; the first entry, or "background", is the background."""
    ignore: int | None = None
    """Value of voxels without annotation."""
    group_by: str | None = None
    """Regular expression whose first group in a case's id names its group (patient)."""


class Case(Record):
    """One image with its labels: file names relative to the data set's root."""

    id: str
    images: tuple[str, ...]
    """One file a channel, or one file with all channels."""
    labels: str
    group: str
    """Cases of one group stay in one fold; the case's id where no groups are known."""


class Dataset(Record):
    """A data set as found: what `autoseg plan` stores as dataset.json."""

    schema_version: Literal[1] = 1
    name: str
    root: Path
    """Absolute path of the folder."""
    layout: Literal["nnunet", "folders"]
    channel_files: Literal["suffix", "single"]
    """`suffix`: one file a channel, `<case>_0000.ext`; `single`: one file a case."""
    channels: tuple[str, ...]
    labels: Labels
    labels_declared: bool
    """False: the values found in the masks became the classes, in rising order."""
    file_ending: str
    cases: tuple[Case, ...]

    def image_paths(self, case: Case) -> tuple[Path, ...]:
        """Return the absolute paths of a case's images."""
        return tuple(self.root / name for name in case.images)


class Finding(Record):
    """Something about the data or the plan that the user should know."""

    severity: Literal["note", "warning", "error"]
    files: tuple[str, ...] = ()
    found: str
    expected: str
    remedy: str


class Findings(Record):
    """All findings: findings.json."""

    schema_version: Literal[1] = 1
    findings: tuple[Finding, ...]

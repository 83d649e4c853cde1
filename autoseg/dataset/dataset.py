"""The records of a data set: what a user may declare, and what was found."""

import re
from fnmatch import translate
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from autoseg.record import Record
from autoseg.runtime.recipe import Labels

Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
BROKEN = "broken: "
"""How the reason begins for which `--skip-broken` leaves a case out."""
GONE = "no case any more; was "
"""How it begins once that case is gone."""
NEVER = r"(?!)"
"""Regular expression that nothing fits."""
Fix = Literal["round_labels", "resample_labels", "copy_geometry", "replace_nan"]
"""What may be put right while a case is read; the user's files stay as they are.

`round_labels`: broken numbers to the nearest whole one; `resample_labels`: labels on another grid
are taken onto the image's by nearest neighbour; `copy_geometry`: the image's spacing holds for the
labels; `replace_nan`: NaN and infinite values become the smallest finite value of their channel.
"""


class DatasetSpec(Record):
    """What a user may declare about a data set; what is left out is inferred."""

    model_config = ConfigDict(use_attribute_docstrings=True)  # editors show them

    name: str | None = None
    """Of the data set; the default is the folder's."""
    task: str | None = None
    """What is to be found in what, in a sentence."""
    source: str | None = None
    """Title of the publication or page that the data come from."""
    licence: str | None = None
    """Under which the data may be used."""
    layout: str | None = None
    """Name of a format, "folders" for example; `autoseg import` says which it takes."""
    images: tuple[str, ...] | None = None
    """Patterns of the image files, one a channel, with {case} for the id: "images/{case}.tif".

    Folders may be {group}, of a patient, or {split}: train, val or test.
    """
    masks: str | dict[str, str] | None = None
    """Pattern of the label files; or one for each class, painted in this order: later ones, which
    may lie inside earlier ones, on top; with "?" at its end, a missing mask shows nothing. Without
    patterns of images, a folder: "labels"."""
    table: str | None = None
    """Name of the CSV or JSON file that lists the cases, relative to the data set's folder."""
    channels: tuple[str, ...] | None = None
    """Names of the channels; "CT" selects CT normalisation, "rgb_to_0_1" and "noNorm" theirs."""
    labels: dict[str, int | tuple[int, ...] | Colour] | None = None
    """Value of each class in the files; the first entry, or "background", is the background.

    Several values are a region, which may overlap with others; "#rrggbb" is a colour.
    """
    label_map: dict[str, int] | None = None
    """Values in the files and what they are read as: {"255": 1}."""
    threshold: float | None = None
    """At and above this value a mask shows foreground (1), below background (0)."""
    ignore: int | None = None
    """Value of voxels without annotation."""
    annotated: dict[str, tuple[str, ...]] | None = None
    """Cases (ids, or patterns with *) of which only these classes are annotated; other objects in
    them show as background."""
    orientation: str | None = None
    """Anatomical codes, e.g. "LPS", that all volumes should have; others are a finding."""
    group_by: str | None = None
    """Regular expression whose first group in a case's id names its group (patient), or the column
    of a table."""
    site_by: str | None = None
    """The same for the site (hospital, scanner) of a case. In the layout "stems", "folder" stands
    for the name of the folder, here and in `group_by`."""
    split: dict[str, tuple[str, ...]] | None = None
    """Official split: ids of cases, or patterns with *, under "train", "val" and "test"."""
    exclude: dict[str, str] | None = None
    """Cases that are left out, with the reason: ids, or patterns with *."""
    fixes: tuple[Fix, ...] = ()
    """What is put right while cases are read; the files stay as they are."""

    def excludes(self, case_id: str) -> bool:
        """Return whether a case is left out."""
        is_named = self.exclude is not None and case_id in self.exclude
        return is_named or self._left_out.match(case_id) is not None

    @cached_property
    def _left_out(self) -> re.Pattern[str]:
        """What fits one of the patterns with * of `exclude`, compiled once for all cases."""
        patterns = [translate(name) for name in self.exclude or {} if set(name) & set("*?")]
        return re.compile("|".join(patterns) or NEVER)


class Reading(Record):
    """How the pixels of files become channels and values of classes."""

    masks: Literal["values", "binaries", "colours", "channels"] = "values"
    """One map of values; binary masks painted one over the other; colours; a channel a class."""
    colours: tuple[tuple[int, int, int, int], ...] = ()
    """Red, green, blue, and the value they stand for."""
    threshold: float | None = None
    label_map: tuple[tuple[int, int], ...] = ()
    """Value in the file, value that it is read as."""
    fixes: tuple[Fix, ...] = ()


class Case(Record):
    """One image with its labels: names of files or folders, relative to the data set's root."""

    id: str
    images: tuple[str, ...]
    """One file a channel, or one file with all channels."""
    labels: tuple[str, ...]
    """One file; several binary masks (see `paint`); none where nothing is to be found."""
    paint: tuple[int, ...] = ()
    """Value of each binary mask."""
    part: str | None = None
    """What of the files is this case, where they hold several: a lead, a page."""
    group: str
    """Cases of one group stay in one fold; the case's id where no groups are known."""
    site: str | None = None
    split: Literal["train", "val", "test"] | None = None
    """Where the official split has it."""
    annotated: tuple[str, ...] | None = None
    """Names of the foreground classes that it tells; None: all."""
    fold: int | None = None
    """The fold that is validated on it, where a list of cases tells."""


class Dataset(Record):
    """A data set as found: what `autoseg plan` stores as dataset.json."""

    schema_version: Literal[1] = 1
    name: str
    root: Path
    """Absolute path of the folder."""
    layout: str
    """Name of the format that reads it."""
    channel_files: Literal["suffix", "single"]
    """`suffix`: one file a channel, `<case>_0000.ext`; `single`: one file a case."""
    channels: tuple[str, ...]
    labels: Labels
    labels_declared: bool
    """False: the values found in the masks became the classes, in rising order."""
    file_ending: str
    """Of images, and of the label maps that are written for them."""
    reading: Reading = Reading()
    cases: tuple[Case, ...]
    excluded: dict[str, str] = Field(default_factory=dict)
    """Cases left out, with the reason."""
    groups_inferred: bool = False
    """True: nobody said which cases belong together, but their names do."""
    groups_declared: bool = False
    """True: a user said which cases belong together (group_by)."""
    sites_inferred: bool = False
    """True: only the names of folders tell from which hospital or scanner cases are."""

    @property
    def training_cases(self) -> tuple[Case, ...]:
        """What folds are made of: all cases but those of an official test set."""
        return self._training_cases

    @cached_property
    def _training_cases(self) -> tuple[Case, ...]:  # asked for while each of them is measured
        return tuple(case for case in self.cases if case.split != "test")

    def image_paths(self, case: Case) -> tuple[Path, ...]:
        """Return the absolute paths of a case's images."""
        return tuple(self.root / name for name in case.images)

    def label_paths(self, case: Case) -> tuple[Path, ...]:
        """Return the absolute paths of a case's labels."""
        return tuple(self.root / name for name in case.labels)


class Finding(Record):
    """Something about the data or the plan that the user should know."""

    severity: Literal["note", "warning", "error"]
    files: tuple[str, ...] = ()
    """Relative to the data set's folder; ids of cases where files are not known."""
    case: str | None = None
    """Id of the case, where it is about a single one: it may be left out."""
    found: str
    expected: str
    remedy: str
    fix: dict[str, Any] | None = None
    """Fields of a `DatasetSpec` that remove the problem safely: `autoseg check --fix` adds them."""


class Findings(Record):
    """All findings: findings.json."""

    schema_version: Literal[1] = 1
    findings: tuple[Finding, ...]

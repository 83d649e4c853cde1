"""What a format is: a way to find the cases of a folder and to read them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from autoseg.dataset.dataset import Case, Dataset, DatasetSpec, Reading
from autoseg.dataset.files import read_file_extent, read_image_files, read_label_files
from autoseg.runtime.images import Extent, Image
from autoseg.runtime.recipe import Labels
from autoseg.runtime.voxels import Voxels


@dataclass(frozen=True)
class FoundCase:
    """The files of one case; absolute paths. See `Case` for what the fields mean."""

    case_id: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    paint: tuple[int, ...] = ()
    part: str | None = None
    group: str | None = None
    """None: not told by the layout."""
    site: str | None = None
    split: Literal["train", "val", "test"] | None = None
    fold: int | None = None


PAIRED = "for each case one image (or one a channel) and one label map of its name"
PAIR = "add, rename or remove the files listed, then run it again"


@dataclass(frozen=True)
class Problem:
    """What does not fit, and how it is put right."""

    found: str
    """In one line."""
    files: tuple[str, ...] = ()
    """As the user knows them: relative to the data set's folder where they lie inside."""
    case_id: str | None = None
    """Without this case the problem is gone; None: excluding a case does not help."""
    expected: str = PAIRED
    remedy: str = PAIR

    @classmethod
    def of(cls, file: str, found: str, case_id: str | None = None, **texts: str) -> "Problem":
        """Return a problem of one file; `texts` are `expected` and `remedy` where others fit."""
        return cls(found, (file,), case_id, **texts)

    def __str__(self) -> str:
        """Return the files and what was found, in one line."""
        return f"{' and '.join(self.files)}: {self.found}" if self.files else self.found


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a format found in a folder."""

    cases: tuple[FoundCase, ...]
    problems: tuple[Problem, ...] = ()
    """What does not fit."""
    channels: tuple[str, ...] | None = None
    """None: neither declared nor told by the layout."""
    labels: Labels | None = None
    """None: neither declared nor told by the layout: the values found become the classes."""
    label_names: Mapping[int, str] = field(default_factory=dict)
    """Names of values, where a table has them: of more, perhaps, than the masks hold."""
    reading: Reading = field(default_factory=Reading)
    file_ending: str | None = None
    """Of the label maps that are written; None: as the images have it, or ".nii.gz"."""
    has_suffix: bool = False
    """Names of images end in `_0000` and so on, the number of the channel."""
    has_listed_groups: bool = False
    """Groups stand in a list that a user wrote, and are left as they are."""
    has_inferred_sites: bool = False
    """Only names of folders tell the sites."""
    columns: tuple[str, ...] = ()
    """Columns of a table; where `group_by` or `site_by` names one, the cases have its entries."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way in which data sets lie in folders."""

    name: str
    expects: str
    """What must be there, in a few words: "images/ and labels/ or masks/"."""
    is_found: Callable[[Path], bool]
    """Whether a folder looks so, told by names alone (never by reading images)."""
    find_cases: Callable[[Path, DatasetSpec], Layout]
    """All cases with what the spec and the layout declare; problems are returned, not raised."""
    read_image: Callable[[Dataset, Case], Image] = read_image_files
    read_labels: Callable[[Dataset, Case], Image] = read_label_files
    """Values as the data set's labels have them, (1, *S)."""
    read_extent: Callable[[Dataset, Case], Extent] = read_file_extent
    """Channels, axes and spacing of what `read_image` returns, told without reading voxels."""
    read_label_extent: Callable[[Dataset, Case], Extent] | None = None
    """The same of `read_labels`; None: the headers of the label files tell, or nothing does."""
    open_image: Callable[[Dataset, Case], Voxels | None] | None = None
    """What `read_image` returns, to be read box by box, or None; without it, TIFF files are."""
    open_labels: Callable[[Dataset, Case], Voxels | None] | None = None
    """The numbers in a label image, (C, *S), as they stand there; without it, TIFF files."""

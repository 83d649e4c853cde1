"""What planners know about a data set."""

from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from autoseg.record import Record
from autoseg.runtime.geometry import Unit
from autoseg.runtime.recipe import Labels

LATER = (
    "class_centres",
    "class_widths",
    "class_lengths",
    "border_foreground",
    "padding",
    "brightest",
    "thumbnail",
)
"""Facts that older fingerprints lack; their digests, which plans hold, stay what they are."""


class CaseStats(Record):
    """What one pass over a case measured. Lengths are voxels, axes ZYX (2D: YX; signals: X)."""

    case_id: str
    shape: tuple[int, ...]
    shape_after_crop: tuple[int, ...]
    """Shape of the box around all voxels that are nonzero in any channel."""
    spacing: tuple[float, ...]
    dtype: str | None = None
    orientation: str | None = None
    """Anatomical axis codes, e.g. "LPS"; None where the format has none."""
    content_hash: str | None = None
    """SHA-256 over the decoded images and labels."""
    class_voxels: tuple[int, ...] = ()
    """Voxels of each class, background first; ignored voxels are in none."""
    class_components: tuple[int, ...] = ()
    """Connected components of each class (background: 0)."""
    foreground_means: tuple[float, ...] = ()
    """Mean foreground intensity of each channel; empty where nothing is annotated."""
    class_centres: tuple[tuple[float, ...], ...] = ()
    """Centre of each class as fractions of the shape; empty for the background, absent classes."""
    class_widths: tuple[float, ...] = ()
    """Mean width of each class's connected parts, voxels; 0 where there are none. Not measured of
    signals and of images that do not fit into memory."""
    class_lengths: tuple[float, ...] = ()
    """How many times longer than wide they are (see `autoseg.fingerprint.tubes`)."""
    border_foreground: float | None = None
    """Part of the voxels on the image's faces that are foreground."""
    padding: tuple[float, ...] = ()
    """What fills the image's faces, by channel; empty where that is zero, or nothing does."""
    brightest: tuple[float, ...] = ()
    """Part of the voxels that have the highest value of their channel."""
    thumbnail: str | None = None
    """64 bits, hexadecimal, that nearly equal images nearly share."""

    @model_serializer(mode="wrap")
    def _without_unmeasured(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the content; what was not measured is left out, as earlier versions wrote it."""
        content: dict[str, Any] = serialise(self)
        return {k: v for k, v in content.items() if k not in LATER or v not in (None, (), [])}


class Intensities(Record):
    """Foreground intensities of one channel over the whole data set, raw units."""

    mean: float
    median: float
    std: float
    min: float
    max: float
    percentile_00_5: float
    percentile_99_5: float


class Fingerprint(Record):
    """The data set as the planners see it."""

    schema_version: Literal[1] = 1
    autoseg_version: str
    dataset_name: str
    unit: Unit
    labels: Labels
    channels: tuple[str, ...]
    cases: tuple[CaseStats, ...]
    intensities: tuple[Intensities, ...]
    """One entry a channel."""
    median_relative_size_after_cropping: float

    @property
    def dimensions(self) -> int:
        """Number of spatial axes of the images."""
        return len(self.cases[0].shape)

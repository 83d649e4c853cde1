"""How raw images become network input and how its output goes back: what travels into an artifact.

Plain frozen dataclasses without dependencies. The plan holds them, preprocessing and prediction
follow them, the artifact's manifest repeats them. Axes are ZYX (2D: YX) throughout.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True, kw_only=True)
class Region:
    """Classes that are scored together, such as a whole tumour and its core."""

    name: str
    classes: tuple[int, ...]
    """Indices of classes."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Classes in the order of the network's outputs; the first is the background."""

    names: tuple[str, ...]
    values: tuple[int, ...]
    """The value of each class in the user's files."""
    ignore: int | None = None
    """The value in the user's files that marks voxels without annotation."""
    regions: tuple[Region, ...] = ()
    """Unions of classes that overlap, where the user declared them."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, kw_only=True)
class Channel:
    """Normalisation of one channel: clip(lower, upper), subtract mean, divide by std."""

    name: str
    scheme: Literal["zscore", "ct", "unit", "rgb", "none", "pretrained"]
    """`zscore` and `unit` (0 to 1) take mean and std from each image, the others are constants;
    those of `pretrained` are for values of 0 to 1, which `lower` to `upper` become."""
    lower: float | None = None
    upper: float | None = None
    """Values beyond these are clipped. `pretrained` without them: each image's own range."""
    mean: float | None = None
    """None: taken from each image (`zscore`: its mean; `unit`: its minimum)."""
    std: float | None = None
    """None: taken from each image (`zscore`: its deviation; `unit`: its range)."""
    use_mask: bool = False
    """Statistics of the nonzero region only, and zero outside it."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """From a raw image to the network's input and back, for one configuration.

    The image has at least as many axes as the network; leading axes that the network lacks are
    gone through slice by slice (`2d` on volumes) and never resampled.
    """

    transpose: tuple[int, ...]
    """Axis i of the prepared array is axis ``transpose[i]`` of the image."""
    spacing: tuple[float, ...]
    """Target spacing of the network's axes, in prepared order; mm or pixels."""
    channels: tuple[Channel, ...]
    order: Literal["resample-normalise", "normalise-resample"]
    spline_order: int
    """Order of the interpolating spline for images: 3, or 1."""
    coarse_ratio: float
    """An axis this many times coarser than the finest is resampled alone, by nearest neighbour."""
    padding: Literal["mirror", "zero"]
    """How an image smaller than the patch is filled (`zero`: the normalised value 0)."""
    overlap: float
    """Fraction of a tile shared with the next one, 0 to below 1."""
    mirror_axes: tuple[int, ...]
    """Axes of the network along which mirrored images are as plausible as the originals."""
    test_time_mirroring: bool
    """Average the predictions of all mirrored versions."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, kw_only=True)
class SmallestObject:
    """Post-processing: components of a class that are smaller than this vanish."""

    class_index: int
    """Not its value in files."""
    size: float
    """In the image's unit to the power of its axes: mm3, mm2, or pixels."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, kw_only=True)
class KeepLargest:
    """Post-processing: of `classes` taken together, all but the largest component vanish."""

    classes: tuple[int, ...]
    """Indices of classes (not values in files)."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid", "strict": True}

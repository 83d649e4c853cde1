"""The strict base of every record, and the one record that must load where only torch is there.

`NetworkPlan` and `LossPlan` stand here and not in `autoseg.plan` so that the network and the
training loop need nothing but torch, numpy, pydantic and this file.
"""

import hashlib
import json
import math
from collections.abc import Sequence
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


BOTTLENECK_FACTOR = 4
"""A bottleneck block's middle is this many times narrower than its output (He et al. 2016)."""
EXPANSION_FACTOR = 2
"""A MedNeXt block's middle is this many times wider than its input: the smallest published model's
(Roy et al. 2023), because wider ones cost memory at full resolution."""

MIN_SQUEEZED = 8
"""Squeeze-and-excitation is no narrower: of one or two rectified features all may be dead."""


PUBLISHED_WEIGHTS, NO_WEIGHTS = "imagenet", "none"
"""What a pretrained encoder may start from besides a file: what is published, or nothing."""


class StagePlan(Record):
    """One resolution of the U-Net."""

    features: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    """Downsampling on entering the stage; the first stage has ones."""
    num_blocks: int
    """Blocks of the encoder; a plain block is one convolution."""


class Backbone(Record):
    """A pretrained encoder: the lower stages of a network, as the package timm builds them."""

    model: str
    """As timm names it, with the tag of its weights."""
    weights: str | None
    """SHA-256 of the tensors that training starts from; None: they are drawn from the seed."""
    mean: tuple[float, ...]
    """Of the images that the weights were trained on, 0 to 1; one entry an input channel."""
    std: tuple[float, ...]
    """The same of their standard deviation."""
    frozen_norm: bool
    """Batch normalisation keeps its scale, its shift and its running statistics."""
    num_stages: int
    """Stages that it makes, the lowest ones; those above are blocks of our own."""
    parameters: int
    """Values that it holds, those that are frozen included."""
    multiplications: float
    """Of one forward pass, for each pixel of the image."""
    values: float
    """What its convolutions put out, for each pixel of the image."""


class NetworkPlan(Record):
    """Everything that defines a network's shape; the same plan always builds the same network."""

    encoder: Literal["plain", "residual", "bottleneck", "mednext"]
    """Blocks of the encoder; all but plain ones stand beside a shortcut, behind a stem."""
    in_channels: int
    num_classes: int
    stages: tuple[StagePlan, ...]
    decoder_convs: int
    """Convolutions in each decoder stage."""
    num_supervised: int
    """Resolutions with a head while training, the finest included; 1 is no deep supervision. In a
    nested decoder they are depths instead, all at full resolution, the deepest first."""
    decoder: Literal["plain", "attention", "nested"] = "plain"
    """What becomes of the skips: joined as they are, gated before, or refined by nested blocks."""
    upsampling: Literal["transposed", "linear", "shuffle"] = "transposed"
    downsampling: Literal["strided", "max"] = "strided"
    """By the stride of a stage's first block, or by max pooling before it."""
    norm: Literal["instance", "batch", "group"] = "instance"
    padding: Literal["same", "valid"] = "same"
    """Valid convolutions see no padding, so that the output is smaller (see `output_margin`)."""
    squeeze_reduction: int | None = None
    """Squeeze-and-excitation in the encoder's blocks, this many times narrower; None: without."""
    dropout: float = 0.0
    """Probability of dropout after the lowest encoder stage, while training."""
    missing_channels: bool = False
    """Whether channels may be absent: such a one is NaN, and the network sees for each channel
    where it is known."""
    backbone: Backbone | None = None
    """A pretrained encoder in place of the blocks of the lower stages."""

    @property
    def variants(self) -> dict[str, object]:
        """The fields with a default that have another value."""
        fields = type(self).model_fields
        optional = {key for key, field in fields.items() if not field.is_required()}
        return {key: item for key, item in self if key in optional and item != fields[key].default}

    @property
    def dimensions(self) -> int:
        """Number of spatial axes."""
        return len(self.stages[0].strides)

    @property
    def extent(self) -> str:
        """Depth and width in words."""
        features = [stage.features for stage in self.stages]
        return f"{len(features)} stages, {features[0]} to {features[-1]} features"

    @property
    def total_strides(self) -> tuple[int, ...]:
        """Product of all strides, per axis: what a patch must be divisible by."""
        return self._strides_until(len(self.stages) - 1)

    @property
    def seen_channels(self) -> int:
        """Channels that the first convolution takes: where each is known counts as one more."""
        return self.in_channels * (2 if self.missing_channels else 1)

    @property
    def output_margin(self) -> tuple[int, ...]:
        """Voxels by which the output is smaller than the input at each side, per axis.

        A valid convolution of kernel k loses (k - 1) / 2 of its own voxels a side, each as many
        of the input as the strides until there; 92 in Ronneberger et al. 2015, figure 1.
        """
        margin = [0] * self.dimensions
        if self.padding == "same":
            return tuple(margin)
        last = len(self.stages) - 1
        for level, stage in enumerate(self.stages):
            convs = stage.num_blocks + (self.decoder_convs if level < last else 0)
            axes = zip(stage.kernel_size, self._strides_until(level), strict=True)
            for axis, (kernel, stride) in enumerate(axes):
                margin[axis] += convs * (kernel // 2) * stride
        return tuple(margin)

    @property
    def patch_offset(self) -> tuple[int, ...]:
        """Voxels by which a patch exceeds a multiple of `total_strides`, per axis; 0 with padding.

        What valid convolutions of the encoder take away before each pooling must leave a multiple
        of its stride: 572 = 32 x 16 + 60 in Ronneberger et al. 2015, figure 1.
        """
        offset = [0] * self.dimensions
        if self.padding == "same":
            return tuple(offset)
        for level, stage in enumerate(self.stages):
            axes = zip(stage.kernel_size, self._strides_until(level), strict=True)
            for axis, (kernel, stride) in enumerate(axes):
                offset[axis] += 2 * stage.num_blocks * (kernel // 2) * stride
        return tuple(offset)

    def patch_around(self, output: Sequence[int]) -> tuple[int, ...]:
        """Return the smallest patch of which at least `output` voxels are predicted, per axis."""
        least = [n + 2 * m for n, m in zip(output, self.output_margin, strict=True)]
        axes = zip(least, self.patch_offset, self.total_strides, strict=True)
        return tuple(
            max(1, math.ceil((n - offset) / stride)) * stride + offset for n, offset, stride in axes
        )

    def patch_problem(self, patch_size: Sequence[int]) -> str | None:
        """Return why the network cannot take a patch, or None."""
        smallest = self.patch_around((1,) * self.dimensions)
        axes = zip(patch_size, smallest, self.total_strides, strict=True)
        fitting = tuple(least + max(0, round((n - least) / step)) * step for n, least, step in axes)
        if fitting == tuple(patch_size):
            return None
        if self.padding == "same":
            return f"not divisible by the network's strides {self.total_strides}; {fitting} is"
        return f"which valid convolutions cannot take; {fitting} they can"

    def _strides_until(self, level: int) -> tuple[int, ...]:
        """Return the voxels of the input that a voxel of a stage spans, per axis."""
        strides = [stage.strides for stage in self.stages[: level + 1]]
        return tuple(math.prod(axis) for axis in zip(*strides, strict=True))

    @property
    def num_own_stages(self) -> int:
        """Number of stages that no pretrained encoder makes."""
        return len(self.stages) - (0 if self.backbone is None else self.backbone.num_stages)

    def problems(self) -> list[str]:
        """Return why the network cannot be built, one line a problem; nothing for a good plan."""
        problems = self._backbone_problems()
        if not 1 <= self.num_supervised <= max(1, len(self.stages) - 1):
            problems.append(f"num_supervised is {self.num_supervised} of {len(self.stages)} stages")
        if self.decoder_convs < 1:
            problems.append(f"decoder_convs is {self.decoder_convs}, not 1 or more")
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout is {self.dropout}, not from 0 to below 1")
        if self.squeeze_reduction is not None and self.squeeze_reduction < 1:
            problems.append(f"squeeze_reduction is {self.squeeze_reduction}, not 1 or more")
        shape = (self.encoder, self.decoder, self.downsampling, self.num_supervised)
        if self.padding == "valid" and shape != ("plain", "plain", "max", 1):
            problems.append(
                "padding is valid, which needs encoder plain, decoder plain, downsampling max"
                " and num_supervised 1"
            )
        return problems

    def _backbone_problems(self) -> list[str]:
        """Return what does not go together with a pretrained encoder."""
        backbone = self.backbone
        if backbone is None:
            return []
        problems = []
        shape = (self.encoder, self.downsampling, self.padding, self.squeeze_reduction)
        if shape != ("plain", "strided", "same", None):
            problems.append(
                "backbone needs encoder plain, downsampling strided, padding same and no"
                " squeeze_reduction"
            )
        if self.missing_channels:
            problems.append("backbone and missing_channels do not go together")
        if self.dimensions != 2:
            problems.append(f"backbone sees 2 axes, not {self.dimensions}")
        if not len(backbone.mean) == len(backbone.std) == self.in_channels:
            problems.append(f"backbone.mean and std are not of {self.in_channels} channels")
        if not 1 <= backbone.num_stages <= len(self.stages):
            problems.append(
                f"backbone.num_stages is {backbone.num_stages} of {len(self.stages)} stages"
            )
        return problems


class LossPlan(Record):
    """Which loss, and its parameters; those that have no part in it keep their defaults."""

    kind: str = "dice_ce"
    """A key of `autoseg.plan.losses.LOSSES`."""
    dice_power: Literal[1, 2] = 1
    """Power of the probabilities in the denominator of Dice."""
    class_weights: tuple[float, ...] = ()
    """Weight of each class in the cross-entropy, background first."""
    focal_gamma: float = 2.0
    """Larger: voxels that are easy count less."""
    focal_alpha: float | None = None
    """Weight of foreground voxels, 1 - alpha of the background; None: all weigh 1."""
    focal_dice_beta: float = 2.0
    """Larger: classes that are easy count less."""
    focal_tversky_gamma: float = 4 / 3
    false_positive_weight: float = 0.3
    false_negative_weight: float = 0.7
    hardest_fraction: float = 0.1
    """Part of the voxels that count, those with the largest loss."""
    hardest_below: float = 0.7
    """Voxels whose true class has less probability count in any case."""
    cldice_weight: float = 0.5
    """Of clDice; Dice has the rest."""
    skeleton_iterations: int = 5
    """Voxels from the centreline of the thickest tube to its surface."""
    boundary_weight: float = 0.01
    """Of the distance from the surface in voxels, beside Dice and cross-entropy."""
    regions: tuple[tuple[int, ...], ...] = ()
    """Indices of the classes that make up each region."""


def autoseg_version() -> str:
    """Return the version of the installed autoseg, which every written record carries."""
    return version("autoseg-unet")

"""Pretrained encoders that are on this machine, and when one is wanted unasked."""

from dataclasses import dataclass

from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.record import Backbone

COLOURS = 3
USUAL_ENCODERS = ("resnet34", "resnet18", "tf_efficientnet_lite0", "efficientnet_b0", "resnet50")
"""Of several at hand, the first: small ones that learn in few steps. On fundus photographs one of
them was 0.065 Dice ahead after 120 steps (docs/pretrained.md)."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The stages of an encoder, finest first."""

    features: tuple[int, ...]
    reductions: tuple[int, ...]
    """How much coarser than the image each is."""


@dataclass(frozen=True, kw_only=True)
class EncoderAtHand:
    """A pretrained encoder whose weights need not be fetched."""

    backbone: Backbone
    shape: Shape


def no_encoder(_fingerprint: Fingerprint) -> EncoderAtHand | None:
    """Return none: nothing is known of this machine's."""
    return None


def fetching(key: str) -> str:
    """Return in words how a usual encoder is had where none is; `key` is what `--set` takes."""
    return (
        f"--set {key}={USUAL_ENCODERS[0]} fetches them "
        "(after pip install 'autoseg-unet[pretrained]')."
    )


def sees_colours(fingerprint: Fingerprint) -> bool:
    """Return whether images are what encoders were trained on: pictures of 8 bits, three colours.

    Told by the number of channels; their names may be anything.
    """
    is_picture = fingerprint.dimensions == 2 and len(fingerprint.channels) == COLOURS
    return is_picture and all(case.dtype == "uint8" for case in fingerprint.cases)

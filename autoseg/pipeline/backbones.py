"""A user's settings applied to a plan, pretrained encoders among them."""

from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from autoseg.errors import AutosegError
from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.plan.backbones import Asked, split_backbones, with_backbone
from autoseg.plan.encoders import USUAL_ENCODERS, EncoderAtHand, Shape
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.plan import Plan
from autoseg.record import PUBLISHED_WEIGHTS, Backbone
from autoseg.workspace import Workspace, write_bytes

HUB_CACHE = Path("~/.cache/huggingface/hub")
"""Where timm keeps what it has fetched, unless it was told otherwise."""
CACHED = "models--timm--"
"""What a model's folder there begins with, before its name and tag."""


def apply_settings(
    plan: Plan,
    assignments: Sequence[str],
    fingerprint: Fingerprint,
    workspace: Workspace | None = None,
) -> Plan:
    """Return the plan as the user wants it (see `apply_overrides`).

    torch and timm are imported only where a setting asks for a pretrained encoder.

    Parameters
    ----------
    plan, assignments, fingerprint
        What was planned, KEY=VALUE each, and for which data.
    workspace
        Keeps the encoders' weights, so that training fetches nothing; None: nothing is written.

    Raises
    ------
    AutosegError
        A setting that cannot be applied, an encoder or weights that cannot be had.
    """
    asked, others = split_backbones(plan, assignments)
    for item in asked:
        plan = _with_encoder(plan, item, fingerprint, workspace)
    return apply_overrides(plan, others)


def encoder_at_hand(
    fingerprint: Fingerprint, workspace: Workspace | None, cache: Path = HUB_CACHE
) -> EncoderAtHand | None:
    """Return a pretrained encoder whose weights are in timm's cache, if there is one.

    Nothing is fetched, and torch and timm are imported only where there is one.

    Parameters
    ----------
    fingerprint
        Of the pictures.
    workspace
        Keeps the encoder's weights; None: nothing is written.
    cache
        Where timm's weights are once they have been fetched.
    """
    if find_spec("timm") is None:
        return None
    folder = cache.expanduser()
    for name in USUAL_ENCODERS:
        for file in sorted(folder.glob(f"{CACHED}{name}.*/snapshots/*/*.safetensors")):
            model = file.relative_to(folder).parts[0].removeprefix(CACHED)
            # Nobody has asked for it: what timm cannot load stops no plan.
            with suppress(AutosegError):
                return _encoder(model, PUBLISHED_WEIGHTS, len(fingerprint.channels), workspace)
    return None


def _with_encoder(
    plan: Plan, asked: Asked, fingerprint: Fingerprint, workspace: Workspace | None
) -> Plan:
    in_channels = plan.configuration(asked.configuration).network.in_channels
    found = _encoder(asked.model, asked.weights, in_channels, workspace)
    return with_backbone(plan, asked, found.backbone, found.shape, fingerprint)


def _encoder(
    model: str, source: str, in_channels: int, workspace: Workspace | None
) -> EncoderAtHand:
    """Return an encoder, whose weights the workspace keeps."""
    from autoseg.network.pretrained import find_extractor
    from autoseg.network.weight_files import weights_bytes, weights_digest

    found = find_extractor(model, source, in_channels)
    weights = found.module.state_dict() if found.is_pretrained else None
    backbone = Backbone(
        model=found.model,
        weights=None if weights is None else weights_digest(weights),
        mean=found.mean,
        std=found.std,
        # Statistics that were never learnt must be.
        frozen_norm=found.is_pretrained and found.has_batch_norm,
        num_stages=len(found.features),
        parameters=found.parameters,
        multiplications=found.multiplications,
        values=found.values,
    )
    if workspace is not None and weights is not None and backbone.weights is not None:
        write_bytes(workspace.encoder_weights(backbone.weights), weights_bytes(weights))
    shape = Shape(features=found.features, reductions=found.reductions)
    return EncoderAtHand(backbone=backbone, shape=shape)

"""A user's settings applied to a plan, pretrained encoders among them."""

from collections.abc import Sequence

from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.plan.backbones import Asked, Shape, split_backbones, with_backbone
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.plan import Plan
from autoseg.record import Backbone
from autoseg.workspace import Workspace, write_bytes


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


def _with_encoder(
    plan: Plan, asked: Asked, fingerprint: Fingerprint, workspace: Workspace | None
) -> Plan:
    from autoseg.network.pretrained import find_extractor
    from autoseg.network.weight_files import weights_bytes, weights_digest

    in_channels = plan.configuration(asked.configuration).network.in_channels
    found = find_extractor(asked.model, asked.weights, in_channels)
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
    return with_backbone(plan, asked, backbone, shape, fingerprint)

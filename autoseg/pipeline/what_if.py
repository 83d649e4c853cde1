"""The plan of a workspace, made again for another machine or other hours; nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import mul

from autoseg.errors import PlanError, as_pair
from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.machine import measure_machine
from autoseg.pipeline.run_record import RunRecord
from autoseg.plan.backbones import Asked, split_backbones, with_backbone
from autoseg.plan.budget import refuse_short_budget
from autoseg.plan.consistency import load_plan
from autoseg.plan.encoders import EncoderAtHand, Shape
from autoseg.plan.fits import fitting_plan, refuse_misfits
from autoseg.plan.overrides import apply_overrides, user_settings
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.plan.registry import Planner, load_planner
from autoseg.plan.request import PlanRequest
from autoseg.plan.what_if import WhatIf, changed_request, earlier_request
from autoseg.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Imagined:
    """A plan as it is, and as it would be."""

    now: Plan
    then: Plan
    left_out: str | None = None
    """Why the user's settings are not in the latter; None: they are, or there are none."""


def imagine(workspace: Workspace, what_if: WhatIf) -> Imagined:
    """Return the plan of a workspace, and the one that would be made with other means.

    What a user has set in the plan is set in the other one, too, if it fits there.

    Raises
    ------
    AutosegError
        The workspace has no plan or fingerprint, or there is no plan for such means.
    """
    refuse_short_budget(what_if.budget_s, as_pair)
    now = load_plan(workspace.plan)
    fingerprint = Fingerprint.load(workspace.fingerprint)
    planner = load_planner(what_if.planner or now.planner)
    has_run = workspace.run.exists()
    machine = RunRecord.load(workspace.run).machine if has_run else measure_machine()
    request = earlier_request(now, fingerprint, machine)
    encoder = next((found for item in now.configurations if (found := _encoder(item))), None)
    request = replace(request, find_encoder=lambda _: encoder)  # nothing is loaded or fetched
    if what_if.memory_bytes is None and what_if.planner in (None, now.planner):
        request = _with_memory(request, now, planner)
    asked = changed_request(request, what_if)
    made = fitting_plan(planner, asked, as_pair)
    settings = user_settings(now)
    try:
        then = _with_settings(made, settings, now, fingerprint)
        refuse_misfits(then, made, asked)
        return Imagined(now=now, then=then)
    except PlanError as error:
        return Imagined(
            now=now, then=made, left_out=f"--set {' --set '.join(settings)}: {error.found}"
        )


def _with_memory(request: PlanRequest, plan: Plan, planner: Planner) -> PlanRequest:
    """Return the request with the memory that was asked for, if it was.

    A plan says what it may take, not who said so: where the planner takes something else by
    itself, a user did.
    """
    own = planner(request).memory_bytes
    return request if own == plan.memory_bytes else replace(request, memory_bytes=plan.memory_bytes)


def _with_settings(
    plan: Plan, settings: Sequence[str], earlier: Plan, fingerprint: Fingerprint
) -> Plan:
    """Return a plan with what a user has set in an earlier one.

    Pretrained encoders are taken from the earlier plan: nothing is fetched or loaded.
    """
    asked, others = split_backbones(plan, settings)
    for item in asked:
        plan = _with_encoder(plan, item, earlier, fingerprint)
    return apply_overrides(plan, others)


def _with_encoder(plan: Plan, asked: Asked, earlier: Plan, fingerprint: Fingerprint) -> Plan:
    kept = _encoder(earlier.configuration(asked.configuration))
    assert kept is not None, "a setting that was applied is in the plan"
    return with_backbone(plan, asked, kept.backbone, kept.shape, fingerprint)


def _encoder(item: ConfigurationPlan) -> EncoderAtHand | None:
    """Return the pretrained encoder of a configuration, as far as its plan knows it."""
    network = item.network
    if network.backbone is None:
        return None
    first = network.num_own_stages
    spans = accumulate((stage.strides[0] for stage in network.stages), mul)
    shape = Shape(
        features=tuple(stage.features for stage in network.stages[first:]),
        reductions=tuple(spans)[first:],
    )
    return EncoderAtHand(backbone=network.backbone, shape=shape)

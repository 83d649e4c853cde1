"""Contracts that plugins keep, each one function: used on our own and by others. Needs `dev`."""

from hypothesis import HealthCheck, Phase, given, settings

from autoseg.plan.consistency import plan_problems
from autoseg.plan.plan import Plan
from autoseg.plan.registry import Planner
from autoseg.plan.request import PlanRequest
from autoseg.testing.strategies import plan_requests

DEFAULT_EXAMPLES = 25


def check_planner(planner: Planner, *, num_examples: int = DEFAULT_EXAMPLES) -> None:
    """Raise AssertionError unless a planner keeps its contract on requests of every kind.

    Whatever the data, the machine and the budget: the plan is for the data and the request that
    were given, fits together, survives JSON, is the same for the same request, and says why.
    """

    @settings(
        deadline=None,
        derandomize=True,
        max_examples=num_examples,
        database=None,
        phases=(Phase.generate,),  # shrinking would plan hundreds of times
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
    )
    @given(request=plan_requests())
    def keeps_the_contract(request: PlanRequest) -> None:
        plan = planner(request)
        _check_answer(request, plan)
        problems = plan_problems(plan)
        assert not problems, problems
        text = plan.to_json()
        assert Plan.from_json(text, "plan.json") == plan, "the plan does not survive JSON"
        assert planner(request).to_json() == text, "the same request gave another plan"
        _check_reasons(plan)

    keeps_the_contract()


def _check_answer(request: PlanRequest, plan: Plan) -> None:
    """Require that the plan answers this request and no other."""
    fingerprint = request.fingerprint
    assert plan.labels == fingerprint.labels, "the plan is for other labels"
    assert plan.fingerprint_digest == fingerprint.digest(), "the plan is for other data"
    assert (plan.seed, plan.num_folds) == (request.seed, request.num_folds), "seed or folds differ"
    assert plan.device == request.device, "the plan is for another device"
    for item in plan.configurations:
        names = [channel.name for channel in item.recipe.channels]
        assert names == list(fingerprint.channels), "the plan is for other channels"
        assert len(item.recipe.transpose) == fingerprint.dimensions, "the images' axes differ"
        assert item.network.in_channels >= len(names), "a channel is not seen"
        if fingerprint.dimensions == 2:
            assert item.name == "2d", "2D images have one configuration"


def _check_reasons(plan: Plan) -> None:
    """Require a reason for each decision and each choice of what to train."""
    assert plan.decisions, "no decision is recorded"
    for decision in plan.decisions:
        assert decision.reason.strip(), f"no reason for {decision.name}"
        assert decision.rule.strip(), f"no rule for {decision.name}"
    for item in plan.configurations:
        assert item.why.strip(), f"no reason to train or not to train {item.name}"

"""Contracts that plugins keep, each one function: used on our own and by others. Needs `dev`."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.format import Format
from autoseg.errors import PlanError
from autoseg.plan.consistency import plan_problems
from autoseg.plan.fits import has_room
from autoseg.plan.plan import Plan
from autoseg.plan.registry import Planner
from autoseg.plan.request import PlanRequest
from autoseg.testing import format_contract
from autoseg.testing.layouts import LAYOUTS
from autoseg.testing.strategies import plan_requests

DEFAULT_EXAMPLES = 25
EXPLAINED = ("patch_size", "batch_size", "network")
"""What a plan must give a reason for in each configuration that is trained."""


def check_format(
    entry: Format, folder: Path | Callable[[Path], object], *, spec: DatasetSpec | None = None
) -> None:
    """Raise AssertionError unless a format keeps its contract on a folder.

    It finds its folder, no empty one and none of another format; always the same cases, with ids
    that can be names of files; images of finite numbers (C, *S) and labels (1, *S) that hold values
    of classes only. It names a label file that is missing, and writes nothing into the folder.

    Parameters
    ----------
    entry
        The format, registered as an entry point of `autoseg.formats`.
    folder
        A small data set of at least two cases with labels; or a function that makes one in an empty
        folder.
    spec
        Declared beside the folder; with a `layout`, the folder need not be found by looking.
    """
    if not isinstance(folder, Path):
        with tempfile.TemporaryDirectory() as made:
            root = Path(made).resolve() / "dataset"
            root.mkdir()
            folder(root)
            check_format(entry, root, spec=spec)
        return
    subject = format_contract.Subject(entry, folder.resolve(), spec or DatasetSpec())
    before = format_contract.tree_hash(folder)
    format_contract.check_registered(entry)
    format_contract.check_finding(subject, LAYOUTS)
    format_contract.check_layout(subject)
    dataset = format_contract.open_with(subject)
    format_contract.check_reading(dataset, entry)
    format_contract.check_unreadable(subject, dataset)
    format_contract.check_missing_labels(subject, dataset)
    after = format_contract.tree_hash(folder)
    assert after == before, f"{entry.name} changed the folder that it read"


def check_planner(
    planner: Planner, *, num_examples: int = DEFAULT_EXAMPLES, memory_factor: float = 1.0
) -> None:
    """Raise AssertionError unless a planner keeps its contract on requests of every kind.

    Whatever the data, the machine and the budget: the plan is for the data and the request that
    were given, fits together, survives JSON, is the same for the same request, keeps to the memory,
    says why, and everything in it can be built. Signals, images with one axis, may be refused with
    a PlanError.

    Parameters
    ----------
    planner
        A function of the entry-point group `autoseg.planners`.
    num_examples
        How many requests are made up; always the same ones.
    memory_factor
        How much more memory than the plan allows a trained configuration may be expected to take:
        above 1 for planners that measure memory in another way than `autoseg.plan.memory`.
    """
    built: set[str] = set()

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
        try:
            plan = planner(request)
        except PlanError:
            assert request.fingerprint.dimensions == 1, "pictures or volumes are refused"
            return
        _check_answer(request, plan)
        problems = plan_problems(plan)
        assert not problems, problems
        text = plan.to_json()
        assert Plan.from_json(text, "plan.json") == plan, "the plan does not survive JSON"
        assert planner(request).to_json() == text, "the same request gave another plan"
        _check_reasons(plan)
        _check_costs(request, plan, memory_factor)
        _check_built(plan, built)

    keeps_the_contract()


def _check_costs(request: PlanRequest, plan: Plan, memory_factor: float) -> None:
    """Require costs above 0, and no more memory than was given where a useful network fits."""
    asked = request.memory_bytes
    assert asked is None or plan.memory_bytes <= asked, "the plan takes more memory than was asked"
    allowed = memory_factor * plan.memory_bytes
    for item in plan.configurations:
        cost = item.cost
        numbers = (cost.parameters, cost.step_operations, cost.step_seconds, cost.memory_bytes)
        assert min(numbers) > 0, f"{item.name}: a cost is not above 0: {cost}"
        if item.train_by_default and has_room(plan):
            expected = f"{cost.memory_bytes / 1e9:.2f} of {plan.memory_bytes / 1e9:.2f} GB"
            assert cost.memory_bytes <= allowed, f"{item.name} should take {expected}"


def _check_built(plan: Plan, built: set[str]) -> None:
    """Require that each configuration can be built; those in `built` were, and are not again."""
    from autoseg.testing.building import check_buildable

    for item in plan.configurations:
        key = f"{item.network.digest()} {item.patch_size} {item.training.loss.digest()}"
        if key not in built:
            check_buildable(item)
            built.add(key)


def _check_answer(request: PlanRequest, plan: Plan) -> None:
    """Require that the plan answers this request and no other."""
    fingerprint = request.fingerprint
    assert plan.labels == fingerprint.labels, "the plan is for other labels"
    assert plan.fingerprint_digest == fingerprint.digest(), "the plan is for other data"
    assert (plan.seed, plan.num_folds) == (request.seed, request.num_folds), "seed or folds differ"
    is_asked = request.budget_s is not None or request.after is None
    assert not is_asked or plan.budget_s == request.budget_s, "the plan is for another budget"
    assert plan.device == request.device, "the plan is for another device"
    for item in plan.configurations:
        names = [channel.name for channel in item.recipe.channels]
        assert names == list(fingerprint.channels), "the plan is for other channels"
        assert len(item.recipe.transpose) == fingerprint.dimensions, "the images' axes differ"
        assert item.network.in_channels >= len(names), "a channel is not seen"
        if fingerprint.dimensions < 3:
            name = f"{fingerprint.dimensions}d"
            assert item.name == name, f"the only configuration of such images is {name}"


def _check_reasons(plan: Plan) -> None:
    """Require a reason for each decision, and one for all that is decided of what is trained."""
    assert plan.decisions, "no decision is recorded"
    names = [decision.name for decision in plan.decisions]
    for decision in plan.decisions:
        assert names.count(decision.name) == 1, f"{decision.name} is decided twice"
        assert decision.reason.strip(), f"no reason for {decision.name}"
        assert decision.rule.strip(), f"no rule for {decision.name}"
    for item in plan.configurations:
        assert item.why.strip(), f"no reason to train or not to train {item.name}"
        if item.train_by_default:
            for what in EXPLAINED:
                assert f"{item.name}.{what}" in names, f"no decision about {item.name}.{what}"

"""Whether what was planned fits what was given, where a user has changed a plan."""

from autoseg.dataset.dataset import Finding
from autoseg.plan.plan import ConfigurationPlan, Plan

GB = 1e9


def memory_findings(plan: Plan) -> tuple[Finding, ...]:
    """Return a warning for each trained configuration that should need more than its device has.

    Planners keep to the memory; `--set` may go beyond it, and the estimate may be wrong: so the
    plan stands.
    """
    trained = [item for item in plan.configurations if item.train_by_default]
    beyond = [item for item in trained if item.cost.memory_bytes > plan.memory_bytes]
    return tuple(_finding(item, plan.memory_bytes) for item in beyond)


def _finding(item: ConfigurationPlan, memory_bytes: int) -> Finding:
    half = item.network.patch_around([max(1, n // 2) for n in item.output_size])
    patch = ",".join(map(str, half))
    return Finding(
        severity="warning",
        found=f"{item.name} should need {item.cost.memory_bytes / GB:.1f} GB as it was set",
        expected=f"at most {memory_bytes / GB:.1f} GB, which the training device may give",
        remedy=f"--set {item.name}.training.recompute=true, a smaller patch such as "
        f"--set {item.name}.patch_size={patch}, or a smaller {item.name}.batch_size; "
        "or more --memory, if there is more",
    )

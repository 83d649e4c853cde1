"""Planning with its display, for the commands that plan."""

from autoseg.cli.progress import Progress
from autoseg.cli.shared import log_to
from autoseg.pipeline.planning import PlanOptions, PlanOutcome, make_plan


def run_planning(options: PlanOptions) -> PlanOutcome:
    """Measure and plan with progress; from then on the workspace keeps the log."""
    with Progress() as progress:
        outcome = make_plan(options, lambda _, done, total: progress.update("measure", done, total))
    log_to(outcome.workspace)
    return outcome

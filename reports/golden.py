"""Write plans that the tests make again: `python reports/golden.py [WORKSPACE...] [--planner P]`.

A workspace brings its fingerprint, which all planners of a data set share:
`reports/<data set>/fingerprint.json`. Planners that are named plan for every data set whose
fingerprint is there, on one made-up machine. Without arguments, every plan of the gallery is made
again as the tests make it: what then differs is what changed in the rules.
"""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from autoseg.errors import PlanError
from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.pipeline.run_record import RunRecord
from autoseg.plan.plan import Plan
from autoseg.plan.registry import load_planner
from autoseg.plan.request import PlanRequest
from autoseg.plan.what_if import earlier_request
from autoseg.record import autoseg_version
from autoseg.testing.fingerprints import machine_of, request_of
from autoseg.workspace import Workspace, write_text

GALLERY = Path(__file__).parent
FINGERPRINT, PLAN, ENVIRONMENT = "fingerprint.json", "plan.json", "environment.json"
MAX_FOLDS = 5
BUDGETS_S = {"auto": 1200.0}
"""Of planners that ask for one: 20 minutes, as in the reports."""


def add_fingerprint(workspace: Workspace) -> None:
    """Keep the fingerprint of a workspace, without what recognises single images."""
    found = Fingerprint.load(workspace.fingerprint)
    cases = tuple(case.revised(content_hash=None, thumbnail=None) for case in found.cases)
    path = GALLERY / found.dataset_name / FINGERPRINT
    write_text(path, found.revised(cases=cases).to_json())


def golden_request(folder: Path) -> PlanRequest:
    """Return what the plan in a folder answers."""
    plan = Plan.load(folder / PLAN)
    machine = RunRecord.load(folder / ENVIRONMENT).machine
    return earlier_request(plan, golden_fingerprint(folder), machine)


def golden_fingerprint(folder: Path) -> Fingerprint:
    """Return the fingerprint that a folder's plan was made from: its own, or the data set's."""
    own = folder / FINGERPRINT
    return Fingerprint.load(own if own.is_file() else folder.parent / FINGERPRINT)


def add_plan(folder: Path) -> None:
    """Write the plan of a planner, which the folder is named after, for the made-up machine."""
    fingerprint, machine = golden_fingerprint(folder), machine_of()
    request = request_of(
        fingerprint,
        machine,
        budget_s=BUDGETS_S.get(folder.name),
        num_folds=min(MAX_FOLDS, len(fingerprint.cases)),
    )
    plan = load_planner(folder.name)(request)
    run = RunRecord(
        autoseg_version=autoseg_version(),
        versions={},
        machine=machine,
        seed=plan.seed,
        plan_digest=plan.digest(),
        commands=(f"python reports/golden.py --planner {folder.name}",),
        active_s={},
    )
    write_text(folder / PLAN, plan.to_json())
    write_text(folder / ENVIRONMENT, run.to_json())


def renew_plan(folder: Path) -> None:
    """Make the plan in a folder again; the record of a run beside it stays as it is."""
    plan = load_planner(folder.name)(golden_request(folder))
    write_text(folder / PLAN, plan.to_json())


def write_plans(planners: Sequence[str]) -> None:
    """Write the plans of some planners for every data set, or all that are there again."""
    folders = [path.parent for path in sorted(GALLERY.glob(f"*/*/{PLAN}"))]
    if planners:
        places = [path.parent for path in sorted(GALLERY.glob(f"*/{FINGERPRINT}"))]
        folders = [place / name for place in places for name in planners]
    for folder in folders:
        has_run = (folder / FINGERPRINT).is_file()
        with suppress(PlanError):  # one that refuses such data has no plan there
            renew_plan(folder) if has_run else add_plan(folder)


def main() -> None:
    """Write fingerprints and plans."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspaces", nargs="*", type=Path, metavar="WORKSPACE")
    parser.add_argument("--planner", action="append", default=[])
    arguments = parser.parse_args()
    for root in arguments.workspaces:
        add_fingerprint(Workspace(root.absolute()))
    if arguments.planner or not arguments.workspaces:
        write_plans(arguments.planner)


if __name__ == "__main__":
    main()

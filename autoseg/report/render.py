"""A workspace's files as one HTML page that needs nothing else, neither network nor other files."""

import base64
import hashlib
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from autoseg.errors import counted
from autoseg.plan.losses import LOSSES
from autoseg.plan.plan import Plan, TrainingPlan
from autoseg.record import NetworkPlan, autoseg_version
from autoseg.report import results
from autoseg.report.contents import Contents, read_contents
from autoseg.report.data import class_facts, spreads
from autoseg.report.figures import colour
from autoseg.report.overlays import Overlay, draw_overlays
from autoseg.report.search import search_results
from autoseg.report.text import FILTERS, duration, interval, number, size
from autoseg.workspace import Workspace, write_text

TEMPLATE, STYLES, SCRIPT = "report.html.j2", "report.css", "report.js"


def render_report(workspace: Workspace, *, images: bool = True) -> Path:
    """Write report.html from what the workspace holds, and return its path.

    Parameters
    ----------
    workspace
        At any stage: from a plan alone to a finished model.
    images
        Show pictures of some cases; they are images of the data set.

    Raises
    ------
    WorkspaceError
        There is nothing to report, or the report cannot be written.
    """
    contents = read_contents(workspace)
    write_text(workspace.report, render_html(contents, _overlays(contents) if images else ()))
    return workspace.report


def render_html(contents: Contents, overlays: tuple[Overlay, ...]) -> str:
    """Return the report as HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(FILTERS)
    environment.globals.update(colour=colour, progress=results.progress, stage_shapes=stage_shapes)
    environment.globals.update(loss_words=loss_words, plateau_words=results.plateau_words)
    environment.globals.update(step_took=results.step_took, warmup=results.warmup)
    environment.globals.update(speed_bound=results.speed_bound, bound_notes=results.bound_notes)
    environment.globals.update(predicts_otherwise=results.predicts_otherwise)
    environment.globals.update(asked_for=results.asked_for, run_words=results.run_words)
    template = environment.from_string(_resource(TEMPLATE))
    return template.render(**_context(contents, overlays)).strip() + "\n"


def loss_words(training: TrainingPlan) -> str:
    """Return what a loss is in words."""
    words = LOSSES[training.loss.kind][0]
    return words.replace("Dice", "batch Dice") if training.batch_dice else words


def stage_shapes(patch_size: tuple[int, ...], network: NetworkPlan) -> list[tuple[int, ...]]:
    """Return the shape of a patch at each stage of a network."""
    shapes, shape = [], patch_size
    for stage in network.stages:
        shape = tuple(n // s for n, s in zip(shape, stage.strides, strict=True))
        shapes.append(shape)
    return shapes


def _context(contents: Contents, overlays: tuple[Overlay, ...]) -> dict[str, Any]:
    """Return everything that the template names."""
    plan, fingerprint = contents.plan, contents.fingerprint
    scored = results.configuration_results(contents)
    script = _resource(SCRIPT)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {
        "version": autoseg_version(),
        "styles": Markup(_resource(STYLES)),
        "script": Markup(script),
        "script_hash": f"'sha256-{digest}'",
        "name": _name(contents),
        "contents": contents,
        "plan": plan,
        "dataset": contents.dataset,
        "fingerprint": fingerprint,
        "class_names": plan.labels.names[1:] if plan else (),
        "class_facts": class_facts(fingerprint) if fingerprint else (),
        "spreads": spreads(fingerprint) if fingerprint else (),
        "scored": scored,
        "postprocessed": results.postprocessed,
        "settings_tried": results.settings_tried(contents),
        "max_class_columns": results.MAX_CLASS_COLUMNS,
        "only_unscored": results.only_unscored(contents),
        "search": search_results(contents.search) if contents.search else None,
        "training": results.configuration_training(contents),
        "overlays": overlays,
        "tiles": _tiles(contents, scored),
        "commands": _commands(contents),
        "run": contents.run,
        "manifest": contents.manifest,
        "trained_seconds": _trained_seconds(contents),
    }


def _overlays(contents: Contents) -> tuple[Overlay, ...]:
    """Return pictures of cases of the chosen configuration."""
    chosen = results.chosen_configuration(contents)
    if contents.dataset is None:
        return ()
    own = [item for item in contents.folds if item.configuration == chosen]
    return draw_overlays(contents.dataset, own)


def _name(contents: Contents) -> str:
    """Return the name of the data set."""
    if contents.plan is not None:
        return contents.plan.dataset_name
    if contents.dataset is not None:
        return contents.dataset.name
    return contents.fingerprint.dataset_name if contents.fingerprint else "data set"


def _tiles(
    contents: Contents, scored: tuple[results.ConfigurationResults, ...]
) -> list[tuple[str, str, str]]:
    """Return the figures at the top: name, value, remark."""
    tiles = []
    if scored:
        best = scored[0]
        dice, nsd = best.summary.foreground.dice, best.summary.foreground.nsd
        tiles.append(("Mean Dice", number(dice.mean), interval(dice)))
        processed = results.postprocessed(contents, best)
        if processed is not None:
            tiles.append(("With post-processing", number(processed), "mean Dice, cross-fitted"))
        if contents.plan:
            tolerance = f"within {contents.plan.nsd_tolerance:g} {contents.plan.unit}"
            tiles.append(("Mean NSD", number(nsd.mean), tolerance))
        folds = f"{len(best.folds)} of {contents.plan.num_folds}" if contents.plan else ""
        tiles.append(("Validated cases", str(best.summary.num_cases), f"{folds} folds"))
    elif contents.fingerprint:
        tiles.append(("Cases", str(len(contents.fingerprint.cases)), ""))
    seconds = _trained_seconds(contents)
    if seconds:
        num_done = sum(1 for item in contents.folds if item.result)
        remark = f"and validation of {counted(num_done, 'finished fold')}"
        tiles.append(("Training", duration(seconds), remark))
    if contents.archive:
        tiles.append(("Model", size(contents.archive.num_bytes), contents.archive.name))
    worst = [finding for finding in contents.findings if finding.severity != "note"]
    if worst:
        tiles.append(("Findings", str(len(worst)), "about the data"))
    return tiles


def _trained_seconds(contents: Contents) -> float:
    """Return the time that all finished folds took, validation included."""
    done = [item.result for item in contents.folds if item.result]
    return sum(item.train_seconds + item.validation_seconds for item in done)


def _commands(contents: Contents) -> list[str]:
    """Return the command lines that lead to this workspace."""
    recorded = contents.run.get("commands")
    typed = [str(line) for line in recorded] if isinstance(recorded, list) else []
    if contents.plan is None or any(line.startswith("autoseg plan") for line in typed):
        return typed
    return [_plan_command(contents, contents.plan), *(typed or ["autoseg train"])]


def _plan_command(contents: Contents, plan: Plan) -> str:
    """Return the command that makes the plan, from what the plan recorded."""
    root = str(contents.dataset.root) if contents.dataset else plan.dataset_name
    parts = ["autoseg", "plan", root, "-w", contents.workspace.root.name]
    parts += ["--planner", plan.planner, "--folds", str(plan.num_folds), "--seed", str(plan.seed)]
    device = plan.device if plan.device_index is None else f"{plan.device}:{plan.device_index}"
    parts += ["--device", device, "--memory", f"{plan.memory_bytes}B"]
    if plan.budget_s is not None:
        parts += ["--budget", f"{plan.budget_s:.0f}s"]
    return shlex.join(parts)


def _resource(name: str) -> str:
    """Return a text file that is packaged beside this module."""
    return files("autoseg.report").joinpath(name).read_text(encoding="utf-8")

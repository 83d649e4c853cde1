"""Put a finished run into the gallery: `python reports/write.py WORKSPACE`.

Writes `reports/<data set>/<planner>/` without images and without this machine's paths, and renews
the table in `reports/README.md`.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from autoseg.dataset.dataset import Dataset
from autoseg.pipeline.run_record import RunRecord
from autoseg.pipeline.summary import summarise_run
from autoseg.plan.consistency import load_plan
from autoseg.report.render import render_report
from autoseg.workspace import Workspace, write_text

GALLERY = Path(__file__).parent
TABLE_START = "<!-- table -->\n"
COLUMNS = ("data set", "planner", "configuration", "folds", "cases", "mean Dice", "training")


def write_folder(workspace: Workspace) -> Path:
    """Write the gallery folder of a run and return it."""
    plan = load_plan(workspace.plan)
    folder = GALLERY / plan.dataset_name / plan.planner
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        clean = _without_paths(workspace, Workspace(Path(name) / workspace.root.name))
        render_report(clean, images=False)
        summary = summarise_run(clean)
        shutil.copy(clean.report, folder / "report.html")
        shutil.copy(clean.fingerprint, folder / "fingerprint.json")
        shutil.copy(clean.plan, folder / "plan.json")
        shutil.copy(clean.run, folder / "environment.json")
    metrics = {"classes": summary["classes"], "folds": summary["folds"]}
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2, sort_keys=True) + "\n")
    return folder


def table() -> str:
    """Return the gallery as a Markdown table, from the folders that are there."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for path in sorted(GALLERY.glob("*/*/metrics.json")):
        folds = json.loads(path.read_text(encoding="utf-8"))["folds"]
        for name in sorted({fold["configuration"] for fold in folds}):
            own = [fold for fold in folds if fold["configuration"] == name and fold["summary"]]
            cases = sum(fold["cases"] for fold in own)
            dice = sum(f["cases"] * f["summary"]["foreground"]["dice"]["mean"] for f in own) / cases
            minutes = sum(fold["train_seconds"] for fold in own) / 60
            link = f"[{path.parts[-2]}]({'/'.join(path.parts[-3:-1])}/report.html)"
            indices = ", ".join(fold["fold"] for fold in own)
            cells = (
                path.parts[-3],
                link,
                name,
                indices,
                cases,
                f"{dice:.4f}",
                f"{minutes:.0f} min",
            )
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _without_paths(workspace: Workspace, clean: Workspace) -> Workspace:
    """Copy what a report needs, with the data set's and the workspace's names for their paths."""
    ignored = shutil.ignore_patterns("preprocessed", "measured", "*.pt", "*.nii*", "*.png", "*.tif")
    shutil.copytree(workspace.root, clean.root, ignore=ignored)
    dataset = Dataset.load(workspace.dataset)
    known = {str(dataset.root): dataset.name, str(workspace.root): workspace.root.name}
    run = RunRecord.load(workspace.run)
    commands = []
    for line in run.commands:
        for path, name in known.items():
            line = line.replace(path, name)
        commands.append(line)
    write_text(clean.run, run.revised(commands=tuple(commands), active_s={}).to_json())
    write_text(clean.dataset, dataset.revised(root=Path(dataset.name)).to_json())
    return clean


def main() -> None:
    """Write one run's folder and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    write_folder(Workspace(parser.parse_args().workspace.absolute()))
    readme = GALLERY / "README.md"
    head = readme.read_text(encoding="utf-8").split(TABLE_START)[0]
    write_text(readme, head + TABLE_START + table())


if __name__ == "__main__":
    main()

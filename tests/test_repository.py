"""Rules about the repository as a whole."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.spec import json_schema, load_spec
from autoseg.plan.plan import Plan
from autoseg.plan.registry import load_planner

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SPECS = sorted(
    path for path in (ROOT / "datasets_spec").rglob("*.json") if path.name != "dataset.schema.json"
)
REPORTS = sorted(path.parent for path in (ROOT / "reports").glob("*/*/plan.json"))
RUNTIME_MAY_IMPORT = {"numpy", "scipy", "SimpleITK", "PIL", "onnxruntime", *sys.stdlib_module_names}
# The pieces are put together here so that this file does not find itself.
SHARED = ".." + "/shared"
FOREIGN = re.compile(
    "|".join(["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/tmp/con" + "tract", "sub" + "agent"])
    + r"|https?://[^ )\"]*(simple|registry|whl|debian)\b"
)
VIOLATIONS = {
    "evaluate/scores.py": "import autoseg.plan.plan",
    "preprocess/seeded.py": "from autoseg.fingerprint.fingerprint import Fingerprint",
    "plan/plan.py": "import torch",
    "plan/registry.py": "import autoseg_planners.nnunet",
    "train/loop.py": "import autoseg.plan.plan",
    "runtime/crop.py": "import pydantic",
    "network/build.py": "import SimpleITK",
    "train/fold.py": "def late():\n    import ray",
    "train/schedule.py": "import optuna",
    "infer/predict.py": "import batchgenerators",
    "report/render.py": "import typer",
    "train/learner.py": "import timm",
    "train/metrics.py": "import mlflow",
}


def files(*endings: str) -> list[Path]:
    """Return the files of the project, whether git knows them already or not."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout")
    listing = [git, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    paths = [ROOT / name for name in names.split("\0") if name]
    return [path for path in paths if path.is_file() and (path.suffix in endings or not endings)]


def text_of(path: Path) -> str:
    return path.read_bytes().decode(errors="ignore")


def readme_commands() -> list[list[str]]:
    """Return the words of every command line of ours in the README."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [part for line in lines for part in split_and(line) if part[:1] == ["autoseg"]]


def split_and(words: list[str]) -> list[list[str]]:
    """Return the commands of one line, which `&&` joins."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


# What is written down twice


def test_the_schema_is_the_one_of_the_record():
    stored = (ROOT / "datasets_spec" / "dataset.schema.json").read_text(encoding="utf-8")
    assert stored == json_schema(), "write it again, see CONTRIBUTING.md"


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_loads(path):
    assert isinstance(load_spec(path), DatasetSpec)


def test_the_gallery_has_a_run_on_real_data():
    assert {path.parts[-2] for path in REPORTS} >= {"hippocampus"}


def test_the_table_of_the_gallery_is_current():
    from reports.write import TABLE_START, table

    assert (ROOT / "reports" / "README.md").read_text("utf-8").split(TABLE_START)[1] == table()


@pytest.mark.parametrize("folder", REPORTS, ids=lambda path: "-".join(path.parts[-2:]))
def test_reference_plan_is_unchanged(folder):
    # Planned on the machine of environment.json, without --memory and --set.
    from reports.golden import golden_request

    plan = load_planner(folder.name)(golden_request(folder))
    assert plan == Plan.load(folder / "plan.json"), "see reports/README.md for how to renew it"


def test_data_of_many_kinds_have_reference_plans():
    assert {path.parts[-2] for path in REPORTS} >= {"acdc", "isbi2012", "drive"}


def test_every_command_of_the_readme_exists():
    from typer.main import get_command

    from autoseg.cli.main import make_app

    known = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in getattr(get_command(make_app()), "commands").items()  # noqa: B009
    }
    commands = readme_commands()
    assert len(commands) > 5
    for _, name, *rest in commands:
        if not name.startswith("-"):
            options = {word.split("=")[0] for word in rest if word.startswith("-")}
            assert options <= known[name], f"autoseg {name} has no {options - known[name]}"


# Who imports what


def test_importing_autoseg_loads_nothing_heavy():
    code = "import autoseg, sys; print(' '.join(sys.modules))"
    run = [sys.executable, "-c", code]
    loaded = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "ray", "optuna", "sklearn", "SimpleITK", "matplotlib", "autoseg_planners"}
    assert "autoseg" in loaded
    assert not heavy & set(loaded)


def test_every_public_name_loads():
    import autoseg

    assert len(dir(autoseg)) >= 10
    for name in dir(autoseg):
        assert getattr(autoseg, name) is not None


@pytest.mark.parametrize("group", ["autoseg.planners", "autoseg.searchers", "console_scripts"])
def test_every_entry_point_loads(group):
    declared = {
        "autoseg.planners": PYPROJECT["project"]["entry-points"]["autoseg.planners"],
        "autoseg.searchers": PYPROJECT["project"]["entry-points"]["autoseg.searchers"],
        "console_scripts": PYPROJECT["project"]["scripts"],
    }[group]
    ours = {p.name: p for p in entry_points(group=group) if p.module.startswith("autoseg")}
    assert {name: point.value for name, point in ours.items()} == declared, "install again"
    assert all(callable(point.load()) for point in ours.values())


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports; relative ones begin with dots."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text_of(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def test_the_runtime_imports_what_an_artifact_has():
    for path in sorted((ROOT / "autoseg" / "runtime").rglob("*.py")):
        foreign = {name for name in imported(path) if not re.match(r"\.(?!\.)", name)}
        assert {name.split(".")[0] for name in foreign} <= RUNTIME_MAY_IMPORT, path


def test_the_network_and_the_training_loop_need_only_torch():
    folder = ROOT / "autoseg"
    allowed = {"torch", "numpy", *sys.stdlib_module_names}
    record = {name for name in imported(folder / "record.py") if name.startswith("autoseg.")}
    to_do = {*(folder / "network").glob("*.py"), *(folder / "train").glob("lo[os][ps].py")}
    done: set[Path] = set()
    while to_do:
        path = to_do.pop()
        done.add(path)
        ours = {name for name in imported(path) if name.split(".")[0] not in allowed}
        for name in ours - {"autoseg.record", *record}:
            assert re.match(r"autoseg\.(network|train)\.", name), f"{path} imports {name}"
            to_do |= {(ROOT / name.replace(".", "/")).with_suffix(".py")} - done
    assert {"unet.py", "loop.py", "loss.py"} <= {path.name for path in done}


DRAWS = re.compile(
    r"rand|randn|randint|randperm|normal|bernoulli|multinomial|poisson|seed|manual_seed"
    r"|(normal|uniform|bernoulli|random|exponential|\w*_normal|\w*_uniform)_"
)
"""Functions of torch that draw from a generator that all share, unless they are given another."""


def unnamed_draws(path: Path) -> set[str]:
    """Return the calls of torch in a file that draw without saying from which generator."""
    found: set[str] = set()
    text = text_of(path)
    is_called = re.search(rf"\.({DRAWS.pattern})\(", text)
    for node in ast.walk(ast.parse(text)) if is_called else ():
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = node.func.attr
        if not DRAWS.fullmatch(name) or any(item.arg == "generator" for item in node.keywords):
            continue
        owner = ast.unparse(node.func.value)
        if owner in {"torch", "nn.init"} or name.endswith("_"):
            found.add(f"{owner}.{name}")
    return found


def test_every_draw_of_torch_names_its_place():
    found = {
        path.relative_to(ROOT / "autoseg").as_posix(): draws
        for path in sorted((ROOT / "autoseg").rglob("*.py"))
        if (draws := unnamed_draws(path))
    }
    # Dropout draws from the shared generator: it is seeded for each fold, and kept in checkpoints;
    # in processes that share a fold for each step and rank.
    seeded = {"torch.manual_seed"}
    assert found == {"train/training.py": seeded, "train/team.py": seeded}


def test_a_draw_that_names_no_place_is_found(tmp_path):
    path = tmp_path / "draws.py"
    path.write_text("torch.randn(3)\nx.uniform_()\ntorch.rand(2, generator=g)\ntorch.seed()\n")
    assert unnamed_draws(path) == {"torch.randn", "x.uniform_", "torch.seed"}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{folder / 'planners'}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_keep_their_contracts():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


def test_every_import_contract_catches_a_violation(tmp_path):
    for name in ("autoseg", "planners"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, line in VIOLATIONS.items():
        with (tmp_path / "autoseg" / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    told = lint_imports(tmp_path).stdout
    for contract in PYPROJECT["tool"]["importlinter"]["contracts"]:
        assert f"{contract['name']} BROKEN" in told


# What the project says


def test_no_file_names_a_machine():
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in files()
        for match in FOREIGN.finditer(text_of(path))
    ]
    assert not found


def test_the_real_data_are_named_in_one_place():
    found = [path for path in files() if SHARED in text_of(path)]
    assert [path.relative_to(ROOT).as_posix() for path in found] == ["tests/conftest.py"]
    assert text_of(found[0]).count(SHARED) == 1


def test_no_large_file_is_kept():
    assert not [path for path in files() if path.stat().st_size > 500_000]


def test_packages_have_empty_init_files():
    inits = [path for path in files(".py") if path.name == "__init__.py"]
    assert not [path for path in inits if path.stat().st_size and path.parent.name != "autoseg"]


def test_the_version_is_written_once():
    version = PYPROJECT["project"]["version"]
    paths = [path for path in files(".py", ".toml") if "tests" not in path.parts]
    assert [path for path in paths if f'"{version}"' in text_of(path)] == [ROOT / "pyproject.toml"]


def test_the_changelog_has_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {PYPROJECT['project']['version']}" in changelog


def test_no_requirement_is_pinned():
    project = PYPROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    requirements = [line for group in groups for line in group if not line.startswith("autoseg-")]
    assert len(requirements) > 20
    assert all(re.fullmatch(r"[\w.-]+(\[\w+\])?>=[\d.]+", line) for line in requirements)

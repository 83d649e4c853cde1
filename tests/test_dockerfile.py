"""The Dockerfile without an engine: what it says, and its steps in virtual environments."""

import json
import re
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDS_AN_ENGINE = {
    "FROM python:3.11-slim AS build",
    "FROM python:3.11-slim",
    "RUN useradd --create-home autoseg && mkdir /data && chown autoseg /data",
    "USER autoseg",
    'ENTRYPOINT ["autoseg"]',
    'CMD ["--help"]',
}


class Step(NamedTuple):
    word: str
    rest: str

    def __str__(self):
        return f"{self.word} {self.rest}"


def stages() -> list[list[Step]]:
    """Return the steps of each stage, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found: list[list[Step]] = []
    for line in lines:
        if line.startswith("#"):
            continue
        step = Step(*line.split(maxsplit=1))
        if step.word == "FROM":
            found.append([])
        found[-1].append(step)
    return found


def only(word: str, steps: list[Step]) -> str:
    (found,) = [step.rest for step in steps if step.word == word]
    return found


def test_the_image_is_the_command():
    assert json.loads(only("ENTRYPOINT", stages()[-1])) == ["autoseg"]
    assert "autoseg" in PROJECT["scripts"]


def test_nothing_runs_as_root():
    last = stages()[-1]
    words = [step.word for step in last]
    user = only("USER", last)
    assert user not in ("root", "0")
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert any(f"useradd --create-home {user}" in step.rest for step in last)


def test_the_image_holds_the_wheel_and_not_the_checkout():
    copies = [step.rest for step in stages()[-1] if step.word == "COPY"]
    assert copies == ["--from=build /dist /dist"]
    assert any("/dist/*.whl" in step.rest for step in stages()[-1] if step.word == "RUN")


def test_what_is_copied_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [name for s in stages()[0] if s.word == "COPY" for name in s.rest.split()[:-1]]
    assert {"pyproject.toml", "autoseg", "planners"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    assert "*" in ignored
    assert set(copied) == {line[1:] for line in ignored if line.startswith("!")}


def test_python_is_one_that_the_project_supports():
    required = PROJECT["requires-python"].removeprefix(">=")
    for steps in stages():
        found = re.match(r"python:(3\.\d+)-", only("FROM", steps))
        assert found is not None
        assert int(found.group(1)[2:]) >= int(required[2:])


class Image:
    """A stage as a folder and a virtual environment; absolute paths lie below the folder."""

    def __init__(self, root: Path, build: "Image | None"):
        self.root, self.build, self.workdir = root / "root", build, root / "root"
        self.bin = root / "venv" / "bin"
        self.arguments: dict[str, str] = {}
        self.root.mkdir(parents=True)
        venv.create(root / "venv", with_pip=True)

    def place(self, path: str) -> Path:
        return self.root / path.lstrip("/") if path.startswith("/") else self.workdir / path

    def run(self, command: str) -> str:
        """Run a shell command with this stage's environment and return what it printed."""
        inside = re.sub(r"(?<![\w./])/(?=\w)", f"{self.root}/", command)
        path = f"PATH={self.bin}:/usr/local/bin:/usr/bin:/bin"
        variables = [f"{name}={value}" for name, value in self.arguments.items()]
        done = subprocess.run(
            ["env", path, *variables, "sh", "-ec", inside],
            cwd=self.workdir,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def do(self, step: Step) -> None:
        """Carry out one step."""
        if step.word == "WORKDIR":
            self.workdir = self.place(step.rest)
            self.workdir.mkdir(parents=True, exist_ok=True)
        elif step.word == "ARG":
            name, default = step.rest.split("=")
            known = {"TORCH": f"torch=={version('torch').split('+')[0]}"}
            self.arguments[name] = known.get(name, default)
        elif step.word == "COPY":
            self.copy(step.rest.split())
        else:
            assert step.word == "RUN", f"no way to do {step}"
            self.run(step.rest)

    def copy(self, words: list[str]) -> None:
        other = self.build if words[0] == "--from=build" else None
        *names, target = [word for word in words if not word.startswith("--")]
        sources = [other.place(name) if other else ROOT / name for name in names]
        place = self.place(target)
        place.mkdir(parents=True, exist_ok=True)
        for source in sources:
            whole = f"{source}/." if source.is_dir() else source
            subprocess.run(["cp", "-R", whole, place], check=True)


@pytest.mark.slow
def test_the_install_steps_lead_to_a_working_command(tmp_path, record_property, capsys):
    build, not_run = None, []
    for index, steps in enumerate(stages()):
        image = Image(tmp_path / str(index), build)
        for step in steps:
            if str(step) in NEEDS_AN_ENGINE:
                not_run.append(str(step))
            else:
                image.do(step)
        build = image
    record_property("not_run", not_run)
    with capsys.disabled():
        lines = ["", "steps of the Dockerfile that need an engine:", *not_run, ""]
        sys.stdout.write("\n  ".join(lines))
    assert set(not_run) == NEEDS_AN_ENGINE, "a step has gone; take it from the list"
    assert build is not None
    assert build.run("autoseg --version").split()[-1] == PROJECT["version"]
    home = build.run("python -c 'import autoseg, autoseg_planners; print(autoseg.__file__)'")
    assert home.startswith(str(build.bin.parent)), sys.path
    assert "plan" in build.run("autoseg plan --help")

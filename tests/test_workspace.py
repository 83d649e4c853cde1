import json
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from autoseg.errors import WorkspaceError
from autoseg.workspace import (
    FoldFolder,
    Workspace,
    append_line,
    find_workspace,
    named_workspace,
    writable_workspace,
    write_bytes,
    write_text,
)

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from autoseg.errors import WorkspaceError
from autoseg.workspace import write_bytes

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that write() answers EFBIG
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_bytes(Path(sys.argv[1]), b"new" * 1000)
except WorkspaceError as error:
    print(error)
    sys.exit(2)
"""


def paths(folder: Workspace | FoldFolder) -> list[Path]:
    names = [name for name, value in vars(type(folder)).items() if isinstance(value, property)]
    return [getattr(folder, name) for name in names]


def test_every_path_is_inside_the_workspace_and_has_one_name():
    workspace = Workspace(Path("a.autoseg"))
    fold = workspace.fold("2d", "0")
    found = [*paths(workspace), workspace.preprocessed("2d"), *paths(fold)]
    assert len(found) > 15
    assert len(set(found)) == len(found)
    assert all(path.is_relative_to(workspace.root) for path in found)


def test_folds_and_configurations_have_folders_of_their_own():
    workspace = Workspace(Path("a.autoseg"))
    folders = {workspace.fold(c, f).root for c in ("2d", "3d_fullres") for f in ("0", "1", "all")}
    assert len(folders) == 6
    assert workspace.fold("2d", "0").root == Path("a.autoseg/training/2d/fold_0")


def test_a_workspace_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Workspace(Path("a")).root = Path("b")  # pyright: ignore[reportAttributeAccessIssue]


def test_the_only_workspace_is_found(tmp_path):
    for name in ("a.autoseg", "not_planned.autoseg", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a.autoseg" / "plan.json").touch()
    (tmp_path / "b.autoseg").write_text("a file")
    assert find_workspace(tmp_path).root == tmp_path / "a.autoseg"


def test_several_workspaces_are_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.autoseg").mkdir()
        (tmp_path / f"{name}.autoseg" / "plan.json").touch()
    with pytest.raises(WorkspaceError, match=r"a\.autoseg, b\.autoseg") as error:
        find_workspace(tmp_path)
    assert "-w" in error.value.fix


def test_no_workspace_is_said(tmp_path):
    with pytest.raises(WorkspaceError, match="no workspace"):
        find_workspace(tmp_path)


def test_writing_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "new" / "plan.json"
    write_text(path, "old")
    write_text(path, "Größe")
    assert path.read_text(encoding="utf-8") == "Größe"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "plan.json"
    path.write_bytes(b"old")
    told = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=False
    )
    assert told.returncode == 2, told.stderr
    assert str(path) in told.stdout
    assert "fix: free space" in told.stdout
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_an_error_for_the_user(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkspaceError, match="cannot be written"):
        write_bytes(tmp_path / "file" / "plan.json", b"")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    write_text(path, "old")

    def fail(self, target):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(WorkspaceError, match="Input/output error"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_log_grows_by_one_json_line_each(tmp_path):
    path = tmp_path / "fold_0" / "metrics.jsonl"
    append_line(path, {"step": 1, "loss": 0.5})
    append_line(path, {"step": 2, "loss": 0.25})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]


def test_a_line_after_one_that_was_cut_short_is_whole(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"st')
    append_line(path, {"step": 2})
    append_line(path, {"step": 3})
    assert path.read_text().split("\n") == ['{"step": 1}', '{"st', '{"step": 2}', '{"step": 3}', ""]
    path.write_text("{")
    append_line(path, {"step": 2})
    assert path.read_text() == '{\n{"step": 2}\n'


def test_a_folder_that_is_named_must_be_a_workspace(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "data").mkdir()
    for name, word in (("file", "is a file"), ("data", "no plan.json"), ("gone", "no folder")):
        with pytest.raises(WorkspaceError, match=word) as caught:
            named_workspace(tmp_path / name)
        assert "autoseg plan" in caught.value.fix
    inside = tmp_path / "data" / "a.autoseg"
    inside.mkdir()
    (inside / "plan.json").touch()
    with pytest.raises(WorkspaceError) as caught:
        named_workspace(tmp_path / "data")
    assert caught.value.fix == f"-w {inside}"
    assert named_workspace(inside) == Workspace(inside)


def test_a_folder_of_other_things_does_not_become_a_workspace(tmp_path):
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "dataset.json").write_text("mine")
    with pytest.raises(WorkspaceError, match=r"holds dataset\.json, imagesTr"):
        writable_workspace(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.json", "imagesTr"]
    (tmp_path / "measured").mkdir()  # as an interrupted plan leaves it
    assert writable_workspace(tmp_path) == Workspace(tmp_path)
    assert writable_workspace(tmp_path / "new").root.is_dir()

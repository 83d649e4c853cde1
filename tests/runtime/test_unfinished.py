"""Places for what is being written."""

import subprocess
import sys

import pytest

from autoseg.runtime.unfinished import unfinished

WAITING = """
import sys
from pathlib import Path
from autoseg.runtime.unfinished import unfinished
with unfinished(Path(sys.argv[1])) as place:
    place.write_text("half")
    print(place, flush=True)
    sys.stdin.read()
"""


def test_what_fails_leaves_nothing(tmp_path):
    def fail() -> None:
        with unfinished(tmp_path / "new" / "a.tif") as place:
            place.write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert list((tmp_path / "new").iterdir()) == []


def test_only_what_nobody_writes_any_more_is_taken_away(tmp_path):
    path, other = tmp_path / "a[1].tif", tmp_path / "b.tif"
    place = tmp_path / ".b.tif.0123abcd.part"
    place.mkdir()
    command = [sys.executable, "-c", WAITING, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with unfinished(path):
            assert len([*tmp_path.glob(".a*.part")]) == 2
        assert len([*tmp_path.glob(".a*.part")]) == 1
        process.kill()
    assert len([*tmp_path.glob(".a*.part")]) == 1
    with unfinished(path) as mine:
        assert [*tmp_path.glob(".a*.part")] == [mine.parent]
    assert list(tmp_path.iterdir()) == [place]
    with unfinished(other):
        assert not place.exists()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError), unfinished(tmp_path / "file" / "a.tif"):
        pass

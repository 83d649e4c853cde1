import signal
import subprocess
import sys

import pytest

from autoseg.errors import TrainingError, WorkspaceError
from autoseg.train.lock import held

HOLD = """
import sys, time
from pathlib import Path
from autoseg.train.lock import held
with held(Path(sys.argv[1]), 0.0):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_the_number_of_the_first(tmp_path):
    path = tmp_path / "fold_0" / ".lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match=f"in use by process {other.pid} "), held(path, 0.0):
            pass
        other.send_signal(signal.SIGKILL)
    with held(path, 0.0):
        pass


def test_a_lock_is_given_back_when_the_body_fails(tmp_path):
    path = tmp_path / ".lock"
    with pytest.raises(ZeroDivisionError), held(path, 0.0):
        raise ZeroDivisionError
    with held(path, 0.0), pytest.raises(TrainingError), held(path, 0.2):
        pass


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError, match="cannot be written"), held(tmp_path / "file/a", 0.0):
        pass

import tempfile

import numpy as np
import pytest

from autoseg.runtime.errors import AutosegError
from autoseg.runtime.scratch import IN_MEMORY, OnDisk


@pytest.mark.parametrize("on_disk", [False, True])
def test_zeros_can_be_changed_and_survive_being_forgotten(tmp_path, on_disk):
    scratch = OnDisk(tmp_path) if on_disk else IN_MEMORY
    array = scratch.zeros((3, 5), np.float32)
    assert array.shape == (3, 5)
    assert not array.any()
    array[1] = 7
    scratch.forget()
    assert array[1].tolist() == [7] * 5
    assert array.sum() == 35


def test_files_have_no_name_and_vanish(tmp_path):
    array = OnDisk(tmp_path).zeros((100,), np.float16)
    array[:] = 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(AutosegError, match="cannot be set aside") as caught:
        OnDisk(tmp_path).zeros((1 << 60,), np.float32)
    assert "--ram" in caught.value.fix


def test_without_a_folder_temporary_files_are_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert OnDisk().zeros((2,), np.uint8).tolist() == [0, 0]

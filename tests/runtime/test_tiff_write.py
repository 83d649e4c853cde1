"""Label files written row by row, read by another program's library."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile

from autoseg.runtime import tiff_write
from autoseg.runtime.errors import AutosegError
from autoseg.runtime.images import read_labels
from autoseg.runtime.tiff_write import LabelTiff


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiff_write, "TILE", 16)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int8", "uint32", "int32"])
@pytest.mark.parametrize("shape", [(1, 1), (16, 32), (37, 50), (3, 16, 16), (5, 21, 40)], ids=str)
def test_what_is_written_is_what_others_read(tmp_path, monkeypatch, shape, dtype, big):
    monkeypatch.setattr(tiff_write, "CLASSIC_BYTES", 0 if big else 10**9)
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    labels = rng.integers(limits.min, limits.max, shape, endpoint=True, dtype=dtype)
    path = tmp_path / "labels.tif"
    with LabelTiff(path, shape, np.dtype(dtype)) as file:
        for start in range(0, shape[0], 7):
            file.add(labels[start : start + 7])
    with tifffile.TiffFile(path) as opened:
        assert opened.is_bigtiff == big
        assert opened.pages.first.is_tiled
        np.testing.assert_array_equal(opened.asarray().reshape(shape), labels)
    np.testing.assert_array_equal(read_labels(path).array[0], labels)


def test_a_file_that_is_not_finished_does_not_appear(tmp_path):
    def write_half() -> None:
        with LabelTiff(tmp_path / "labels.tif", (40, 40), np.dtype("u1")) as file:
            file.add(np.zeros((20, 40), np.uint8))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "labels.tif"
    with (
        pytest.raises(AutosegError, match=r"labels.tif cannot be written"),
        LabelTiff(path, (4, 4), np.dtype("u1")),
    ):
        pass


def test_a_disk_that_is_full_from_the_start_keeps_nothing(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, *_: object) -> int:
            raise OSError(28, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode: Full() if self.suffix == ".tif" else opened(self, mode),
    )
    with (
        pytest.raises(AutosegError, match="No space left on device"),
        LabelTiff(tmp_path / "labels.tif", (4, 4), np.dtype("u1")),
    ):
        pass
    assert list(tmp_path.iterdir()) == []

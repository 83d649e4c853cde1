"""Files of probabilities: what is in them, and how little memory writing them takes."""

from pathlib import Path

import numpy as np
import pytest

from autoseg.runtime.governor import Governor, Room
from autoseg.runtime.images import Geometry, read_image
from autoseg.runtime.probability_files import (
    is_written_in_pieces,
    probabilities_path,
    write_probabilities,
)
from autoseg.runtime.processors import resident_bytes

VOLUME = Geometry((3.0, 1.0, 0.7), (1.0, 2.0, 3.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
PICTURE = Geometry((1.0, 1.0), unit="pixel")
MIB = 1 << 20


@pytest.mark.parametrize("num_outputs", [1, 3])
@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_probabilities_are_channels(tmp_path, ending, num_outputs, monkeypatch):
    monkeypatch.setattr("autoseg.runtime.volumes.SLAB_VALUES", 150)
    array = np.random.default_rng(0).random((num_outputs, 7, 5, 6)).astype(np.float16)
    write_probabilities(tmp_path / f"p{ending}", array, VOLUME)
    read = read_image([tmp_path / f"p{ending}"])
    np.testing.assert_array_equal(read.array.astype(np.float16), array)
    np.testing.assert_allclose(read.geometry.spacing, VOLUME.spacing, rtol=1e-6)
    np.testing.assert_allclose(read.geometry.origin, VOLUME.origin, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 5, 6), (1, 4, 5, 6)])
def test_probabilities_of_a_picture_are_an_array(tmp_path, shape):
    array = np.random.default_rng(0).random(shape).astype(np.float16)
    write_probabilities(tmp_path / "p.npz", array, PICTURE)
    with np.load(tmp_path / "p.npz") as content:
        np.testing.assert_array_equal(content["probabilities"], array)
        assert content["probabilities"].dtype == np.float16


def test_only_volumes_hold_probabilities_and_only_nifti_and_arrays_are_written_in_pieces():
    def choice(name, dimensions):
        path = probabilities_path(Path(name), dimensions)
        return path.name, is_written_in_pieces(path)

    assert choice("a.nii.gz", 3) == ("a_probabilities.nii.gz", True)
    assert choice("a.nrrd", 3) == ("a_probabilities.nrrd", False)
    assert choice("a.mha", 2) == ("a.npz", True)
    assert choice("a.png", 2) == ("a.npz", True)


@pytest.mark.parametrize("name", ["p.nii", "p.npz"])
def test_probabilities_in_a_file_do_not_come_into_memory_to_be_written(tmp_path, name):
    scratch = Governor(Room(limit=0, most=0, folder=tmp_path), 0, 0)
    array = scratch.zeros((16, 32, 256, 256), np.float16)  # 64 MiB
    write_probabilities(tmp_path / "first.nii", array[:1], VOLUME)
    scratch.forget()
    before, _ = resident_bytes()
    write_probabilities(tmp_path / name, array, VOLUME, scratch)
    assert resident_bytes()[0] - before < 16 * MIB

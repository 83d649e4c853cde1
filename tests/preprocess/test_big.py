from dataclasses import replace

import numpy as np
import pytest

from autoseg.dataset import big
from autoseg.dataset.open import open_dataset
from autoseg.errors import WorkspaceError
from autoseg.preprocess import big as module
from autoseg.preprocess import preprocess as whole
from autoseg.preprocess import store as storing
from autoseg.preprocess.preprocess import preprocess
from autoseg.preprocess.store import ARRAY_SUFFIXES, CaseStore
from autoseg.runtime import prepare_blocks
from autoseg.testing.big_pictures import write_pictures
from autoseg.testing.plans import small_configuration, small_plan
from autoseg.workspace import Workspace


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(big, "SLAB_BYTES", 3000)
    monkeypatch.setattr(module, "BLOCK_VALUES", 2000)
    monkeypatch.setattr(prepare_blocks, "SLAB_VOXELS", 1000)
    monkeypatch.setattr(storing, "CHUNK_BYTES", 1000)


def prepared(root, folder, monkeypatch, *, big_bytes, **recipe):
    """Return the store of a data set that was prepared, at once or in blocks."""
    monkeypatch.setattr(big, "BIG_BYTES", big_bytes)
    dataset = open_dataset(root, None, None)
    channel = small_configuration((16, 16)).recipe.channels[0]
    flat = small_configuration((16, 24))
    channels = (channel,) * len(dataset.channels)
    recipe = {"channels": channels, "transpose": (0, 1), **recipe}
    flat = flat.revised(recipe=replace(flat.recipe, spacing=(1.0, 1.0)))
    flat = flat.revised(recipe=replace(flat.recipe, **recipe))
    plan = small_plan(dataset.labels, (flat,))
    workspace = Workspace(folder)
    preprocess(dataset, plan, workspace, ["2d"], num_workers=1, on_case=lambda *_: None)
    assert not [*workspace.preprocessed("2d").glob(".*.tmp")]
    return CaseStore(workspace.preprocessed("2d"))


def both(tmp_path, monkeypatch, *, kind="u1", values=(0, 1, 2), **recipe):
    root = write_pictures(tmp_path / "data", kind=kind, tile=(16, 32), values=values)
    first = prepared(root, tmp_path / "a", monkeypatch, big_bytes=1 << 30, **recipe)
    opened = []
    read = whole.open_big
    monkeypatch.setattr(whole, "open_big", lambda *a: opened.append(read(*a)) or opened[-1])
    second = prepared(root, tmp_path / "b", monkeypatch, big_bytes=1000, **recipe)
    assert all(opened)
    return first, second


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_blocks_are_stored_as_the_whole_is(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(whole, "LOCATIONS_PER_CLASS", 200)
    first, second = both(tmp_path, monkeypatch, kind=kind)
    for case_id in ("case_0", "case_1", "case_2"):
        one, two = first.info(case_id), second.info(case_id)
        assert one.revised(file_sizes=()) == two.revised(file_sizes=())
        np.testing.assert_array_equal(first.image(case_id)[:], second.image(case_id)[:])
        np.testing.assert_array_equal(first.labels(case_id)[:], second.labels(case_id)[:])
        assert first.image(case_id).chunks == second.image(case_id).chunks
        for index in range(3):
            drawn, again = (store.flat_locations(case_id, index) for store in (first, second))
            assert drawn.dtype == again.dtype
            np.testing.assert_array_equal(drawn, again)


def test_blocks_are_resampled_as_the_whole_is(tmp_path, monkeypatch):
    first, second = both(tmp_path, monkeypatch, spacing=(0.8, 1.3))
    one, two = (store.image("case_0")[:].astype(np.float32) for store in (first, second))
    np.testing.assert_allclose(one, two, atol=2e-3)  # half precision
    differ = first.labels("case_0")[:] != second.labels("case_0")[:]
    assert differ.mean() < 1e-3


def test_what_half_precision_would_round_is_stored_in_single(tmp_path, monkeypatch):
    channel = small_configuration((16, 16)).recipe.channels[0]
    channels = (replace(channel, mean=-50_000.0, std=1.0),)
    first, second = both(tmp_path, monkeypatch, kind="u2", channels=channels)
    assert second.image("case_0").dtype == first.image("case_0").dtype == np.float32
    np.testing.assert_array_equal(first.image("case_0")[:], second.image("case_0")[:])


def test_ignored_voxels_have_no_locations(tmp_path, monkeypatch):
    first, second = both(tmp_path, monkeypatch)
    assert len(second.flat_locations("case_0", 0)) == len(first.flat_locations("case_0", 0)) == 0


def test_a_case_whose_blocks_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_fill_half", refuse)
    root = write_pictures(tmp_path / "data", tile=(16, 32))
    with pytest.raises(WorkspaceError, match="No space left"):
        prepared(root, tmp_path / "b", monkeypatch, big_bytes=1000)
    folder = Workspace(tmp_path / "b").preprocessed("2d")
    assert not [path for path in folder.iterdir() if path.name.endswith((*ARRAY_SUFFIXES, ".tmp"))]


def test_masked_normalisation_reads_the_case_at_once(tmp_path, monkeypatch):
    channel = small_configuration((16, 16)).recipe.channels[0]
    first, second = both(tmp_path, monkeypatch, channels=(replace(channel, use_mask=True),) * 3)
    np.testing.assert_array_equal(first.image("case_0")[:], second.image("case_0")[:])

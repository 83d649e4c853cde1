import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.errors import AutosegError, WorkspaceError
from autoseg.preprocess.store import (
    BLOCK_BYTES,
    CaseArrays,
    CaseStore,
    PreparedCase,
    file_stem,
    smallest_float,
)

STRANGE = ("<script>alert(1)</script>", "größer als x", "a.labels", "a", "..", "CON:*?", "x" * 400)


def arrays(shape=(1, 30, 40, 50), dtype=np.float16, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 3, shape[1:]).astype(np.int8)
    locations = np.concatenate(
        [np.flatnonzero(labels >= 0)[:7], np.flatnonzero(labels == 1), np.flatnonzero(labels == 2)]
    )
    return CaseArrays(rng.normal(size=shape).astype(dtype), labels, locations.astype(np.int32))


def record(case_id, content, **changes):
    counts = [7, int((content.labels == 1).sum()), int((content.labels == 2).sum())]
    fields = {
        "autoseg_version": "0",
        "case_id": case_id,
        "dtype": str(content.image.dtype),
        "shape": content.image.shape,
        "spacing": (1.0,) * content.labels.ndim,
        "mean": (0.5,),
        "std": (2.0,),
        "placement": {"box": [[0, 1]], "coarse_axis": None},
        "class_voxels": (1, 2, 3),
        "num_annotated": 6,
        "location_offsets": (0, *np.cumsum(counts).tolist()),
        "source_hash": "s",
        "recipe_digest": "r",
    }
    return PreparedCase(**{**fields, **changes})


@pytest.fixture
def store(tmp_path):
    return CaseStore(tmp_path / "3d_fullres")


@pytest.mark.parametrize("patch", [(8, 16, 16), (16, 16), (64, 64, 64)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_is_written_is_read_in_any_part(store, patch, dtype):
    content = arrays(dtype=dtype)
    store.write(record("a", content), content, patch)
    image, labels = store.image("a"), store.labels("a")
    assert image.shape == content.image.shape
    assert image.dtype == dtype
    part = (slice(None), slice(3, 20), slice(11, 37), slice(0, 50))
    np.testing.assert_array_equal(image[part], content.image[part])
    np.testing.assert_array_equal(labels[part[1:]], content.labels[part[1:]])
    np.testing.assert_array_equal(image[:], content.image)


def test_locations_are_those_of_the_class(store):
    content = arrays()
    store.write(record("a", content), content, (8, 16, 16))
    for value in (1, 2):
        places = store.flat_locations("a", value)
        np.testing.assert_array_equal(places, np.flatnonzero(content.labels == value))
    assert len(store.flat_locations("a", 0)) == 7


@pytest.mark.parametrize("case_id", STRANGE)
def test_strange_case_ids_are_kept_apart(store, case_id):
    for index, name in enumerate(STRANGE):
        content = arrays((1, 4, 4, 4), seed=index)
        store.write(record(name, content), content, (4, 4, 4))
    assert {store.info(name).case_id for name in STRANGE} == set(STRANGE)
    expected = arrays((1, 4, 4, 4), seed=STRANGE.index(case_id))
    np.testing.assert_array_equal(store.image(case_id)[:], expected.image)
    np.testing.assert_array_equal(store.labels(case_id)[:], expected.labels)
    assert len(list(store.folder.iterdir())) == 4 * len(STRANGE)


@given(st.text(min_size=1), st.text(min_size=1))
def test_file_stems_are_unique_and_safe(first, second):
    stem = file_stem(first)
    assert (stem == file_stem(second)) == (first == second)
    assert stem.isascii()
    assert not set(stem) & set('/\\:*?"<>|. ')
    assert 0 < len(stem) <= 150


def test_case_is_found_only_with_its_hashes(store):
    content = arrays()
    store.write(record("a", content), content, (8, 16, 16))
    assert store.find("a", source_hash="s", recipe_digest="r") == store.info("a")
    assert store.find("a", source_hash="x", recipe_digest="r") is None
    assert store.find("a", source_hash="s", recipe_digest="x") is None
    assert store.find("b", source_hash="s", recipe_digest="r") is None


@pytest.mark.parametrize("damage", ["short", "missing", "no json", "broken json"])
def test_damaged_case_is_not_found(store, damage):
    content = arrays()
    store.write(record("a", content), content, (8, 16, 16))
    if damage == "short":
        (store.folder / "a.labels.b2nd").write_bytes(b"")
    elif damage == "missing":
        (store.folder / "a.locations.npy").unlink()
    elif damage == "no json":
        (store.folder / "a.json").unlink()
    else:
        (store.folder / "a.json").write_text(json.dumps({"case_id": "a"}))
    assert store.find("a", source_hash="s", recipe_digest="r") is None


def test_full_disk_leaves_nothing_of_the_case(store, largest_file):
    small = arrays((1, 4, 4, 4))
    store.write(record("small", small), small, (4, 4, 4))
    content = arrays((1, 60, 60, 60))
    with largest_file(50_000), pytest.raises(WorkspaceError, match="cannot be written"):
        store.write(record("a", content), content, (8, 16, 16))
    assert {path.name.split(".")[0] for path in store.folder.iterdir()} == {"small"}


def test_old_case_is_not_taken_for_the_new_one_after_a_full_disk(store, largest_file):
    old = arrays((1, 4, 4, 4))
    store.write(record("a", old), old, (4, 4, 4))
    content = arrays((1, 60, 60, 60))
    with largest_file(50_000), pytest.raises(WorkspaceError):
        store.write(record("a", content), content, (8, 16, 16))
    assert list(store.folder.iterdir()) == []


def test_what_a_killed_writer_left_goes_and_what_is_being_written_stays(store):
    content = arrays((1, 4, 4, 4))
    store.write(record("a", content), content, (4, 4, 4))
    old, new = store.folder / ".a.b2nd.0123abcd.tmp", store.folder / ".b.json.0123abcd.tmp"
    for path in (old, new, store.folder / "a.json"):
        path.write_bytes(b"1")
    os.utime(old, (0, 0))
    os.utime(store.folder / "a.json", (0, 0))
    store.remove_stale()
    assert not old.exists()
    assert new.exists()
    assert (store.folder / "a.json").exists()


def test_folder_that_cannot_be_made_is_an_error_of_the_workspace(tmp_path):
    (tmp_path / "file").write_text("")
    content = arrays((1, 4, 4, 4))
    with pytest.raises(WorkspaceError, match="cannot be written"):
        CaseStore(tmp_path / "file" / "2d").write(record("a", content), content, (4, 4, 4))


def test_shared_arrays_are_the_same_files(store, tmp_path):
    content = arrays()
    info = store.write(record("a", content), content, (8, 16, 16))
    other = CaseStore(tmp_path / "2d")
    other.share(info.revised(recipe_digest="other"), store)
    for suffix in (".b2nd", ".labels.b2nd", ".locations.npy"):
        assert (other.folder / f"a{suffix}").samefile(store.folder / f"a{suffix}")
    assert other.find("a", source_hash="s", recipe_digest="other")
    new = arrays(seed=1)
    store.write(record("a", new), new, (8, 16, 16))
    np.testing.assert_array_equal(other.image("a")[:], content.image)


def test_file_system_without_links_gets_copies(store, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("autoseg.preprocess.store.os.link", refuse)
    content = arrays()
    info = store.write(record("a", content), content, (8, 16, 16))
    other = CaseStore(tmp_path / "2d")
    other.share(info, store)
    np.testing.assert_array_equal(other.image("a")[:], content.image)


def test_blocks_stay_small_and_chunks_hold_a_patch(store):
    content = arrays((2, 40, 300, 280))
    store.write(record("a", content), content, (8, 128, 128))
    image = store.image("a")
    assert np.prod(image.blocks) * 2 <= BLOCK_BYTES
    assert image.chunks[1:] >= (8, 128, 128)
    assert image.blocks[0] == 1


def test_missing_case_says_what_to_run(store):
    with pytest.raises(AutosegError, match=r"no file .*nobody\.json"):
        store.info("nobody")


def test_threads_read_the_same_case_at_once(store):
    content = arrays()
    store.write(record("a", content), content, (8, 16, 16))

    def read(index):
        part = (slice(None), slice(index, index + 8), slice(4, 30), slice(2, 44))
        return np.array_equal(store.image("a")[part], content.image[part])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, [index % 20 for index in range(60)]))


def test_half_precision_is_taken_where_it_loses_nothing():
    normal = np.random.default_rng(0).normal(size=(2, 20, 20)).astype(np.float32)
    assert smallest_float(normal).dtype == np.float16
    np.testing.assert_allclose(smallest_float(normal), normal, atol=2e-3)


@pytest.mark.parametrize(("scale", "shift"), [(1e5, 0), (1, 1000), (1e-9, 0)])
def test_single_precision_stays_where_half_is_too_coarse(scale, shift):
    image = np.random.default_rng(0).normal(size=(2, 20, 20)).astype(np.float32)
    image[1] = image[1] * scale + shift
    assert smallest_float(image) is image


def test_constant_channel_may_be_halved_if_exact():
    assert smallest_float(np.zeros((1, 5, 5), dtype=np.float32)).dtype == np.float16


def test_signals_are_halved_where_their_range_allows_it():
    signal = np.random.default_rng(0).normal(size=(2, 500)).astype(np.float32)
    np.testing.assert_allclose(smallest_float(signal), signal, atol=2e-3)
    assert smallest_float(signal).dtype == np.float16
    assert smallest_float(signal * 1e6).dtype == np.float32

import os

import numpy as np
import pytest

from autoseg.errors import WorkspaceError
from autoseg.preprocess.previous_store import PreviousStore

PATCH = (8, 16, 16)


@pytest.fixture
def store(tmp_path):
    return PreviousStore(tmp_path / "previous")


def labels(seed=0, shape=(20, 30, 40)):
    return np.random.default_rng(seed).integers(0, 3, shape).astype(np.int8)


def test_what_is_written_is_read_in_any_part(store):
    store.write("a", labels(), PATCH, "digest")
    stored = store.labels("a")
    assert stored.shape == (20, 30, 40)
    assert stored.dtype == np.int8
    part = (slice(3, 9), slice(0, 30), slice(17, 39))
    np.testing.assert_array_equal(stored[part], labels()[part])
    np.testing.assert_array_equal(stored[:], labels())
    assert store.made_of("a") == "digest"


def test_what_is_written_again_replaces_what_was(store):
    store.write("a", labels(), PATCH, "first")
    store.write("a", labels(1), PATCH, "second")
    np.testing.assert_array_equal(store.labels("a")[:], labels(1))
    assert store.made_of("a") == "second"
    assert len(list(store.folder.iterdir())) == 1


@pytest.mark.parametrize("case_id", ["a/b", "a b", "ü", "a.labels", "x" * 300])
def test_strange_case_ids_are_kept_apart(store, case_id):
    store.write("other", labels(), PATCH, "other")
    store.write(case_id, labels(1), PATCH, "this")
    assert (store.made_of(case_id), store.made_of("other")) == ("this", "other")
    assert len(list(store.folder.iterdir())) == 2


def test_a_case_that_is_not_there_was_made_of_nothing(store):
    assert store.made_of("a") is None


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short_was_made_of_nothing(store, kept):
    store.write("a", labels(), PATCH, "digest")
    (path,) = store.folder.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert store.made_of("a") is None


def test_a_file_of_something_else_was_made_of_nothing(store):
    store.write("a", labels(), PATCH, "digest")
    (path,) = store.folder.iterdir()
    path.write_bytes(b"something else " * 100)
    assert store.made_of("a") is None


def test_a_full_disk_leaves_what_was_there(store, largest_file):
    store.write("a", labels(shape=(4, 4, 4)), PATCH, "old")
    with largest_file(1000), pytest.raises(WorkspaceError, match="cannot be written"):
        store.write("a", labels(1, (60, 60, 60)), PATCH, "new")
    assert store.made_of("a") == "old"
    assert len(list(store.folder.iterdir())) == 1


def test_what_a_killed_writer_left_goes_and_what_is_being_written_stays(store):
    store.write("a", labels(), PATCH, "digest")
    old, new = (store.folder / f".{name}.b2nd.0123abcd.tmp" for name in "ab")
    for path in (old, new):
        path.write_bytes(b"1")
    os.utime(old, (0, 0))
    store.remove_stale()
    assert not old.exists()
    assert new.exists()
    assert store.made_of("a") == "digest"


def test_the_digest_of_cases_changes_with_each_of_them_and_not_with_their_order(store):
    for case_id in "abc":
        store.write(case_id, labels(), PATCH, f"of {case_id}")
    first = store.digest(("a", "b"))
    assert store.digest(("b", "a")) == first
    assert store.digest(("a", "b", "c")) != first
    assert store.digest(("a", "c")) != first
    store.write("c", labels(1), PATCH, "another")
    assert store.digest(("a", "b")) == first
    store.write("b", labels(), PATCH, "another")
    assert store.digest(("a", "b")) != first
    (store.folder / "b.b2nd").unlink()
    assert len({first, store.digest(("a", "b")), store.digest(("a",))}) == 3

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from autoseg.train.kept_cases import KeptCases, size_of, whole

SHAPE = (4, 5, 6)
IMAGE_BYTES, LABEL_BYTES = 2 * 4 * 5 * 6 * 2, 4 * 5 * 6


class Opened:
    """Stores of arrays that count how often they are opened."""

    def __init__(self):
        self.counts = {"image": 0, "labels": 0, "previous": 0}

    def _open(self, kind, array):
        self.counts[kind] += 1
        return array

    def image(self, case_id):
        return self._open("image", np.full((2, *SHAPE), ord(case_id), np.float16))

    def labels(self, case_id):
        return self._open("labels", np.full(SHAPE, ord(case_id), np.int8))

    @property
    def previous(self):
        def labels(case_id):
            return self._open("previous", np.full(SHAPE, -ord(case_id), np.int8))

        return SimpleNamespace(labels=labels)


@pytest.fixture
def opened():
    return Opened()


def test_labels_of_a_previous_stage_come_third(opened):
    cases = KeptCases(opened, 0, opened.previous)
    assert cases.has_previous
    image, labels, previous = cases.arrays("a")
    assert image.shape == (2, *SHAPE)
    assert labels.shape == previous.shape == SHAPE
    assert (whole(labels) == ord("a")).all()
    assert (whole(previous) == -ord("a")).all()


def test_without_a_previous_stage_there_are_two_arrays(opened):
    cases = KeptCases(opened, 0)
    assert not cases.has_previous
    assert len(cases.arrays("a")) == 2
    assert opened.counts["previous"] == 0


@pytest.mark.parametrize("has_previous", [False, True])
def test_what_fits_is_read_once_and_the_rest_each_time(opened, has_previous):
    case_bytes = IMAGE_BYTES + LABEL_BYTES * (1 + has_previous)
    previous = opened.previous if has_previous else None
    cases = KeptCases(opened, 2 * case_bytes + case_bytes - 1, previous)
    for _ in range(3):
        for case_id in "abc":
            assert (whole(cases.arrays(case_id)[1]) == ord(case_id)).all()
    assert opened.counts["image"] == opened.counts["labels"] == 2 + 3
    assert opened.counts["previous"] == (5 if has_previous else 0)


def test_labels_of_a_previous_stage_count_as_memory(opened):
    cases = KeptCases(opened, IMAGE_BYTES + 2 * LABEL_BYTES - 1, opened.previous)
    cases.arrays("a")
    cases.arrays("a")
    assert opened.counts["previous"] == 2


def test_a_smaller_case_is_kept_where_a_larger_one_was_not(opened):
    sizes = {"a": 3, "b": 1}
    store = SimpleNamespace(
        image=lambda case_id: np.zeros((1, sizes[case_id]), np.float32),
        labels=lambda case_id: np.zeros(sizes[case_id], np.int8),
    )
    cases = KeptCases(store, 5)  # pyright: ignore[reportArgumentType]
    assert cases.arrays("a")[0] is not cases.arrays("a")[0]
    assert cases.arrays("b")[0] is cases.arrays("b")[0]


def test_threads_that_ask_at_once_keep_a_case_once(opened):
    case_bytes = IMAGE_BYTES + 2 * LABEL_BYTES
    cases = KeptCases(opened, 2 * case_bytes, opened.previous)
    start = threading.Barrier(4)

    def ask():
        start.wait()
        cases.arrays("a")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cases.arrays("b")[2] is cases.arrays("b")[2]  # there is still room for another


def test_size_is_that_of_the_values():
    assert size_of(np.zeros((3, 4), np.float16)) == 24

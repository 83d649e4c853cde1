import weakref

import numpy as np
import pytest
import torch

from autoseg.train.residents import Residents


class Store:
    """Cases of 8 voxels: 16 bytes of image, 8 of labels."""

    def __init__(self):
        self.opened = []

    def image(self, case_id):
        self.opened.append(case_id)
        return np.full((1, 2, 4), int(case_id), np.float16)

    def labels(self, case_id):
        return np.full((2, 4), int(case_id), np.int8)


@pytest.fixture
def store():
    return Store()


def kept(residents, *case_ids):
    return [case_id for case_id in case_ids if residents.case(case_id) is not None]


def test_the_first_cases_that_fit_stay_in_the_types_of_the_store(store):
    residents = Residents(store, "cpu", 2 * 24)
    assert kept(residents, "1", "2", "3", "1") == ["1", "2", "1"]
    found = residents.case("2")
    assert found is not None
    image, labels = found.arrays()
    assert (image.dtype, labels.dtype) == (torch.float16, torch.int8)
    assert float(image.max()) == int(labels.max()) == 2


def test_each_case_is_opened_once_also_where_it_does_not_fit(store):
    residents = Residents(store, "cpu", 24)
    assert kept(residents, "1", "2", "1", "2") == ["1", "1"]
    assert store.opened == ["1", "2"]


def test_without_memory_nothing_is_opened(store):
    assert kept(Residents(store, "cpu", 0), "1") == []
    assert store.opened == []


def test_what_is_released_does_not_come_back(store):
    residents = Residents(store, "cpu", 99)
    assert not residents.release()
    residents = Residents(store, "cpu", 99)
    assert kept(residents, "1") == ["1"]
    assert residents.release()
    assert kept(residents, "1", "2") == []
    assert not residents.release()


def test_what_was_made_ahead_of_a_release_holds_no_memory_and_reads(store):
    residents = Residents(store, "cpu", 99)
    case = residents.case("1")
    assert case is not None
    held = weakref.ref(case.arrays()[0])
    before = [array.clone() for array in case.arrays()]
    residents.release()
    assert held() is None
    assert all(torch.equal(a, b) for a, b in zip(before, case.arrays(), strict=True))
    assert store.opened == ["1", "1"]


def test_a_case_that_does_not_fit_after_all_is_read_as_before(store, monkeypatch):
    residents = Residents(store, "cpu", 99)
    assert kept(residents, "1") == ["1"]

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.Tensor, "to", fail)
    assert kept(residents, "2", "1", "3") == ["1"]

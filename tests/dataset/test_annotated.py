from dataclasses import replace

import numpy as np
import pytest

from autoseg.dataset.annotated import judged_regions, known_classes, own_labels, without_unknown
from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import Case, DatasetSpec
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError
from autoseg.runtime.recipe import Labels, Region
from autoseg.runtime.resample import IGNORE
from autoseg.testing.synthetic import write_spheres

LABELS = Labels(names=("background", "liver", "spleen"), values=(0, 1, 2))
PARTLY = Case(id="a", images=("a.png",), labels=("b.png",), group="a", annotated=("spleen",))
WHOLE = PARTLY.revised(annotated=None)


def test_a_case_knows_the_background_and_the_classes_that_it_annotates():
    assert known_classes(PARTLY, LABELS) == (True, False, True)
    assert known_classes(WHOLE, LABELS) == (True, True, True)


def test_what_a_case_does_not_annotate_counts_for_nothing_in_its_own_labels():
    found = own_labels(np.array([0, 1, 2, IGNORE], np.int16), PARTLY, LABELS)
    np.testing.assert_array_equal(found, [0, IGNORE, 2, IGNORE])
    assert found.dtype == np.int16


def test_what_a_case_does_not_annotate_is_background_in_its_prediction():
    found = without_unknown(np.array([0, 1, 2]), PARTLY, LABELS, fill=0)
    np.testing.assert_array_equal(found, [0, 0, 2])


def test_a_region_is_judged_by_cases_that_annotate_all_its_classes():
    regions = (Region(name="both", classes=(1, 2)), Region(name="second", classes=(2,)))
    labels = replace(LABELS, regions=regions)
    assert judged_regions(PARTLY, labels) == ((), (2,))
    assert judged_regions(WHOLE, labels) == ((1, 2), (2,))


def test_a_case_that_annotates_all_is_left_as_it_is():
    classes = np.array([0, 1, 2])
    assert own_labels(classes, WHOLE, LABELS) is classes


@pytest.fixture
def folder(tmp_path):
    return write_spheres(tmp_path / "data", num_cases=3, seed=0, shape=(16, 20, 18), num_classes=3)


def declared(folder, **annotated):
    dataset = open_dataset(folder, None, None)
    names = dataset.labels.names
    return open_dataset(folder, DatasetSpec(annotated=annotated), None), names


def test_a_spec_says_which_classes_are_annotated_and_the_first_entry_that_fits_holds(folder):
    ids = [case.id for case in open_dataset(folder, None, None).cases]
    first = open_dataset(folder, None, None).labels.names[1]
    dataset, names = declared(folder, **{ids[0]: (), "*": (first,)})
    assert dataset.cases[0].annotated == ()
    assert {case.annotated for case in dataset.cases[1:]} == {(first,)}
    _, labels = read_case(dataset, dataset.cases[1])
    assert not (labels == names.index(names[2])).any()
    assert (labels == IGNORE).any()


@pytest.mark.parametrize(
    ("annotated", "words"),
    [({"nothing_*": ()}, "'nothing_\\*' is no case"), ({"*": ("livre",)}, "'livre' is no class")],
)
def test_an_entry_that_means_nothing_is_refused(folder, annotated, words):
    with pytest.raises(DatasetError, match=words) as caught:
        declared(folder, **annotated)
    assert "annotated" in caught.value.fix

import pickle

import pytest

import autoseg.errors
from autoseg.errors import AutosegError, DatasetError

KINDS = [kind for kind in vars(autoseg.errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_from_another_process(kind):
    error = kind(found="a", expected="b", fix="c")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.found, copy.expected, copy.fix) == ("a", "b", "c")


@pytest.mark.parametrize("left_out", ["found", "expected", "fix"])
def test_an_error_cannot_be_made_without_saying_what_to_do(left_out):
    words = {"found": "a", "expected": "b", "fix": "c"}
    del words[left_out]
    with pytest.raises(TypeError):
        AutosegError(**words)


def test_every_kind_is_caught_as_one():
    assert all(issubclass(kind, AutosegError) for kind in KINDS)
    assert DatasetError in KINDS


def test_the_message_has_all_three_parts():
    text = str(AutosegError(found="no file x", expected="an image", fix="add it"))
    assert text.splitlines() == ["found: no file x", "expected: an image", "fix: add it"]

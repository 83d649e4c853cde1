from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autoseg.errors import AutosegError
from autoseg.runtime.cases import find_cases
from autoseg.runtime.geometry import Geometry
from autoseg.runtime.images import Image
from autoseg.runtime.missing import mark_missing, parse_missing, with_places
from autoseg.runtime.prepare import prepare
from autoseg.runtime.recipe import Channel, Recipe


def manifest(channels=("T1", "T2", "FLAIR"), trained=True) -> Any:
    item = SimpleNamespace(missing_channels=trained)
    return SimpleNamespace(channels=channels, configurations=(item,))


@pytest.mark.parametrize(
    ("words", "expected"), [(["1"], (1,)), (["T2"], (1,)), (["2", "T1"], (0, 2)), ([], ())]
)
def test_channels_are_named_or_numbered_from_zero(words, expected):
    assert parse_missing(manifest(), words) == expected


@pytest.mark.parametrize(
    ("words", "trained", "expected"),
    [
        (["3"], True, "0 (T1), 1 (T2), 2 (FLAIR)"),
        (["t2"], True, "1 (T2)"),
        (["0", "1", "2"], True, "at least one channel"),
        (["1"], False, "channels left out"),
    ],
)
def test_what_cannot_be_missing_is_refused(words, trained, expected):
    with pytest.raises(AutosegError) as caught:
        parse_missing(manifest(trained=trained), words)
    assert expected in caught.value.expected


def image(num_channels):
    array = 1 + np.arange(num_channels * 12, dtype=np.float32).reshape(num_channels, 3, 4)
    return Image(array, Geometry((1.0, 1.0)))


@pytest.mark.parametrize("num_channels", [2, 3])
def test_an_image_may_hold_the_missing_channel_or_not(num_channels):
    given = image(num_channels)
    found = with_places(given, (1,), 3).array
    np.testing.assert_array_equal(found[0], given.array[0])
    np.testing.assert_array_equal(found[2], given.array[-1])
    assert (found[1] == 0).all()
    assert (given.array > 0).all()


def test_an_image_of_another_number_of_channels_is_left_to_be_refused():
    assert len(with_places(image(1), (1,), 3).array) == 1


def test_a_missing_channel_is_nan_also_where_it_is_filled_up():
    names = ("a", "b")
    recipe = Recipe(
        transpose=(0, 1),
        spacing=(1.0, 1.0),
        channels=tuple(Channel(name=name, scheme="zscore") for name in names),
        order="resample-normalise",
        spline_order=3,
        coarse_ratio=3.0,
        padding="zero",
        overlap=0.5,
        mirror_axes=(),
        test_time_mirroring=False,
    )
    part = mark_missing(prepare(image(2).array, (1.0, 1.0), recipe), (0,))
    assert np.isnan(part.array[0]).all()
    assert np.isnan(part.mean[0])
    assert np.isfinite(part.array[1]).all()
    assert np.isfinite(part.mean[1])


def test_files_of_missing_channels_need_not_be_there(tmp_path):
    for name in ("a_0000.png", "a_0002.png", "b_0000.png", "b_0001.png", "b_0002.png"):
        (tmp_path / name).touch()
    cases, failed = find_cases([tmp_path], "suffix", 3, (1,))
    assert {case.case_id: [path.name for path in case.paths] for case in cases} == {
        "a": ["a_0000.png", "a_0002.png"],
        "b": ["b_0000.png", "b_0002.png"],  # what is missing is not looked at
    }
    assert not failed
    cases, failed = find_cases([tmp_path], "suffix", 3)
    assert [case.case_id for case in cases] == ["b"]
    assert len(failed) == 1


def test_the_file_of_a_missing_channel_is_never_taken_for_another_channel(tmp_path):
    for name in ("a_0000.png", "b.png", "c_0001.png"):
        (tmp_path / name).touch()
    cases, failed = find_cases([tmp_path], "suffix", 2, (0,))
    assert {case.case_id: case.paths[0].name for case in cases} == {
        "b": "b.png",  # a file without a suffix holds all channels
        "c": "c_0001.png",
    }
    assert [outcome.case_id for outcome in failed] == ["a"]
    assert "--missing" in failed[0].message


def test_files_of_some_of_the_missing_channels_may_be_there(tmp_path):
    for name in ("a_0000.png", "a_0001.png", "b_0001.png"):
        (tmp_path / name).touch()
    cases, failed = find_cases([tmp_path], "suffix", 4, (1, 2, 3))
    assert [[path.name for path in case.paths] for case in cases] == [["a_0000.png"]]
    assert [outcome.case_id for outcome in failed] == ["b"]


def test_the_files_are_named_that_are_expected_without_the_missing_channel(tmp_path):
    (tmp_path / "a_0002.png").touch()
    _, failed = find_cases([tmp_path], "suffix", 3, (1,))
    assert "expected 2 files _0000, _0002" in failed[0].message

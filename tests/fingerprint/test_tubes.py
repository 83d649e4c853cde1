import numpy as np
import pytest

from autoseg.fingerprint import tubes
from autoseg.fingerprint.fingerprint import CaseStats
from autoseg.fingerprint.measure import class_facts


def ball(radius, dims):
    axes = np.ogrid[(slice(-radius, radius + 1),) * dims]
    return (sum(axis**2 for axis in axes) <= radius**2).astype(np.uint8)


def facts(classes, num_classes=2):
    found = class_facts(classes, num_classes)
    return found.widths[1:], found.lengths[1:]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("radius", [4, 12])
def test_a_ball_is_hardly_longer_than_wide(dims, radius):
    (width,), (length,) = facts(ball(radius, dims))
    assert width == pytest.approx({2: 1, 3: 4 / 3}[dims] * radius, rel=0.25)
    assert 1.5 < length < 5


@pytest.mark.parametrize("width", [1, 3, 6])
def test_a_slanted_line_is_as_long_as_it_is_wide_so_many_times(width):
    picture = np.zeros((400, 400), np.uint8)
    for row in range(400):
        start = min(row // 2, 400 - width)
        picture[row, start : start + width] = 1
    (found,), (length,) = facts(picture)
    across = width * np.cos(np.arctan(0.5))
    assert found == pytest.approx(across, rel=0.3)
    assert length == pytest.approx(np.hypot(400, 200) / across, rel=0.5)


def test_a_curved_tube_in_space_is_long_and_thin():
    volume = np.zeros((60, 90, 90), np.uint8)
    for angle in np.linspace(0, 4 * np.pi, 800):
        centre = (5 + 4 * angle, 45 + 35 * np.sin(angle), 45 + 35 * np.cos(angle))
        volume[tuple(slice(round(n) - 2, round(n) + 3) for n in centre)] |= ball(2, 3)
    (width,), (length,) = facts(volume)
    assert width == pytest.approx(4, rel=0.3)
    assert length == pytest.approx(4 * np.pi * 35 / 4, rel=0.6)


def test_many_small_balls_are_no_tube():
    picture = np.zeros((200, 200), np.uint8)
    for row in range(0, 180, 20):
        for column in range(0, 180, 20):
            picture[row : row + 11, column : column + 11] |= ball(5, 2)
    assert facts(picture)[1][0] < 4


def test_each_class_is_measured_by_itself_and_absent_ones_are_zero():
    picture = np.zeros((100, 100), np.uint8)
    picture[5, 2:98] = 1
    picture[20:61, 20:61] |= 3 * ball(20, 2)
    widths, lengths = facts(picture, 5)
    assert lengths[0] > 10 * lengths[2] > 0
    assert widths[1] == lengths[1] == widths[3] == lengths[3] == 0


def test_the_middle_of_large_labels_says_the_same(monkeypatch):
    volume = np.zeros((40, 120, 120), np.uint8)
    volume[:, ::6, :] = 1
    whole = tubes.tube_facts(volume, 2)
    monkeypatch.setattr(tubes, "MAX_VOXELS", volume.size // 8)
    middle = tubes.tube_facts(volume, 2)
    assert middle[0][1] == pytest.approx(whole[0][1], rel=0.1)


def test_signals_have_no_tubes():
    facts = class_facts(np.array([0, 1, 1, 0, 1], np.int8), 2)
    assert facts.widths == facts.lengths == ()


def test_fingerprints_that_lack_the_measures_keep_their_digest():
    bare = CaseStats(case_id="a", shape=(2, 3), shape_after_crop=(2, 3), spacing=(1.0, 1.0))
    assert {"class_widths", "class_lengths"}.isdisjoint(bare.model_dump())
    full = bare.revised(class_widths=(0.0, 1.5), class_lengths=(0.0, 40.0))
    assert CaseStats.from_json(full.to_json(), "a") == full

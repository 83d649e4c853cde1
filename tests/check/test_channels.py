import pytest

CHANNELS = ("T1", "T2", "FLAIR")
MEANS = (100.0, 300.0, 800.0)


def about(made, *means):
    cases = [
        made.stats(index, foreground_means=tuple(values), brightest=(0.0,) * 3)
        for index, values in enumerate(means)
    ]
    found = made.findings(*cases, channels=CHANNELS, intensities=made.fingerprint().intensities * 3)
    return [item for item in found if "channels in another order" in item.found]


def usual(count=11, noise=0.02):
    return [[m * (1 + noise * (index % 5 - 2)) for m in MEANS] for index in range(count)]


def test_exchanged_channels_are_told_with_what_they_seem_to_be(made):
    (warning,) = about(made, *usual(), [300.0, 100.0, 800.0])
    assert warning.found.endswith("in 1 case: by their intensities T2, T1, FLAIR")
    assert warning.files == ("images/case_11.nii",)


@pytest.mark.parametrize(
    "odd",
    [[100.0, 300.0, 800.0], [900.0, 2700.0, 7200.0], [300.0, 150.0, 800.0], [100.0, 100.0, 100.0]],
)
def test_other_brightness_is_no_other_order(made, odd):
    assert about(made, *usual(), odd) == []


def test_intensities_that_vary_tell_no_order(made):
    assert about(made, *usual(noise=0.4), [300.0, 100.0, 800.0]) == []


def test_few_cases_tell_no_order(made):
    assert about(made, *usual(5), [300.0, 100.0, 800.0]) == []

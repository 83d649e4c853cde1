import json

import pytest

from autoseg.errors import AutosegError, DatasetError
from autoseg.fingerprint.nnunet_file import load_fingerprint

PROPERTIES = {
    "max": 9.0,
    "mean": 5.0,
    "median": 5.0,
    "min": 0.0,
    "percentile_00_5": 1.0,
    "percentile_99_5": 8.0,
    "std": 2.0,
}
NNUNET = {
    "foreground_intensity_properties_per_channel": {"0": PROPERTIES},
    "median_relative_size_after_cropping": 0.9,
    "shapes_after_crop": [[10, 20, 30], [11, 21, 31]],
    "spacings": [[3.0, 1.0, 1.0], [3, 1, 1]],
}
DESCRIPTION = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_nnunets_file_needs_its_description(tmp_path):
    path = write(tmp_path / "dataset_fingerprint.json", NNUNET)
    description = write(tmp_path / "dataset.json", DESCRIPTION)
    found = load_fingerprint(path, description)
    assert found.channels == ("CT",)
    assert found.labels.names == ("background", "liver")
    assert found.cases[1].shape_after_crop == (11, 21, 31)
    assert found.cases[0].spacing == (3.0, 1.0, 1.0)
    assert found.intensities[0].percentile_99_5 == 8.0
    with pytest.raises(DatasetError, match="--dataset-json"):
        load_fingerprint(path, None)


def test_a_file_may_carry_its_description(tmp_path):
    path = write(tmp_path / "a.json", NNUNET | DESCRIPTION | {"dataset": "Dataset003_Liver"})
    assert load_fingerprint(path, None).dataset_name == "Dataset003_Liver"


def test_pictures_of_nnunet_lose_their_third_axis(tmp_path):
    pictures = {"shapes_after_crop": [[1, 20, 30]], "spacings": [[999.0, 1.0, 1.0]]}
    found = load_fingerprint(write(tmp_path / "a.json", NNUNET | DESCRIPTION | pictures), None)
    assert found.dimensions == 2
    assert found.unit == "pixel"
    assert found.cases[0].spacing == (1.0, 1.0)


def test_our_own_file_is_read_back(tmp_path):
    found = load_fingerprint(write(tmp_path / "a.json", NNUNET | DESCRIPTION), None)
    (tmp_path / "fingerprint.json").write_text(found.to_json())
    assert load_fingerprint(tmp_path / "fingerprint.json", None) == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacings": None}, "without spacings"),
        ({"spacings": [[1, 1, 1]]}, "ValueError"),
        ({"spacings": [[1, 1], [1, 1]]}, "case 0"),
        ({"shapes_after_crop": [], "spacings": []}, "no cases"),
        ({"foreground_intensity_properties_per_channel": {}}, "KeyError"),
        ({"labels": {"background": 0, "whole": "a"}}, "labels"),
    ],
)
def test_nonsense_is_named(tmp_path, changes, message):
    content = NNUNET | DESCRIPTION | changes
    path = write(tmp_path / "a.json", {k: v for k, v in content.items() if v is not None})
    with pytest.raises(AutosegError, match=message):
        load_fingerprint(path, None)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.json"):
        load_fingerprint(tmp_path / "none.json", None)


def test_published_fingerprints_are_read(reference):
    paths = sorted((reference / "msd" / "fingerprints").glob("*.json"))
    assert len(paths) >= 7
    for path in paths:
        found = load_fingerprint(path, None)
        assert len(found.cases) == json.loads(path.read_text())["num_training"]
        assert len(found.intensities) == len(found.channels)

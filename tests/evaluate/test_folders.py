"""`autoseg evaluate`: folders of label maps."""

import numpy as np
import pytest

from autoseg.errors import DatasetError
from autoseg.evaluate.evaluation import Evaluation
from autoseg.evaluate.folders import evaluate_folders
from autoseg.runtime.images import Geometry, Image, write_image, write_labels


def write(folder, name, labels, spacing=None):
    folder.mkdir(exist_ok=True)
    labels = np.asarray(labels)
    spacing = spacing or (1.0,) * labels.ndim
    unit = "pixel" if labels.ndim == 2 else "mm"
    write_labels(folder / name, labels, Geometry(spacing=spacing, unit=unit))


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "predictions", tmp_path / "references"


def volume(value, at=2):
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[2:6, at : at + 4, 3:7] = value
    return labels


def test_files_are_matched_by_stem_whatever_their_format(folders):
    predictions, references = folders
    write(predictions, "a b.nii.gz", volume(7), (3.0, 1.0, 2.0))
    write(references, "a b.mha", volume(7, at=3), (3.0, 1.0, 2.0))
    found = evaluate_folders(*folders)
    assert found.values == (0, 7)
    assert found.unit == "mm"
    assert found.scores[0].case_id == "a b"
    assert found.scores[0].classes[0].dice == pytest.approx(0.75)
    assert found.nsd_tolerance == pytest.approx(2.0)


def test_values_of_all_files_become_classes(folders):
    predictions, references = folders
    for name, value in (("a", 10), ("b", 255)):
        write(predictions, f"{name}.png", np.array([[1, value], [1, 1]]))
        write(references, f"{name}.png", np.array([[1, value], [1, 1]]))
    found = evaluate_folders(*folders)
    assert found.values == (1, 10, 255)
    assert [row.dice.num_cases for row in found.summary.classes] == [1, 1]
    assert found.unit == "pixel"


def test_the_background_need_not_be_the_lowest_value(folders):
    predictions, references = folders
    write(predictions, "a.png", np.array([[255, 0], [255, 255]]))
    write(references, "a.png", np.array([[255, 0], [255, 0]]))
    found = evaluate_folders(*folders, background=255)
    assert found.values == (255, 0)
    assert found.summary.foreground.dice.mean == pytest.approx(2 / 3)


def test_ignored_value_is_no_class(folders):
    predictions, references = folders
    write(predictions, "a.png", np.array([[0, 1], [1, 1]]))
    write(references, "a.png", np.array([[0, 1], [9, 9]]))
    found = evaluate_folders(*folders, ignore=9)
    assert found.values == (0, 1)
    assert found.summary.foreground.dice.mean == 1.0


def test_all_predictions_without_reference_are_listed(folders):
    predictions, references = folders
    for name in ("a", "b", "c"):
        write(predictions, f"{name}.png", np.eye(3, dtype=np.uint8))
    write(references, "b.png", np.eye(3, dtype=np.uint8))
    with pytest.raises(DatasetError) as error:
        evaluate_folders(*folders)
    assert "a.png" in error.value.found
    assert "c.png" in error.value.found
    assert "b.png" not in error.value.found


def test_references_without_prediction_are_named(folders):
    predictions, references = folders
    write(predictions, "a.png", np.eye(3, dtype=np.uint8))
    for name in ("a", "b"):
        write(references, f"{name}.png", np.eye(3, dtype=np.uint8))
    assert evaluate_folders(*folders).not_predicted == ("b",)


def test_all_pairs_that_differ_are_listed(folders):
    predictions, references = folders
    write(predictions, "a.nii.gz", volume(1), (1.0, 1.0, 1.0))
    write(references, "a.nii.gz", volume(1), (1.0, 1.0, 1.5))
    write(predictions, "b.nii.gz", volume(1)[1:])
    write(references, "b.nii.gz", volume(1))
    with pytest.raises(DatasetError) as error:
        evaluate_folders(*folders)
    assert "a.nii.gz: spacing" in error.value.found
    assert "b.nii.gz: shape (7, 9, 10)" in error.value.found


def test_unreadable_file_is_named(folders):
    predictions, references = folders
    write(references, "a.nii.gz", volume(1))
    predictions.mkdir()
    (predictions / "a.nii.gz").write_bytes(b"not an image")
    with pytest.raises(DatasetError, match=r"a\.nii\.gz"):
        evaluate_folders(*folders)


def test_empty_and_absent_folders_are_named(folders):
    predictions, _ = folders
    with pytest.raises(DatasetError, match="no folder"):
        evaluate_folders(*folders)
    predictions.mkdir()
    with pytest.raises(DatasetError, match="no label map"):
        evaluate_folders(*folders)


def test_two_files_of_one_name_are_refused(folders):
    predictions, references = folders
    write(references, "a.png", np.eye(3, dtype=np.uint8))
    for name in ("a.png", "a.tif"):
        write(predictions, name, np.eye(3, dtype=np.uint8))
    with pytest.raises(DatasetError, match="same name"):
        evaluate_folders(*folders)


def test_tables_and_json_hold_every_class_and_case(folders):
    predictions, references = folders
    for name in ("a", "b"):
        write(predictions, f"{name}.png", np.array([[0, 1], [2, 2]]))
        write(references, f"{name}.png", np.array([[0, 1], [2, 0]]))
    found = evaluate_folders(*folders)
    titles, rows = found.table()
    assert [row[0] for row in rows] == ["value 1", "value 2", "foreground mean"]
    assert all(len(row) == len(titles) for row in rows)
    assert rows[0][1] == "1.0000 [1.0000, 1.0000]"
    assert [row[0] for row in found.case_table()[1]] == ["a", "b"]
    assert Evaluation.from_json(found.to_json(), "scores") == found


def test_a_folder_of_images_is_refused_and_each_file_named(folders):
    predictions, references = folders
    image = np.arange(200, dtype=np.uint8).reshape(10, 20)
    write(predictions, "a.png", image % 2)
    write(references, "a.png", image)
    with pytest.raises(DatasetError, match="200 different values") as error:
        evaluate_folders(*folders)
    assert str(references / "a.png") in error.value.found
    assert str(predictions / "a.png") not in error.value.found
    assert "at most 32" in error.value.expected


def test_too_many_values_in_all_files_together_are_refused(folders):
    predictions, references = folders
    for index in range(20):
        labels = np.array([[0, 2 * index + 1], [2 * index + 2, 0]])
        for folder in folders:
            write(folder, f"{index}.png", labels)
    with pytest.raises(DatasetError, match="41 different values in all files: 0, 1, 2, 3, 4"):
        evaluate_folders(predictions, references)


def test_broken_numbers_are_no_labels(folders):
    predictions, references = folders
    write(references, "a.nii.gz", volume(1))
    image = Image(0.5 * volume(1)[None].astype(np.float32), Geometry((1.0, 1.0, 1.0)))
    write_image(predictions / "a.nii.gz", image)
    with pytest.raises(DatasetError, match=r"0\.5"):
        evaluate_folders(*folders)


def test_values_can_be_scored_together_as_regions(folders):
    predictions, references = folders
    write(predictions, "a.png", np.array([[0, 1], [2, 0]]))
    write(references, "a.png", np.array([[0, 2], [1, 0]]))
    found = evaluate_folders(*folders, regions={"whole": (1, 2), "core": (2,)})
    assert [item.dice for item in found.scores[0].regions] == [1.0, 0.0]
    assert Evaluation.from_json(found.to_json(), "scores") == found
    rows = found.table()[1]
    assert [row[0] for row in rows][-3:] == ["whole", "core", "region mean"]
    assert rows[-1][1].startswith("0.5000")


@pytest.mark.parametrize("members", [(1, 9), (0,), ()])
def test_a_region_of_values_that_are_no_classes_is_refused(folders, members):
    for folder in folders:
        write(folder, "a.png", np.array([[0, 1], [2, 0]]))
    with pytest.raises(DatasetError, match="region whole"):
        evaluate_folders(*folders, regions={"whole": members})


def test_labels_of_signals_in_tables_are_compared_in_seconds(tmp_path):
    geometry = Geometry((0.002,), unit="s")
    labels = np.zeros(100, np.uint8)
    labels[20:40] = 1
    write_labels(tmp_path / "a" / "x.csv", np.roll(labels, 1), geometry)
    write_labels(tmp_path / "b" / "x.csv", labels, geometry)
    found = evaluate_folders(tmp_path / "a", tmp_path / "b")
    assert (found.unit, found.nsd_tolerance) == ("s", pytest.approx(0.002))
    (score,) = found.scores[0].classes
    assert score.dice == pytest.approx(38 / 40)
    assert score.hd95 == pytest.approx(0.002)
    assert score.nsd == 1.0

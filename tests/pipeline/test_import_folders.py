from autoseg.dataset.open import open_dataset
from autoseg.pipeline.import_folders import describe_places, folders_used
from autoseg.testing.layouts import write_folders


def test_folders_of_patients_are_one_place():
    names = [(f"p{index}/img/{index}.nii.gz",) for index in range(5)]
    assert describe_places(names) == "*/img/*.nii.gz"


def test_files_of_many_kinds_are_not_listed_by_ending():
    assert describe_places([(f"data/1.v{index}",) for index in range(6)]) == "data/*"


def test_one_file_is_named():
    assert describe_places([("stack.tif",), ("stack.tif",)]) == "stack.tif"


def test_a_few_places_are_named_one_by_one():
    names = [("train/a.png",), ("train/b.png",), ("val/c.png",)]
    assert describe_places(names) == "train/*.png, val/*.png"


def test_many_folders_left_aside_are_counted(tmp_path):
    write_folders(tmp_path)
    for index in range(6):
        (tmp_path / f"extra{index}").mkdir()
    text = folders_used(open_dataset(tmp_path, None, None))
    assert text.endswith("not used: extra0/, extra1/, extra2/, extra3/ and 2 more")


def test_what_lies_beside_the_data_set_is_not_told(tmp_path):
    write_folders(tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    dataset = open_dataset(tmp_path / "data", None, None)
    cases = [
        case.revised(images=tuple(f"../data/{name}" for name in case.images))
        for case in dataset.cases
    ]
    text = folders_used(dataset.revised(cases=tuple(cases)))
    assert "elsewhere" not in text

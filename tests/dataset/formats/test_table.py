import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError

NAMES = "abcd"


@pytest.fixture
def root(tmp_path):
    """Pictures a.png to d.png with masks, and binary masks of a box and of a smaller one in it."""
    folder = tmp_path / "set"
    for index, name in enumerate(NAMES):
        labels = np.zeros((8, 9), np.uint8)
        labels[1:7, 1:7] = 1
        picture(folder / "whole" / f"{name}.png", labels)
        picture(
            folder / "core" / f"{name}.png", np.pad(np.ones((2, 2), np.uint8), ((3, 3), (3, 4)))
        )
        picture(folder / "truth" / f"{name}.png", labels)
        picture(folder / "scans" / f"{name}.png", labels * 40 + index)
    return folder


def picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(array).save(path)


def table(root, header, row, name="cases.csv", end="\n"):
    """Write a table with one row a case, made from `row` with {n} for the name and {i}."""
    lines = [header, *(row.format(n=n, i=i) for i, n in enumerate(NAMES))]
    (root / name).write_bytes(end.join([*lines, ""]).encode())
    return root


def test_a_table_tells_groups_sites_splits_and_folds(root):
    header = "ID,Image,Label,Patient,Site,Split,Fold"
    row = "case{i},scans/{n}.png,truth/{n}.png,p1,north,Validation,{i}"
    dataset = open_dataset(table(root, header, row), None, None)
    assert dataset.layout == "table"
    case = dataset.cases[2]
    assert (case.id, case.group, case.site, case.split, case.fold) == (
        "case2",
        "p1",
        "north",
        "val",
        2,
    )
    assert case.images == ("scans/c.png",)
    assert dataset.labels.values == (0, 1)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_line_ends_and_byte_order_marks_do_not_matter(root, delimiter, end):
    header = delimiter.join(("\ufeffimage", "mask"))
    table(root, header, delimiter.join(("scans/{n}.png", "truth/{n}.png")), end=end)
    assert [case.id for case in open_dataset(root, None, None).cases] == list(NAMES)


def test_paths_may_be_absolute_and_lie_outside(root):
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    table(elsewhere, "image,label", f"{root}/scans/{{n}}.png,../set/truth/{{n}}.png")
    dataset = open_dataset(elsewhere, None, None)
    assert dataset.cases[0].images == (f"{root.as_posix()}/scans/a.png",)
    assert read_case(dataset, dataset.cases[0])[1].sum() == 36


def test_image_columns_are_channels_in_the_order_of_the_spec(root):
    row = "scans/{n}.png,truth/{n}.png,truth/{n}.png"
    table(root, "image_T1,image_FLAIR,label", row)
    assert open_dataset(root, None, None).channels == ("T1", "FLAIR")
    dataset = open_dataset(root, DatasetSpec(channels=("FLAIR", "T1")), None)
    assert dataset.cases[0].images == ("truth/a.png", "scans/a.png")
    assert dataset.channel_files == "suffix"


def test_mask_columns_are_classes_and_nested_ones_regions(root):
    table(root, "image,mask_core,mask_whole", "scans/{n}.png,core/{n}.png,whole/{n}.png")
    dataset = open_dataset(root, None, None)
    assert dataset.labels.names == ("background", "rest of whole", "core")
    assert [region.name for region in dataset.labels.regions] == ["whole", "core"]
    assert np.bincount(read_case(dataset, dataset.cases[0])[1].ravel()).tolist() == [36, 32, 4]


def test_smoothed_mask_columns_are_split_in_the_middle(root):
    for path in (root / "core").iterdir():
        pixels = np.asarray(Pillow.open(path)).copy()
        pixels[pixels > 0] = 255
        pixels[0, 0] = 60
        Pillow.fromarray(pixels).save(path)
    table(root, "image,mask_core", "scans/{n}.png,core/{n}.png")
    dataset = open_dataset(root, None, None)
    assert dataset.reading.threshold == 128
    assert read_case(dataset, dataset.cases[0])[1][0, 0] == 0


def test_a_class_without_a_mask_is_not_in_the_case(root):
    table(root, "image,mask_core,mask_whole", "scans/{n}.png,core/{n}.png,whole/{n}.png")
    path = root / "cases.csv"
    path.write_text(path.read_text().replace("core/b.png", ""))
    dataset = open_dataset(root, None, None)
    assert dataset.cases[1].labels == ("whole/b.png",)
    assert np.unique(read_case(dataset, dataset.cases[1])[1]).tolist() == [0, 1]


def test_declared_classes_must_be_the_mask_columns(root):
    table(root, "image,mask_core,mask_whole", "scans/{n}.png,core/{n}.png,whole/{n}.png")
    spec = DatasetSpec(labels={"background": 0, "whole": 1, "edge": 2})
    with pytest.raises(DatasetError, match=r"core without a value .* background, whole, edge"):
        open_dataset(root, spec, None)
    spec = DatasetSpec(labels={"background": 0, "whole": 4, "core": 9})
    dataset = open_dataset(root, spec, None)
    assert dataset.labels.values == (0, 4, 9)
    assert dataset.labels.regions == ()


@pytest.mark.parametrize(("group_by", "groups"), [("hospital", "h"), (r"\w", "abcd")])
def test_a_group_is_a_column_or_an_expression(root, group_by, groups):
    table(root, "image,label,patient,hospital", "scans/{n}.png,truth/{n}.png,p{i},h")
    dataset = open_dataset(root, None, group_by)
    assert {case.group for case in dataset.cases} == set(groups)
    site = open_dataset(root, DatasetSpec(site_by="hospital"), None)
    assert {case.site for case in site.cases} == {"h"}


def test_test_cases_without_labels_are_left_out(root):
    table(root, "image,label,split", "scans/{n}.png,truth/{n}.png,train")
    path = root / "cases.csv"
    path.write_text(path.read_text().replace("truth/d.png,train", ",test"))
    assert [case.id for case in open_dataset(root, None, None).cases] == ["a", "b", "c"]


def test_all_faults_of_a_table_are_told_at_once(root):
    lines = [
        "id,image,label,split,fold",
        "1,scans/a.png,truth/a.png,train,0",
        "1,scans/b.png,truth/b.png,train,0",
        "2,scans/x.png,truth/y.png,train,0",
        "3,scans/b.png,,train,0",
        "4,scans/b.png,truth/b.png,maybe,0",
        "5,scans/b.png,truth/b.png,train,first",
        "6/7,scans/b.png,truth/b.png,train,0",
        "8,,truth/b.png,train,0",
        "9,cases.csv,truth/b.png,train,0",
    ]
    (root / "cases.csv").write_text("\n".join(lines))
    with pytest.raises(DatasetError) as caught:
        open_dataset(root, None, None)
    found = caught.value.found
    for text in (
        "cases.csv line 3: the case 1 again, as in cases.csv line 2",
        "scans/x.png: no such file, listed in cases.csv line 4",
        "truth/y.png: no such file",
        "cases.csv line 5: no entry under label",
        "cases.csv line 6: split 'maybe'",
        "cases.csv line 7: fold 'first'",
        "cases.csv line 8: the id '6/7'",
        "cases.csv line 9: no entry under image",
        "an image of an unknown kind (cases.csv line 10)",
    ):
        assert text in found


def test_missing_files_of_an_excluded_case_do_not_matter(root):
    table(root, "id,image,label", "p{i},scans/{n}.png,truth/{n}.png")
    (root / "scans" / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"scans/a\.png"):
        open_dataset(root, None, None)
    spec = DatasetSpec(exclude={"p0": "lost"})
    assert [case.id for case in open_dataset(root, spec, None).cases] == ["p1", "p2", "p3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no columns"),
        (b"image,label,Image\n", "'Image' twice"),
        (b"picture,label\na,b\n", "columns picture, label"),
        (b"image,label\n\xff\xfe,b\n", "no text in UTF-8"),
    ],
)
def test_what_is_no_table_of_cases_is_refused(root, content, message):
    (root / "list.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        open_dataset(root, DatasetSpec(table="list.csv"), None)


def test_tables_about_other_things_do_not_make_the_layout(root):
    table(root, "patient,age", "{n},{i}", name="dataset.csv")
    (root / "scans").rename(root / "images")
    (root / "truth").rename(root / "masks")
    assert open_dataset(root, None, None).layout == "folders"


def test_a_column_of_hospitals_tells_sites(root):
    table(root, "image,label,hospital", "scans/{n}.png,truth/{n}.png,north")
    assert {case.site for case in open_dataset(root, None, None).cases} == {"north"}

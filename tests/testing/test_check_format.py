import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats import folders, registry
from autoseg.dataset.formats.format import Format, FoundCase, Layout, Problem
from autoseg.dataset.formats.registry import find_format, formats
from autoseg.dataset.label_values import spec_labels
from autoseg.errors import DatasetError
from autoseg.runtime.images import Extent, Geometry, Image, read_image
from autoseg.testing.contracts import check_format
from autoseg.testing.layouts import EXTRA_LAYOUTS, LAYOUTS, write_folders, write_related_names

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"
PACKAGES = {"zarr": "zarr", "dicom": "pydicom"}
PICTURE = Geometry((1.0, 1.0), unit="pixel")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_format_of_ours_keeps_its_contract(name):
    check_format(find_format(name), LAYOUTS[name])


@pytest.mark.parametrize("name", EXTRA_LAYOUTS)
def test_a_format_with_an_extra_keeps_its_contract(name):
    pytest.importorskip(PACKAGES[name])
    check_format(find_format(name), EXTRA_LAYOUTS[name])


def test_folders_with_related_names_keep_the_contract():
    check_format(folders.FORMAT, write_related_names)


def test_patterns_keep_the_contract_when_they_are_declared():
    spec = DatasetSpec(layout="patterns", images=("images/{case}.png",), masks="masks/{case}.png")
    check_format(find_format("patterns"), write_folders, spec=spec)


def test_a_folder_that_exists_is_checked_and_stays_as_it_is(tmp_path):
    write_folders(tmp_path)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    check_format(folders.FORMAT, tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_every_format_of_ours_has_a_folder_to_be_tried_on():
    ours = {entry.name for entry in formats()} - {"patterns"}  # these have no look of their own
    assert ours == {*LAYOUTS, *EXTRA_LAYOUTS}


# Formats that break it


class Point:
    """An entry point of a package that is not there."""

    def __init__(self, entry):
        self.entry = entry

    def load(self):
        return self.entry


@pytest.fixture
def register(monkeypatch):
    """Give a function that registers a format as another package would."""

    def add(entry):
        monkeypatch.setattr(registry, "entry_points", lambda group: [Point(entry)])
        registry.formats.cache_clear()
        return entry

    yield add
    registry.formats.cache_clear()


def write_scans(root):
    for index in range(3):
        mask = np.zeros((8, 9), np.uint8)
        mask[index : index + 3] = 1
        np.save(root / f"scan{index}.npy", mask * 50.0)
        np.save(root / f"scan{index}.truth", mask)
        (root / f"scan{index}.truth.npy").rename(root / f"scan{index}.truth")


def find_scans(root, spec):
    scans = sorted(root.glob("*.npy"))
    missing = [path for path in scans if not path.with_suffix(".truth").is_file()]
    return Layout(
        cases=tuple(
            FoundCase(path.stem, (path,), (path.with_suffix(".truth"),))
            for path in scans
            if path not in missing
        ),
        problems=tuple(Problem.of(f"{path.stem}.truth", "missing", path.stem) for path in missing),
        channels=spec.channels or ("depth",),
        labels=spec_labels(spec),
    )


def read_scan(dataset, case):
    path = dataset.image_paths(case)[0]
    try:
        return Image(np.load(path)[None], PICTURE)
    except (OSError, ValueError) as error:
        raise DatasetError(found=str(error), expected="a whole file", fix="copy it again") from None


def read_scan_extent(dataset, case):
    return Extent(1, read_scan(dataset, case).shape, PICTURE.spacing, "pixel")


def read_truth(dataset, case):
    return Image(np.load(dataset.label_paths(case)[0])[None], PICTURE)


SCANS = Format(
    name="scans",
    expects="*.npy with *.truth",
    is_found=lambda root: any(root.glob("*.truth")),
    find_cases=find_scans,
    read_image=read_scan,
    read_labels=read_truth,
    read_extent=read_scan_extent,
)


def changed(**changes):
    """Return a finder that changes what the right one finds."""

    def find(root, spec):
        layout = find_scans(root, spec)
        return replace(layout, **{key: make(layout) for key, make in changes.items()})

    return find


def with_case(**changes):
    """Return a finder whose first case is changed."""

    def cases(layout):
        first, *others = layout.cases
        new = {key: make(first) for key, make in changes.items()}
        return (replace(first, **new), *others)

    return changed(cases=cases)


def forgetful(root, spec):
    """Find the cases with labels only."""
    return replace(find_scans(root, spec), problems=())


def unsteady(root, spec):
    """Find the cases in another order each time."""
    layout = find_scans(root, spec)
    count = len(SEEN)
    SEEN.append(count)
    return replace(layout, cases=layout.cases[:: 1 if count % 2 else -1])


SEEN: list[int] = []


def anonymous(root, spec):
    """Find the cases, and tell problems without their ids."""
    layout = find_scans(root, spec)
    problems = tuple(replace(problem, case_id=None) for problem in layout.problems)
    return replace(layout, problems=problems)


def raw_scan(dataset, case):
    """Read a scan, and let errors of numpy out."""
    return Image(np.load(dataset.image_paths(case)[0])[None], PICTURE)


def forgiving_scan(dataset, case):
    """Read a scan; nothing where it is gone."""
    try:
        return read_scan(dataset, case)
    except DatasetError:
        return Image(np.zeros((1, 8, 9)), PICTURE)


KEPT: dict[str, Image] = {}


def kept_scan(dataset, case):
    """Read a scan once and hand out the same array ever after."""
    return KEPT.setdefault(case.id, read_scan(dataset, case))


def careless(root, spec):
    """Find the cases and leave a list of them behind."""
    (root / "index.txt").write_text("seen")
    return find_scans(root, spec)


def reader(change, read=read_scan):
    """Return a reader that changes what the right one reads."""
    return lambda dataset, case: change(read(dataset, case))


BROKEN = {
    "claims everything": ({"is_found": lambda root: True}, "claims a folder of"),
    "finds nothing": ({"is_found": lambda root: False}, "is_found gave False for its own"),
    "has problems": (
        {"find_cases": changed(problems=lambda _: (Problem("odd"),))},
        "problems in a whole",
    ),
    "tells problems as text": (
        {"find_cases": changed(problems=lambda x: tuple(map(str, x.problems)))},
        "no records of `Problem`",
    ),
    "has one case": ({"find_cases": changed(cases=lambda x: x.cases[:1])}, "1 cases"),
    "is unsteady": ({"find_cases": unsteady}, "something else the second time"),
    "has ids twice": ({"find_cases": with_case(case_id=lambda _: "scan1")}, "ids twice"),
    "has a path as id": ({"find_cases": with_case(case_id=lambda _: "a/b")}, "'a/b' cannot be"),
    "has relative paths": (
        {"find_cases": with_case(images=lambda c: (Path(c.images[0].name),))},
        "is not absolute",
    ),
    "invents files": (
        {"find_cases": with_case(labels=lambda c: (c.labels[0].with_name("none"),))},
        "does not exist",
    ),
    "paints too much": ({"find_cases": with_case(paint=lambda _: (1, 2))}, "paint"),
    "lets errors out": ({"read_image": raw_scan}, "FileNotFoundError about an image that is gone"),
    "reads what is gone": ({"read_image": forgiving_scan}, "is gone, and was read"),
    "hands out what others may change": ({"read_image": kept_scan}, "another image the second"),
    "tells another extent": (
        {"read_extent": lambda dataset, case: Extent(1, (9, 8), (1.0, 1.0))},
        "read_extent told",
    ),
    "tells no ids": ({"find_cases": anonymous}, "cannot be left out"),
    "forgets cases": ({"find_cases": forgetful}, "was deleted, and nothing names it"),
    "has no channel axis": (
        {"read_image": reader(lambda image: Image(image.array[0], PICTURE))},
        r"1 axes, spacing \(1\.0, 1\.0\)",
    ),
    "has NaN": ({"read_image": reader(lambda i: Image(i.array * np.nan, PICTURE))}, "NaN"),
    "has two channels": (
        {"read_image": reader(lambda i: Image(np.repeat(i.array, 2, axis=0), PICTURE))},
        "2 channels, 1 in the data set",
    ),
    "has no spacing": (
        {"read_image": reader(lambda i: Image(i.array, Geometry((0.0, 1.0))))},
        "spacing",
    ),
    "has labels elsewhere": (
        {"read_labels": reader(lambda i: Image(i.array[:, 1:], PICTURE), read_truth)},
        r"\(1, 7, 9\), \(8, 9\)",
    ),
    "has broken labels": (
        {"read_labels": reader(lambda i: Image(i.array * 1.0, PICTURE), read_truth)},
        "have type float64",
    ),
    "writes": ({"find_cases": careless}, "changed the folder"),
}


def test_a_format_of_another_package_is_checked(register):
    check_format(register(SCANS), write_scans)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_format_is_caught(register, name):
    changes, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        check_format(register(replace(SCANS, **changes)), write_scans)


def test_labels_of_no_class_are_caught(register):
    declared = DatasetSpec(labels={"background": 0, "thing": 2})
    with pytest.raises(AssertionError, match=r"values \[1\], which no class has"):
        check_format(register(SCANS), write_scans, spec=declared)


@pytest.mark.parametrize("what", ["labels", "channels"])
def test_a_declaration_that_is_not_heard_is_caught(register, what):
    deaf = replace(SCANS, find_cases=changed(**{what: lambda _: None}))
    declared = DatasetSpec(labels={"background": 0, "thing": 1}, channels=("depth",))
    with pytest.raises(AssertionError, match=f"{what} that the spec declares"):
        check_format(register(deaf), write_scans, spec=declared)


def test_a_format_that_is_not_registered_is_told_so():
    with pytest.raises(AssertionError, match="not registered"):
        check_format(SCANS, write_scans, spec=DatasetSpec(layout="scans"))


def test_a_folder_that_another_format_claims_first_is_told(register):
    entry = replace(folders.FORMAT, name="mine", read_image=lambda d, c: read_image([]))
    with pytest.raises(AssertionError, match="folders claims the folder before"):
        check_format(register(entry), write_folders)


def test_the_documented_format_keeps_the_contract(register):
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    assert len(blocks) == 2
    made: dict = {}
    exec(blocks[0], made)  # the document is ours
    register(made["FORMAT"])
    test = blocks[1].replace("from my_package.npz import FORMAT", "")
    exec(test, made)
    made["test_the_format_keeps_its_contract"]()


def test_errors_of_the_data_are_not_taken_for_a_broken_contract(register, tmp_path):
    write_scans(tmp_path)
    with pytest.raises(DatasetError, match="no_case"):
        check_format(register(SCANS), tmp_path, spec=DatasetSpec(exclude={"no_case": "test"}))

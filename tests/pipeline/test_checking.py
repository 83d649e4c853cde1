import numpy as np
import pytest

from autoseg.check.headers import check_headers
from autoseg.dataset.dataset import DatasetSpec, Findings
from autoseg.dataset.open import list_dataset
from autoseg.dataset.problems import DatasetProblems
from autoseg.dataset.spec import load_spec
from autoseg.errors import AutosegError, DatasetError, WorkspaceError
from autoseg.pipeline.checking import CheckOptions, check_dataset, check_listing
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.runtime.images import Geometry, Image, read_image, write_image, write_labels
from autoseg.testing.synthetic import write_rings, write_spheres

SHAPE = (10, 12, 14)
GEOMETRY = Geometry((1.0, 1.0, 1.0))


@pytest.fixture
def root(tmp_path):
    return write_spheres(tmp_path / "spheres", num_cases=5, seed=0, shape=SHAPE)


def image_of(root, case):
    return root / "imagesTr" / f"{case}_0000.nii.gz"


def labels_of(root, case):
    return root / "labelsTr" / f"{case}.nii.gz"


def put_nan(root, case):
    image = read_image([image_of(root, case)])
    image.array[0, 0, 0, 0] = np.nan
    write_image(image_of(root, case), image)


def tear(root, case):
    path = image_of(root, case)
    path.write_bytes(path.read_bytes()[:-100])


def listing(folder):
    """Return the files of a folder with what they hold."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check(root, place, **options):
    return check_dataset(CheckOptions(dataset=root, workspace=place, **options))


def test_errors_do_not_hide_what_else_is_found(root, tmp_path):
    put_nan(root, "case_001")
    tear(root, "case_002")
    labels_of(root, "case_003").unlink()
    outcome = check(root, tmp_path / "w")
    errors = [item for item in outcome.findings if item.severity == "error"]
    assert {item.case for item in errors} == {"case_001", "case_002", "case_003"}
    assert outcome.has_errors


def test_sound_cases_are_judged_beside_broken_ones(root):
    put_nan(root, "case_001")
    found = [item.found for item in check(root, None).findings]
    assert any(text.startswith("NaN") for text in found)
    assert "4 cases" in found


def test_checking_leaves_nothing_behind(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put_nan(root, "case_001")
    before = listing(tmp_path)
    check(root, None)
    assert listing(tmp_path) == before


def test_safe_fixes_are_written_as_a_spec_and_the_data_stay(root, tmp_path):
    put_nan(root, "case_001")
    labels = np.zeros(SHAPE, np.float32)
    labels[3:6, 3:6, 3:6] = 0.9
    write_image(labels_of(root, "case_002"), Image(labels[None], GEOMETRY))
    before = listing(root)
    outcome = check(root, tmp_path / "w", fix=True)
    assert not outcome.has_errors
    assert outcome.changes == {"fixes": ["replace_nan", "round_labels"]}
    assert outcome.spec_file == tmp_path / "w" / "spec.json"
    assert load_spec(tmp_path / "w" / "spec.json").fixes == ("replace_nan", "round_labels")
    assert listing(root) == before
    notes = [item.found for item in outcome.findings if item.severity == "note"]
    assert any("read as the smallest" in text for text in notes)
    assert any("rounded" in text for text in notes)


def test_what_a_given_spec_says_stays(root, tmp_path):
    put_nan(root, "case_001")
    path = tmp_path / "mine.json"
    path.write_text('{"name": "mine", "exclude": {"case_004": "blurred"}}')
    outcome = check(root, tmp_path / "w", spec=path, group_by=r"case_(\d)", fix=True)
    written = load_spec(tmp_path / "w" / "spec.json")
    assert written == DatasetSpec(
        name="mine",
        exclude={"case_004": "blurred"},
        fixes=("replace_nan",),
        group_by=r"case_(\d)",
    )
    assert outcome.changes == {"fixes": ["replace_nan"]}
    excluded = [item for item in outcome.findings if item.files == ("case_004",)]
    assert [(item.severity, item.found) for item in excluded] == [("note", "left out: blurred")]


def test_nothing_is_written_where_nothing_is_fixed(root, tmp_path):
    outcome = check(root, tmp_path / "w", fix=True)
    assert outcome.changes == {}
    assert outcome.spec_file is None
    assert not (tmp_path / "w" / "spec.json").exists()


def test_one_fix_may_uncover_the_next(tmp_path):
    root = write_rings(tmp_path / "a", num_cases=4, seed=0, shape=(24, 24))
    mask = np.zeros((24, 24), np.uint8)
    mask[5:15, 5:15] = 255
    mask[5, 5:10] = (3, 100, 160, 252, 254)
    write_labels(root / "masks" / "case_001.png", mask, Geometry((1.0, 1.0), unit="pixel"))
    for index in (0, 2, 3):
        write_labels(root / "masks" / f"case_{index:03d}.png", mask // 255 * 255, GEOMETRY)
    outcome = check(root, tmp_path / "w", fix=True)
    assert not outcome.has_errors
    assert outcome.changes == {"threshold": 128.0}
    assert outcome.dataset is not None
    assert outcome.dataset.labels.values == (0, 1)


def test_broken_cases_are_left_out_with_the_reason(root, tmp_path):
    tear(root, "case_002")
    labels_of(root, "case_003").unlink()
    put_nan(root, "case_001")
    assert check(root, tmp_path / "w", fix=True).has_errors
    outcome = check(root, tmp_path / "w", fix=True, skip_broken=True)
    assert not outcome.has_errors
    spec = load_spec(tmp_path / "w" / "spec.json")
    assert spec.fixes == ("replace_nan",)
    assert spec.exclude is not None
    assert set(spec.exclude) == {"case_002", "case_003"}
    assert "truncated" in spec.exclude["case_002"]
    warned = {item.files for item in outcome.findings if item.found.startswith("left out: broken")}
    assert warned == {("case_002",), ("case_003",)}


def test_nothing_is_left_out_when_one_case_would_remain(root, tmp_path):
    for index in range(1, 5):
        tear(root, f"case_{index:03d}")
    outcome = check(root, tmp_path / "w", fix=True, skip_broken=True)
    assert outcome.has_errors
    assert not (tmp_path / "w" / "spec.json").exists()
    options = PlanOptions(dataset=root, workspace=tmp_path / "w", skip_broken=True)
    with pytest.raises(DatasetProblems, match="case_004"):
        make_plan(options)


def test_unpaired_cases_are_not_left_out_when_one_would_remain(root, tmp_path):
    for index in range(1, 5):
        labels_of(root, f"case_{index:03d}").unlink()
    outcome = check(root, tmp_path / "w", fix=True, skip_broken=True)
    assert len([item for item in outcome.findings if item.severity == "error"]) == 4
    assert not (tmp_path / "w" / "spec.json").exists()
    with pytest.raises(DatasetProblems, match="no labels"):
        make_plan(PlanOptions(dataset=root, workspace=tmp_path / "w", skip_broken=True))


def test_nothing_is_written_beside_the_data_unasked(root, monkeypatch):
    monkeypatch.chdir(root)
    put_nan(root, "case_001")
    before = listing(root)
    with pytest.raises(WorkspaceError, match="in the data set's folder"):
        check(root, None, fix=True)
    with pytest.raises(WorkspaceError, match="in the data set's folder"):
        make_plan(PlanOptions(dataset=root))
    assert listing(root) == before
    assert check(root, None).has_errors


def test_a_plan_takes_the_spec_of_its_workspace(root, tmp_path):
    put_nan(root, "case_001")
    options = {"dataset": root, "workspace": tmp_path / "w", "planner": "nnunet"}
    with pytest.raises(DatasetError, match="NaN"):
        make_plan(PlanOptions(**options))
    check(root, tmp_path / "w", fix=True)
    outcome = make_plan(PlanOptions(**options))
    assert outcome.spec_file == tmp_path / "w" / "spec.json"
    assert outcome.dataset.reading.fixes == ("replace_nan",)
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(DatasetError, match="NaN"):
        make_plan(PlanOptions(**options, spec=tmp_path / "mine.json"))


def test_a_plan_may_leave_out_broken_cases(root, tmp_path):
    tear(root, "case_002")
    options = {"dataset": root, "workspace": tmp_path / "w", "planner": "nnunet"}
    outcome = make_plan(PlanOptions(**options, skip_broken=True))
    assert [case.id for case in outcome.dataset.cases] == [f"case_00{i}" for i in (0, 1, 3, 4)]
    assert "truncated" in outcome.dataset.excluded["case_002"]
    warned = [
        f for f in Findings.load(outcome.workspace.findings).findings if "left out" in f.found
    ]
    assert [item.severity for item in warned] == ["warning"]
    assert make_plan(PlanOptions(**options)).plan == outcome.plan


def test_errors_about_the_whole_data_set_leave_nobody_out(tmp_path):
    root = write_spheres(tmp_path / "a", num_cases=4, seed=0, shape=SHAPE)
    for path in (root / "labelsTr").iterdir():
        write_labels(path, np.zeros(SHAPE, int), GEOMETRY)
    options = PlanOptions(dataset=root, workspace=tmp_path / "w", skip_broken=True)
    with pytest.raises(DatasetProblems, match="no foreground"):
        make_plan(options)


def test_a_missing_folder_is_an_error_and_no_finding(tmp_path):
    with pytest.raises(AutosegError, match="no folder"):
        check_dataset(CheckOptions(dataset=tmp_path / "nowhere"))
    with pytest.raises(AutosegError, match="no folder"):
        check_listing(CheckOptions(dataset=tmp_path / "nowhere"))


def headers(root):
    return check_listing(CheckOptions(dataset=root)).findings


def test_headers_of_sound_files_are_sound(root):
    assert headers(root) == ()


def test_headers_tell_sizes_spacings_and_what_is_missing(root):
    write_labels(labels_of(root, "case_000"), np.ones((9, 12, 14), int), GEOMETRY)
    write_labels(labels_of(root, "case_001"), np.ones(SHAPE, int), Geometry((2.0, 1.0, 1.0)))
    labels_of(root, "case_002").unlink()
    image_of(root, "case_003").write_bytes(b"nothing")
    write_image(image_of(root, "case_004"), Image(np.ones((2, *SHAPE), np.float32), GEOMETRY))
    found = {item.case: (item.severity, item.found) for item in headers(root)}
    assert found["case_000"] == ("error", "shapes 10 x 12 x 14 and 9 x 12 x 14")
    assert found["case_001"] == ("error", "spacings 1 x 1 x 1 and 2 x 1 x 1")
    assert "no labels" in found["case_002"][1]
    assert "cannot be read" in found["case_003"][1]
    assert found["case_004"] == ("error", "2 channels")


def listed(root, place, **spec):
    place.write_text(DatasetSpec(**spec).to_json())
    return check_listing(CheckOptions(dataset=root, spec=place)).findings


def test_headers_are_compared_as_the_spec_has_them_read(root, tmp_path):
    write_labels(labels_of(root, "case_000"), np.ones((9, 12, 14), int), GEOMETRY)
    write_labels(labels_of(root, "case_001"), np.ones(SHAPE, int), Geometry((2.0, 1.0, 1.0)))
    assert listed(root, tmp_path / "a.json", fixes=("resample_labels",)) == ()
    (error,) = listed(root, tmp_path / "b.json", fixes=("copy_geometry",))
    assert error.case == "case_000"


def test_headers_of_masks_with_a_page_a_class_are_sound(tmp_path):
    root = write_rings(tmp_path / "a", num_cases=3, seed=0, shape=(20, 22), ending=".tif")
    pages = np.zeros((2, 20, 22), np.uint8)
    for path in (root / "masks").iterdir():
        write_labels(path, pages, Geometry((1.0,) * 3, unit="pixel"))
    dataset, _ = list_dataset(root, DatasetSpec(labels={"background": 0, "a": 1, "b": 2}), None)
    assert dataset is not None
    assert len(check_headers(dataset, lambda _: None)) == 3
    by_page = dataset.revised(reading=dataset.reading.revised(masks="channels"))
    assert check_headers(by_page, lambda _: None) == ()


def test_headers_tell_outliers(root):
    for index in range(5, 12):
        write_image(image_of(root, f"case_{index:03d}"), Image(np.ones((1, *SHAPE)), GEOMETRY))
        write_labels(labels_of(root, f"case_{index:03d}"), np.ones(SHAPE, int), GEOMETRY)
    far = Geometry((10.0, 1.0, 1.0))
    write_image(image_of(root, "case_011"), Image(np.ones((1, *SHAPE)), far))
    write_labels(labels_of(root, "case_011"), np.ones(SHAPE, int), far)
    assert [(item.found, item.files) for item in headers(root)] == [
        ("unusual spacing in 1 case", ("imagesTr/case_011_0000.nii.gz",)),
        ("unusual extent in 1 case", ("imagesTr/case_011_0000.nii.gz",)),
    ]


def test_headers_read_no_voxels(root):
    for path in [*(root / "imagesTr").iterdir(), *(root / "labelsTr").iterdir()]:
        path.write_bytes(path.read_bytes()[:-4])  # a wrong checksum is found at the end only
    assert headers(root) == ()


def test_hundreds_of_cases_are_listed_by_their_headers(tmp_path):
    root = tmp_path / "many"
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[1, 1, 1] = 1
    for index in range(300):
        image = Image(mask[None] + np.float32(index), GEOMETRY)
        write_image(root / "images" / f"{index:04d}.nii", image)
        write_labels(root / "labels" / f"{index:04d}.nii", mask, GEOMETRY)
    (root / "labels" / "0123.nii").unlink()
    done = []
    outcome = check_listing(CheckOptions(dataset=root), lambda *args: done.append(args))
    assert [item.case for item in outcome.findings] == ["0123"]
    assert outcome.dataset is not None
    assert len(outcome.dataset.cases) == 299
    assert len(done) == 299
    assert max(count for _, count, _ in done) == 299

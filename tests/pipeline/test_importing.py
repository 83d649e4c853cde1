import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFilter

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.open import open_dataset
from autoseg.dataset.spec import load_spec
from autoseg.errors import AutosegError, DatasetError, WorkspaceError
from autoseg.pipeline.import_facts import class_rows, facts, next_command, notices, unknown
from autoseg.pipeline.import_look import MAX_LOOKED_AT, Look, choose_cases, look_at
from autoseg.pipeline.importing import ImportOptions, are_alike, import_dataset
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.pipeline.proposals import unknown_layout
from autoseg.report import first_look
from autoseg.runtime.images import Geometry, write_labels
from autoseg.testing.format_contract import tree_hash
from autoseg.testing.layouts import (
    EXTRA_LAYOUTS,
    LAYOUTS,
    write_folders,
    write_nnunet,
    write_related_names,
)
from autoseg.testing.synthetic import write_rings

PICTURE = Geometry((1.0, 1.0), unit="pixel")
MAKERS = {**LAYOUTS, "related names": write_related_names, **EXTRA_LAYOUTS}
PACKAGES = {"zarr": "zarr", "dicom": "pydicom"}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    return root


@pytest.fixture
def take(folder, tmp_path, monkeypatch):
    """Return a function that imports the folder, with an empty picture: drawing takes long."""
    monkeypatch.setattr(first_look, "draw_cases", lambda dataset, cases, path: path.touch())
    return importer(folder, tmp_path)


@pytest.fixture
def take_and_draw(folder, tmp_path):
    """Return a function that imports the folder."""
    return importer(folder, tmp_path)


def importer(folder, tmp_path):
    def run(start=None, **changes):
        options = ImportOptions(dataset=folder, spec=tmp_path / "out.json", start=start)
        return import_dataset(replace(options, **changes))

    return run


def same_voxels(first, second):
    """Require that two data sets give the same images and classes."""
    for case, other in zip(first.cases, second.cases, strict=True):
        (image, classes), (image_2, classes_2) = read_case(first, case), read_case(second, other)
        np.testing.assert_array_equal(image.array, image_2.array)
        np.testing.assert_array_equal(classes, classes_2)


@pytest.mark.parametrize("name", MAKERS)
def test_the_spec_reads_the_folder_as_it_was_understood(name, folder, take):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    MAKERS[name](folder)
    before, found = tree_hash(folder), open_dataset(folder, None, None)
    imported = take()
    again = open_dataset(folder, load_spec(imported.spec_path), None)
    assert again.labels_declared
    assert are_alike(again, found)
    assert load_spec(imported.spec_path).labels is not None
    same_voxels(found, again)
    assert tree_hash(folder) == before


def test_smoothed_masks_get_a_threshold(folder, take):
    write_rings(folder, num_cases=3, seed=0, shape=(48, 48))
    for path in (folder / "masks").iterdir():
        y, x = np.ogrid[:48, :48]
        disc = (((y - 24) ** 2 + (x - 22) ** 2) < 300) * np.uint8(255)
        Pillow.fromarray(disc).filter(ImageFilter.GaussianBlur(0.5)).save(path)
    with pytest.raises(DatasetError, match="grey values"):
        open_dataset(folder, None, None)
    imported = take()
    assert imported.spec.threshold == 128
    assert imported.spec.labels == {"background": 0, "class_1": 1}
    assert dict(facts(imported))["masks"] == "a number for each class; foreground from 128 on"


def test_masks_in_colours_get_their_colours(folder, take):
    write_rings(folder, num_cases=3, seed=0, shape=(32, 32), num_classes=3)
    table = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 128]], np.uint8)
    for path in (folder / "masks").iterdir():
        Pillow.fromarray(table[np.asarray(Pillow.open(path))]).save(path)
    imported = take()
    assert set((imported.spec.labels or {}).values()) == {"#000000", "#ff0000", "#000080"}
    again = open_dataset(folder, load_spec(imported.spec_path), None)
    assert again == imported.dataset
    assert 'what the classes are called: rename them in "labels"' in unknown(imported)


def test_labels_on_another_grid_are_resampled(folder, take):
    write_nnunet(folder)
    path = folder / "labelsTr" / "ball_002.nii.gz"
    write_labels(path, np.ones((16, 12, 10), int), Geometry((1.5, 1.0, 1.5)))
    imported = take()
    assert imported.spec.fixes == ("resample_labels",)
    assert not [look for look in imported.looks if not look.class_voxels]


def test_what_the_user_declares_is_kept(folder, take):
    write_folders(folder)
    start = DatasetSpec(
        name="rings",
        task="Rings",
        labels={"background": 0, "red": 1, "blue": 2},
        group_by=r"ring_(\d)",
        exclude={"ring_4": "blurred"},
    )
    imported = take(start=start)
    spec = load_spec(imported.spec_path)
    assert spec.labels == start.labels
    assert (spec.name, spec.task, spec.group_by) == ("rings", "Rings", start.group_by)
    assert len(imported.dataset.cases) == 3
    assert dict(facts(imported))["excluded"] == "ring_4 (blurred)"


def test_the_table_says_what_was_understood(folder, take):
    write_nnunet(folder)
    imported = take()
    rows = dict(facts(imported))
    assert rows["layout"] == "nnunet: imagesTr/*.nii.gz with labelsTr/*.nii.gz"
    assert rows["cases"] == "4: ball_001, ball_002, ball_003, ball_004"
    assert rows["groups"] == "each case is its own"
    assert rows["channels"] == "2: T1, T2 (uint8)"
    assert rows["dimensions"] == "3D"
    assert rows["shape"] == "8 x 12 x 10 voxels"
    assert rows["spacing"] == "3 x 1 x 1.5 mm"
    assert rows["files"] == ".nii.gz"
    classes = class_rows(imported)
    assert [row[:2] for row in classes] == [("background", "0"), ("small", "1"), ("bright", "2")]
    assert sum(float(row[2].rstrip("%")) for row in classes) == pytest.approx(100, abs=0.01)
    assert classes[0][3] == "4 of 4"


def test_what_cannot_be_known_is_told(folder, take):
    write_rings(folder, num_cases=3, seed=0, shape=(24, 24))
    for path in (folder / "masks").iterdir():
        write_labels(path, 255 * (1 - np.asarray(Pillow.open(path)).astype(int)), PICTURE)
    lines = "\n".join(unknown(take()))
    for word in ('"labels"', '"channels"', '"group_by"', '"licence"', "is the background"):
        assert word in lines


def test_nothing_is_asked_that_is_declared(folder, take):
    write_folders(folder)
    start = DatasetSpec(
        task="Rings",
        source="made",
        licence="none",
        channels=("grey",),
        labels={"background": 0, "a": 1, "b": 2},
        group_by="(ring)",
    )
    assert unknown(take(start=start)) == []


def test_regions_are_shown_and_declared(folder, take):
    LAYOUTS["bids"](folder)
    imported = take()
    assert any(what.startswith("region ") for what, _ in facts(imported))
    assert any(isinstance(value, tuple) for value in (imported.spec.labels or {}).values())


def test_of_many_cases_some_are_looked_at(folder):
    write_folders(folder)
    dataset = open_dataset(folder, None, None)
    first = dataset.cases[0]
    many = tuple(first.revised(id=f"case{i}") for i in range(3 * MAX_LOOKED_AT))
    looks = look_at(dataset.revised(cases=many), lambda *_: None)
    assert len(looks) == MAX_LOOKED_AT
    assert looks[-1].case.id == many[-1].id


def test_the_pictured_cases_show_all_classes(folder):
    write_folders(folder)
    cases = open_dataset(folder, None, None).cases
    voxels = [(9, 0, 0), (9, 1, 0), (9, 1, 0), (9, 0, 1)]
    looks = [
        Look(case=case, class_voxels=counts) for case, counts in zip(cases, voxels, strict=True)
    ]
    assert [case.id for case in choose_cases(looks)] == ["ring_2", "ring_3", "ring_4"]
    assert len(choose_cases(looks[:2])) == 2


def test_the_picture_has_the_colours_of_the_classes_on_the_image(folder, take_and_draw):
    write_rings(folder, num_cases=3, seed=0, shape=(48, 48))
    imported = take_and_draw()
    colours = np.asarray(Pillow.open(imported.picture_path).convert("RGB")).astype(int)
    is_blue = colours[..., 2] > colours[..., 0] + 60
    third = colours.shape[1] // 3
    assert is_blue[:, third : 2 * third].sum() > 1000  # tinted
    assert is_blue[:-80, 2 * third :].any()  # outlined
    assert not is_blue[:-80, : third - 10].any()  # the image as it is


def test_files_that_exist_are_not_overwritten(folder, take, tmp_path):
    write_folders(folder)
    (tmp_path / "out.json").write_text("mine")
    with pytest.raises(WorkspaceError, match=r"out\.json exists"):
        take()
    assert (tmp_path / "out.json").read_text() == "mine"
    (tmp_path / "other.png").write_text("mine")
    with pytest.raises(WorkspaceError, match=r"other\.png exists"):
        take(spec=tmp_path / "new.json", picture=tmp_path / "other.png")
    assert not (tmp_path / "new.json").exists()
    assert take(overwrite=True).spec_path.read_text() != "mine"


def test_nothing_is_written_into_the_data_unasked(folder, take, monkeypatch):
    write_folders(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(WorkspaceError, match="would lie in the data set's folder"):
        take(spec=None)
    assert take(spec=folder / "named.json").spec_path.is_file()


def test_the_defaults_lie_in_the_current_directory(folder, take, monkeypatch, tmp_path):
    write_folders(folder)
    monkeypatch.chdir(tmp_path)
    imported = take(spec=None)
    assert (tmp_path / "data.json").is_file()
    assert (tmp_path / "data.png").is_file()
    assert imported.spec.name == "data"


def test_a_picture_of_an_unknown_kind_is_refused(folder, take_and_draw, tmp_path):
    write_folders(folder)
    with pytest.raises(AutosegError, match="--picture"):
        take_and_draw(picture=tmp_path / "picture.unknown")


def test_a_broken_case_is_left_out_and_told(folder, take):
    write_nnunet(folder)
    path = folder / "imagesTr" / "ball_002_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    imported = take()
    assert list(imported.spec.exclude or {}) == ["ball_002"]
    assert imported.left_out == ("ball_002",)
    (line,) = notices(imported)
    assert line.startswith(
        'left out by "exclude" in the spec, a plan would refuse 1 case: ball_002'
    )
    assert not imported.errors
    assert next_command(imported)[1] == "plan"
    assert len(json.loads(imported.spec_path.read_text())["labels"]) == 3


def nothing(*_):
    """Take what a listener is told."""


def coloured(path):
    Pillow.open(path).convert("RGB").save(path)


def test_one_case_with_other_channels_is_left_out_so_that_a_plan_can_be_made(
    folder, take, tmp_path
):
    write_rings(folder, num_cases=5, seed=0, shape=(32, 32))
    coloured(sorted((folder / "images").iterdir())[3])
    imported = take()
    assert len(imported.left_out) == 1
    outcome = make_plan(
        PlanOptions(dataset=folder, spec=imported.spec_path, workspace=tmp_path / "w")
    )
    assert len(outcome.dataset.cases) == 4


def test_of_many_cases_the_odd_ones_are_found_by_their_headers(folder, take):
    write_rings(folder, num_cases=MAX_LOOKED_AT + 10, seed=0, shape=(12, 12))
    paths = sorted((folder / "images").iterdir())
    looked_at = {look.case.images[0] for look in look_at(open_dataset(folder, None, None), nothing)}
    odd = next(path for path in paths if f"images/{path.name}" not in looked_at)
    coloured(odd)
    imported = take()
    assert imported.left_out == (odd.stem,)
    assert not imported.errors


def test_where_most_cases_are_wrong_the_errors_stay_and_a_check_comes_next(folder, take):
    write_rings(folder, num_cases=5, seed=0, shape=(32, 32))
    coloured(min((folder / "images").iterdir()))
    imported = take()
    assert len(imported.errors) == 4
    assert imported.spec.exclude is None
    assert next_command(imported)[1] == "check"


def test_an_official_split_that_leaks_is_an_error(folder, take):
    for part in ("train", "val"):
        write_rings(folder / part, num_cases=3, seed=0, shape=(32, 32))
    imported = take()
    assert any("fold 0" in error.found for error in imported.errors)
    assert next_command(imported)[1] == "check"


def test_what_is_put_right_is_told_with_its_cases(folder, take):
    write_nnunet(folder)
    path = folder / "labelsTr" / "ball_002.nii.gz"
    write_labels(path, np.ones((16, 12, 10), int), Geometry((1.5, 1.0, 1.5)))
    (line,) = notices(take())
    assert "labels on another grid are taken onto the image's (for 1: ball_002)" in line
    assert '{"fixes": ["resample_labels"]}' in line


def test_a_threshold_is_told_with_its_files(folder, take):
    write_rings(folder, num_cases=3, seed=0, shape=(48, 48))
    for path in (folder / "masks").iterdir():
        y, x = np.ogrid[:48, :48]
        disc = (((y - 24) ** 2 + (x - 22) ** 2) < 300) * np.uint8(255)
        Pillow.fromarray(disc).filter(ImageFilter.GaussianBlur(0.5)).save(path)
    (line,) = notices(take())
    assert "masks are cut at 128" in line


def test_signals_are_planned_next(folder, take):
    LAYOUTS["signals"](folder)
    imported = take()
    assert not imported.errors
    assert next_command(imported)[1] == "plan"


@pytest.mark.parametrize("name", ["out.png", "out"])
def test_a_spec_ends_in_json(folder, take, tmp_path, name):
    write_folders(folder)
    with pytest.raises(WorkspaceError, match=r"out\.json"):
        take(spec=tmp_path / name)
    assert not (tmp_path / name).exists()


def test_spec_and_picture_are_two_files(folder, take, tmp_path):
    write_folders(folder)
    with pytest.raises(WorkspaceError, match="for both"):
        take(spec=tmp_path / "a.json", picture=tmp_path / "." / "a.json")


def test_folders_left_aside_are_told(folder, take):
    write_folders(folder)
    (folder / "raw").mkdir()
    layout = dict(facts(take()))["layout"]
    assert layout == "folders: images/*.png with masks/*.png; not used: raw/"


def test_colours_are_shown_as_they_are_stored(folder, take):
    write_rings(folder, num_cases=3, seed=0, shape=(32, 32), num_classes=3)
    table = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 128]], np.uint8)
    for path in (folder / "masks").iterdir():
        Pillow.fromarray(table[np.asarray(Pillow.open(path))]).save(path)
    assert {row[1] for row in class_rows(take())} == {"#000000", "#ff0000", "#000080"}


# Folders that no format knows


def rename(folder, **names):
    for old, new in names.items():
        (folder / old).rename(folder / new)


def test_an_unknown_layout_is_described_by_patterns(folder):
    write_related_names(folder)
    rename(folder, images="exposures", **{"1st_manual": "truth"})
    error = unknown_layout(folder)
    assert "exposures/*_training.tif (4 files, 24 x 28)" in error.found
    assert "truth/*_manual1.gif (4 files, 24 x 28)" in error.found


def test_the_proposal_for_an_unknown_layout_can_be_applied(folder, take):
    write_related_names(folder)
    rename(folder, images="exposures", **{"1st_manual": "truth"})
    error = unknown_layout(folder)
    proposal = json.loads(error.fix[error.fix.index("{") :])
    assert proposal == {
        "images": ["exposures/{case}_training.tif"],
        "masks": "truth/{case}_manual1.gif",
    }
    imported = take()
    (doubt,) = imported.problems
    assert doubt.severity == "warning"
    assert "exposures/*_training.tif (4 files" in doubt.found
    assert '"masks": "truth/{case}_manual1.gif"' in doubt.remedy
    assert imported.spec.masks == "truth/{case}_manual1.gif"
    assert [case.id for case in imported.dataset.cases] == ["21", "22", "23", "24"]


def test_folders_of_patients_are_one_pattern(folder, take):
    for number in range(7):
        place = folder / "cohort" / f"p{number}" / "t1"
        place.mkdir(parents=True)
        write_labels(place / f"scan{number}.png", np.zeros((5, 6), int), PICTURE)
    (folder / "notes.txt").write_text("not an image")
    with pytest.raises(
        DatasetError,
        match=r"no masks found beside the 7 images[^$]*cohort/\*/t1/scan\*\.png \(7 files, 5 x 6\)",
    ):
        take()


def proposal_of(error):
    return json.loads(error.fix[error.fix.index("{") :])


def applied(take, proposal):
    return take(start=DatasetSpec.from_json(json.dumps(proposal), "proposal")).dataset


def pair(image, mask, index):
    """Write an image and its mask."""
    rng = np.random.default_rng(index)
    for path, array in ((image, rng.integers(0, 255, (16, 16))), (mask, np.eye(16) * 255)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(array.astype(np.uint8)).save(path)


@pytest.mark.parametrize("names", ["unique", "shared"])
def test_folders_of_a_split_inside_those_of_images_and_masks(folder, take, names):
    for place, part in enumerate(("train", "train", "val", "val")):
        name = f"{place if names == 'unique' else place % 2}.png"
        pair(folder / "photos" / part / name, folder / "masks" / part / name, place)
    error = unknown_layout(folder)
    proposal = proposal_of(error)
    assert proposal == {
        "images": ["photos/{split}/{case}.png"],
        "masks": "masks/{split}/{case}.png",
    }
    cases = applied(take, proposal).cases
    assert [case.split for case in cases] == ["train", "train", "val", "val"]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{group}/images/{case}.png", "{group}/masks/{case}.png"),
        ("images/{group}/{case}.png", "masks/{group}/{case}.png"),
        ("{group}/images/{group}_{case}.png", "{group}/masks/{group}_{case}_mask.png"),
    ],
)
@pytest.mark.parametrize("num_groups", [2, 8])
def test_folders_of_patients_that_repeat_names(folder, take, image, mask, num_groups):
    for place in range(2 * num_groups):
        at = {"group": f"P{place // 2:02}", "case": str(place % 2)}
        pair(folder / image.format(**at), folder / mask.format(**at), place)
    error = unknown_layout(folder)
    proposal = proposal_of(error)
    assert proposal == {"images": [image], "masks": mask}
    cases = applied(take, proposal).cases
    assert [case.group for case in cases] == [f"P{i // 2:02}" for i in range(2 * num_groups)]


def test_a_table_of_another_name_is_proposed(folder, take):
    for index in range(3):
        pair(folder / "a" / f"{index}.png", folder / "b" / f"{index}.png", index)
    rows = "".join(f"a/{index}.png,b/{index}.png\n" for index in range(3))
    (folder / "data.csv").write_text(f"image,label\n{rows}")
    error = unknown_layout(folder)
    assert error.found.startswith('data.csv looks like a table of cases: declare "table"')
    assert proposal_of(error) == {"table": "data.csv"}
    assert len(applied(take, {"table": "data.csv"}).cases) == 3


def test_two_folders_of_masks_are_the_first_thing_told(folder, take):
    for index in range(3):
        for observer in ("1", "2"):
            mask = folder / f"masks_observer{observer}" / f"{index}.png"
            pair(folder / "images" / f"{index}.png", mask, index)
    error = unknown_layout(folder)
    first = 'two mask folders: masks_observer1, masks_observer2: choose one with "masks"'
    assert error.found.splitlines()[0] == first
    assert proposal_of(error)["masks"] == "masks_observer1/{case}.png"


def test_a_folder_of_the_same_names_may_be_masks(folder, take):
    for index in range(3):
        name = f"case_{index}.png"
        pair(folder / "images" / name, folder / "drawn" / name, index)
    error = unknown_layout(folder)
    assert error.found.startswith("nothing is named like masks; drawn/case_*.png may be")
    proposal = proposal_of(error)
    assert proposal == {"images": ["images/{case}.png"], "masks": "drawn/{case}.png"}
    assert [case.id for case in applied(take, proposal).cases] == ["case_0", "case_1", "case_2"]


def test_a_doubt_between_folders_of_labels_is_told_and_the_first_one_proposed(folder, take):
    for index in range(3):
        for masks in ("masks", "labels"):
            pair(folder / "images" / f"{index}.png", folder / masks / f"{index}.png", index)
    imported = take()
    (doubt,) = imported.problems
    assert "labels/ and masks/" in doubt.found
    assert imported.spec.masks == "labels"
    assert next_command(imported)[1] == "plan"


def test_files_that_do_not_pair_are_listed_and_left_out_of_the_spec(folder, take):
    for index in range(1, 9):
        pair(folder / "images" / f"c_{index:03}.png", folder / "masks" / f"c_{index:03}.png", index)
    (folder / "masks" / "c_002.png").rename(folder / "masks" / "c_2.png")
    (folder / "masks" / "c_005.png").unlink()
    imported = take()
    remedies = {finding.case: finding.remedy for finding in imported.problems}
    assert remedies["c_002"].startswith("rename masks/c_2.png to c_002.png")
    assert set(remedies) == {"c_002", "c_005"} == {*(imported.spec.exclude or {})}
    assert imported.left_out == ("c_002", "c_005")
    assert len(open_dataset(folder, load_spec(imported.spec_path), None).cases) == 6
    assert "once their files are mended" in notices(imported)[-1]


def test_masks_in_colours_of_which_one_is_misnamed_are_understood(folder, take):
    for index in range(1, 6):
        name = f"s{index}.png"
        pair(folder / "images" / name, folder / "masks" / name, index)
        colours = np.zeros((16, 16, 3), np.uint8)
        colours[4:9, index:9] = (128, 0, 64)
        Pillow.fromarray(colours).save(folder / "masks" / name)
    (folder / "masks" / "s3.png").rename(folder / "masks" / "S03.png")
    imported = take()
    assert imported.left_out == ("s3",)
    assert "#800040" in (imported.spec.labels or {}).values()


def test_a_folder_in_which_nothing_pairs_is_refused_with_all_problems(folder, take, tmp_path):
    for name in ("cat", "dog"):
        pair(folder / "images" / f"{name}.png", folder / "masks" / f"x{name}z.png", 0)
    (folder / "masks" / "xcatz.png").rename(folder / "masks" / "bird.png")
    (folder / "masks" / "xdogz.png").rename(folder / "masks" / "fish.png")
    with pytest.raises(DatasetError, match="4 problems"):
        take()
    assert not (tmp_path / "out.json").exists()


def test_images_without_masks_are_the_first_thing_told(folder, take):
    write_rings(folder, num_cases=10, seed=0, shape=(16, 16))
    shutil.rmtree(folder / "masks")
    with pytest.raises(DatasetError) as caught:
        take()
    assert caught.value.found.startswith("no masks found beside the 10 images\n")
    assert "\n" not in caught.value.expected


def test_an_empty_folder_and_none_at_all_are_told(folder, take):
    with pytest.raises(DatasetError, match="no file that may be an image"):
        take()
    with pytest.raises(DatasetError, match="no folder"):
        take(dataset=folder / "absent")


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("hippocampus", "nnunet"),
        ("acdc", "folders"),
        ("isbi2012", "folders"),
        ("drive", "folders"),
        ("gm_challenge", "bids"),
        pytest.param("dsb2018", "instances", marks=pytest.mark.slow),
        ("magnetic_tile", "class_folders"),
    ],
)
def test_real_data_sets_are_understood(data, take, name, layout):
    imported = take(dataset=data / name)
    assert imported.dataset.layout == layout
    assert not [look for look in imported.looks if not look.class_voxels]
    again = open_dataset(data / name, load_spec(imported.spec_path), None)
    assert are_alike(again, imported.dataset)

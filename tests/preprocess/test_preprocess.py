import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from autoseg.errors import AutosegError, DatasetError, WorkspaceError
from autoseg.preprocess import preprocess as module
from autoseg.preprocess.preprocess import draw_locations, preprocess
from autoseg.preprocess.store import CaseStore
from autoseg.runtime.prepare import Placement
from autoseg.runtime.restore import restore_labels
from autoseg.workspace import Workspace

BOTH = ("2d", "3d_fullres")


def run(dataset, plan, workspace, configurations=BOTH, num_workers=2):
    done = []
    preprocess(
        dataset,
        plan,
        workspace,
        configurations,
        num_workers=num_workers,
        on_case=lambda configuration, case_id: done.append((configuration, case_id)),
    )
    return done


def prepared(store):
    return {path.stem for path in store.folder.glob("*.json")}


def files(workspace):
    return {p: p.stat().st_mtime_ns for p in workspace.root.rglob("*") if p.is_file()}


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "boxes.autoseg")


def test_every_case_is_prepared_for_every_configuration(
    make_dataset, make_plan, workspace, tmp_path
):
    done = run(make_dataset(tmp_path / "data"), make_plan(), workspace)
    assert sorted(done) == sorted((name, case_id) for name in BOTH for case_id in "abc")
    for name in BOTH:
        store = CaseStore(workspace.preprocessed(name))
        assert prepared(store) == {"a", "b", "c"}
        image, labels = store.image("b")[:], store.labels("b")[:]
        assert image.dtype == np.float16
        assert labels.dtype == np.int8
        assert image.shape == (1, *labels.shape) == store.info("b").shape
        assert image.astype(np.float32).std() == pytest.approx(1, abs=0.01)
        assert set(np.unique(labels)) == {-1, 0, 1, 2}


def test_labels_come_back_to_the_grid_and_values_of_the_file(
    make_dataset, make_plan, workspace, tmp_path
):
    dataset = make_dataset(tmp_path / "data")
    run(dataset, make_plan(), workspace)
    store = CaseStore(workspace.preprocessed("3d_fullres"))
    classes = store.labels("a")[:]
    logits = (np.arange(3).reshape(-1, 1, 1, 1) == classes).astype(np.float32)
    restored = restore_labels(logits, Placement.from_dict(store.info("a").placement))
    _, expected = module.read_case(dataset, dataset.cases[0])
    np.testing.assert_array_equal(restored, np.maximum(expected, 0))


def test_resampled_arrays_follow_the_target_spacing(make_dataset, make_plan, workspace, tmp_path):
    run(make_dataset(tmp_path / "data"), make_plan(spacing=(1.0, 2.0, 2.0)), workspace)
    assert CaseStore(workspace.preprocessed("3d_fullres")).info("a").shape == (1, 24, 10, 9)
    assert CaseStore(workspace.preprocessed("2d")).info("a").shape == (1, 12, 10, 9)
    assert CaseStore(workspace.preprocessed("2d")).info("a").spacing == (2.0, 2.0, 2.0)


def test_equal_arrays_are_stored_once(make_dataset, make_plan, workspace, tmp_path):
    run(make_dataset(tmp_path / "data"), make_plan(), workspace)
    first, second = (workspace.preprocessed(name) / "a.b2nd" for name in BOTH)
    assert first.samefile(second)


def test_different_arrays_are_not_shared(make_dataset, make_plan, workspace, tmp_path):
    run(make_dataset(tmp_path / "data"), make_plan(spacing=(1.0, 1.0, 1.0)), workspace)
    first, second = (CaseStore(workspace.preprocessed(name)) for name in BOTH)
    assert first.info("a").shape != second.info("a").shape


def test_second_run_does_nothing(make_dataset, make_plan, workspace, tmp_path, monkeypatch):
    dataset, plan = make_dataset(tmp_path / "data"), make_plan()
    run(dataset, plan, workspace)
    before = files(workspace)
    monkeypatch.setattr(module, "read_case", None)
    assert len(run(dataset, plan, workspace)) == 6
    assert files(workspace) == before


def test_interrupted_run_is_continued(make_dataset, make_plan, workspace, tmp_path):
    dataset, plan = make_dataset(tmp_path / "data"), make_plan()
    run(dataset, plan, workspace)
    before = files(workspace)
    (workspace.preprocessed("3d_fullres") / "b.json").unlink()
    (workspace.preprocessed("2d") / "b.json").unlink()
    run(dataset, plan, workspace)
    after = files(workspace)
    changed = {path.name.split(".")[0] for path in before if after[path] != before[path]}
    assert changed == {"b"}


def test_changed_file_is_prepared_again(make_dataset, make_plan, workspace, tmp_path):
    run(make_dataset(tmp_path / "data"), make_plan(), workspace)
    store = CaseStore(workspace.preprocessed("2d"))
    old = store.info("a").source_hash
    run(make_dataset(tmp_path / "data", spacing=(2.0, 1.5, 1.0)), make_plan(), workspace)
    info = CaseStore(workspace.preprocessed("2d")).info("a")
    assert info.source_hash != old
    assert info.shape == (1, 12, 30, 18)


def test_changed_recipe_is_prepared_again_and_a_changed_patch_is_not(
    make_dataset, make_plan, workspace, tmp_path
):
    dataset = make_dataset(tmp_path / "data")
    run(dataset, make_plan(), workspace)
    before = files(workspace)
    same = make_plan()
    patched = tuple(c.revised(batch_size=9) for c in same.configurations)
    run(dataset, same.revised(configurations=patched), workspace)
    assert files(workspace) == before
    run(dataset, make_plan(seed=1), workspace)
    after = files(workspace)
    assert all(after[path] != before[path] for path in before)


def test_prepared_files_do_not_depend_on_the_number_of_workers(make_dataset, make_plan, tmp_path):
    dataset = make_dataset(tmp_path / "data")
    contents = []
    for workers in (1, 3):
        workspace = Workspace(tmp_path / f"{workers}.autoseg")
        run(dataset, make_plan(spacing=(1.3, 0.9, 1.0)), workspace, num_workers=workers)
        paths = sorted(workspace.root.rglob("*.*"))
        contents.append([(p.name, p.read_bytes()) for p in paths if p.is_file()])
    assert contents[0] == contents[1]


def test_broken_case_is_named_and_the_others_stay(make_dataset, make_plan, workspace, tmp_path):
    dataset = make_dataset(tmp_path / "data")
    path = tmp_path / "data/images/2.nii.gz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DatasetError, match=r"2\.nii\.gz"):
        run(dataset, make_plan(), workspace, num_workers=1)
    assert prepared(CaseStore(workspace.preprocessed("2d"))) == {"a", "b"}


def test_case_that_does_not_fit_into_memory_is_named(
    make_dataset, make_plan, workspace, tmp_path, monkeypatch
):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(module, "prepare", fail)
    with pytest.raises(AutosegError, match="case a does not fit"):
        run(make_dataset(tmp_path / "data", ("a",)), make_plan(), workspace)


def test_unexpected_error_names_its_case(make_dataset, make_plan, workspace, tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(module, "prepare", fail)
    with pytest.raises(ZeroDivisionError) as caught:
        run(make_dataset(tmp_path / "data", ("a",)), make_plan(), workspace)
    assert caught.value.__notes__ == ["while preparing case a"]


def test_workspace_that_cannot_be_written_is_told(make_dataset, make_plan, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError):
        run(make_dataset(tmp_path / "data", ("a",)), make_plan(), Workspace(tmp_path / "file"))


def test_little_memory_means_one_case_at_a_time(
    make_dataset, make_plan, workspace, tmp_path, monkeypatch
):
    at_once, most, lock = 0, 0, threading.Lock()
    read, write = module.read_case, module._write_all

    def slow_read(*arguments):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        return read(*arguments)

    def counted_write(*arguments):
        nonlocal at_once
        write(*arguments)
        with lock:
            at_once -= 1

    monkeypatch.setattr(module, "read_case", slow_read)
    monkeypatch.setattr(module, "_write_all", counted_write)
    dataset = make_dataset(tmp_path / "data")
    # Room for three cases of the planned median shape, but not for two of these.
    little = module.PROGRAM_BYTES + 250_000
    run(dataset, make_plan(ram_bytes=little), workspace, num_workers=3)
    assert most == 1
    run(dataset, make_plan(seed=1), workspace, num_workers=3)
    assert most > 1


@pytest.mark.parametrize("ignored", [True, False])
def test_locations_are_voxels_of_their_class(ignored):
    labels = np.random.default_rng(0).integers(-1, 3, (30, 40, 50)).astype(np.int8)
    groups = draw_locations(labels, 4, np.random.default_rng(0), ignored=ignored)
    assert len(groups) == 4
    assert [len(group) for group in groups] == [10_000 * ignored, 10_000, 10_000, 0]
    for value in (1, 2):
        assert (labels.reshape(-1)[groups[value]] == value).all()
        assert (np.diff(groups[value]) > 0).all()
    assert (labels.reshape(-1)[groups[0]] >= 0).all()


def test_all_voxels_of_a_small_class_are_kept():
    labels = np.zeros((20, 20), dtype=np.int8)
    labels[3, 4:9] = 1
    groups = draw_locations(labels, 2, np.random.default_rng(0), ignored=False)
    assert groups[1].tolist() == [64, 65, 66, 67, 68]
    assert groups[1].dtype == np.int32


def test_mask_and_order_reach_the_stored_array(make_dataset, make_plan, workspace, tmp_path):
    plan = make_plan()
    changed = []
    for configuration in plan.configurations:
        channels = (replace(configuration.recipe.channels[0], mean=100.0, std=50.0, scheme="ct"),)
        recipe = replace(configuration.recipe, channels=channels, order="normalise-resample")
        changed.append(configuration.revised(recipe=recipe))
    run(
        make_dataset(tmp_path / "data", ("a",)),
        plan.revised(configurations=tuple(changed)),
        workspace,
    )
    store = CaseStore(workspace.preprocessed("3d_fullres"))
    assert store.info("a").mean == (0.0,)
    inner = store.image("a")[:].astype(np.float32)[0][store.labels("a")[:] == 2]
    assert inner.mean() == pytest.approx(0.4, abs=0.02)

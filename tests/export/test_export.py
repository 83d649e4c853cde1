"""From trained folds to an artifact that runs."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from autoseg.ensemble.tried import Tried
from autoseg.errors import ExportError
from autoseg.export import export as exporting
from autoseg.export.backend import find_artifact, open_model
from autoseg.export.bundle import recover
from autoseg.export.export import export_model
from autoseg.runtime.images import read_image
from autoseg.runtime.manifest import load_manifest
from autoseg.runtime.model import Model
from autoseg.runtime.recipe import SmallestObject
from autoseg.train.records import FoldResult


def export(trained, **options):
    return export_model(
        trained.plan,
        trained.dataset,
        trained.workspace,
        trained.ensemble,
        trained.postprocessing,
        **options,
    )


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def files_that_name(place, folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in paths if place.encode() in path.read_bytes()]


@pytest.mark.slow
def test_an_artifact_runs_everywhere_and_gives_what_training_gives(trained, tmp_path):
    summary = export(trained)
    model = trained.workspace.model
    (item,) = load_manifest(model).configurations
    assert item.spatial == "dynamic"
    assert {check.backend for check in item.parity} >= {"onnx", "torch"}
    assert summary.label_agreement >= 0.995
    assert not summary.has_real_images
    image = read_image(trained.dataset.image_paths(trained.dataset.cases[0]))
    for path in (trained.workspace.root, model, trained.workspace.model_zip):
        with find_artifact(path) as folder:
            for backend in ("onnx", "torch"):
                opened, used = open_model(folder, backend, device="cpu", inputs=[])
                assert used.startswith(backend)
                assert set(np.unique(opened.predict_image(image).labels)) <= {0, 5, 300}
    out = tmp_path / "out"
    run = [sys.executable, model / "predict.py", trained.dataset.root / "images", out]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert names_in(out) == ["<script>.nii.gz", "Fall ä 1.nii.gz", "c.nii.gz"]
    here = str(exporting.__file__).split("autoseg")[0]
    assert files_that_name(here, model) == []
    assert files_that_name(str(trained.workspace.root), model) == []
    assert files_that_name(str(trained.dataset.root), model) == []


@pytest.mark.slow
def test_two_configurations_and_a_real_case_travel_together(trained, train_more):
    both = train_more({"2d": 0.25, "3d_fullres": 0.75})
    for fold in ("0", "1"):  # as if it had been trained on all cases
        path = trained.workspace.fold("2d", fold).result
        path.write_text(FoldResult.load(path).revised(scores=()).to_json(), encoding="utf-8")
    summary = export(both, verification_case="<script>")
    assert summary.has_real_images
    model = Model(trained.workspace.model)
    assert model.manifest.verification is not None
    assert model.manifest.verification.kind == "real"
    checked = [{check.cases for check in item.parity} for item in model.manifest.configurations]
    assert checked == [{"training"}, {"validation"}]
    card = (trained.workspace.model / "model_card.md").read_text(encoding="utf-8")
    assert "`2d` with the training framework on real training cases" in card
    assert "a real image of the data set" in card
    assert [item.weight for item in model.manifest.configurations] == [0.25, 0.75]
    agreement = model.verify()
    assert agreement is not None
    assert agreement >= 0.999
    text = (trained.workspace.model / "manifest.json").read_text(encoding="utf-8")
    assert "<script>" not in text


def fail(error):
    def refuse(*_):
        raise error

    return refuse


@pytest.mark.parametrize(
    "error",
    [
        ExportError(found="they disagree", expected="agreement", fix="none"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_failed_export_leaves_the_old_model_as_it_was(trained, monkeypatch, error):
    workspace = trained.workspace
    workspace.model.mkdir(parents=True)
    (workspace.model / "old").write_bytes(b"1")
    workspace.model_zip.write_bytes(b"2")
    before = names_in(workspace.root)
    monkeypatch.setattr(exporting, "_write_networks", fail(error))
    with pytest.raises(ExportError, match=r"disagree|No space left"):
        export(trained)
    assert names_in(workspace.root) == before
    assert (workspace.model / "old").read_bytes() == b"1"


def test_an_export_killed_while_it_moved_is_undone(trained):
    workspace = trained.workspace
    (workspace.root / ".model.old").mkdir()
    (workspace.root / ".model.old" / "old").write_bytes(b"1")
    (workspace.root / ".model.12345678.tmp").mkdir()
    (workspace.root / ".model.12345678.tmp.zip").write_bytes(b"3")
    recover(workspace)
    assert (workspace.model / "old").read_bytes() == b"1"
    assert not list(workspace.root.glob(".model*"))


def test_a_missing_fold_is_named(trained):
    trained.workspace.fold("3d_fullres", "1").final.unlink()
    with pytest.raises(Exception, match="fold_1"):
        export(trained)


def test_an_unknown_verification_case_is_refused(trained, tmp_path):
    from autoseg.export.verification import write_image_files

    with pytest.raises(ExportError, match="none of them"):
        write_image_files(
            tmp_path,
            trained.dataset,
            "none of them",
            plan=trained.plan,
            configuration=trained.plan.configurations[0],
        )


def card_of(trained, name="made up", postprocessing=None):
    from autoseg.export.card import model_card
    from autoseg.export.members import load_sources

    sources = load_sources(
        trained.plan,
        trained.dataset,
        trained.workspace,
        trained.ensemble,
        trained.postprocessing,
    )
    return model_card(
        replace(exporting._describe(sources), name=name),
        trained.plan,
        num_cases=3,
        fingerprint=sources.fingerprint,
        ensemble=trained.ensemble,
        postprocessing=postprocessing or trained.postprocessing,
    )


def test_the_card_escapes_names(trained):
    card = card_of(trained, name="<b>|x")
    assert "# \\<b\\>\\|x" in card
    assert "| small | 300 |" in card


def test_the_card_gives_the_dice_with_and_without_post_processing(trained):
    choice = trained.postprocessing.revised(dice=0.81, dice_cross_fitted=0.83)
    assert "with it 0.8300 (cross-fitted" in card_of(trained, postprocessing=choice)
    card = card_of(trained, postprocessing=choice.revised(steps=()))
    assert "Post-processing: made up" in card
    assert "cross-fitted" not in card


def test_what_was_chosen_after_training_reaches_manifest_and_card(trained):
    from autoseg.export.members import load_sources

    tried = Tried(
        name="thresholds",
        planned="as planned",
        best="large +0.5",
        num_cases=12,
        used=True,
        reason="It helps.",
    )
    smallest = (SmallestObject(class_index=1, size=4.0),)
    choice = trained.postprocessing.revised(
        offsets=(0.0, 0.5, 0.0), smallest=smallest, tried=(tried, tried.revised(used=False))
    )
    sources = load_sources(
        trained.plan, trained.dataset, trained.workspace, trained.ensemble, choice
    )
    manifest = exporting._describe(sources)
    assert (manifest.offsets, manifest.smallest) == ((0.0, 0.5, 0.0), smallest)
    assert card_of(trained, postprocessing=choice).count("Thresholds: large +0.5. It helps.") == 1


@pytest.mark.slow
def test_an_artifact_predicts_with_the_tiles_and_mirroring_that_were_chosen(trained):
    planned = trained.plan.configuration("3d_fullres").recipe
    (member,) = trained.ensemble.members
    changed = not planned.test_time_mirroring
    member = member.revised(overlap=0.25, test_time_mirroring=changed)
    told = Tried(
        name="tile overlap",
        planned="0.5",
        best="0.25",
        num_cases=9,
        used=True,
        reason="It is as good.",
    )
    ensemble = trained.ensemble.revised(members=(member,), tried=(told,))
    export(replace(trained, ensemble=ensemble))
    manifest = load_manifest(trained.workspace.model)
    (item,) = manifest.configurations
    assert item.recipe == replace(planned, overlap=0.25, test_time_mirroring=changed)
    assert manifest.plan_digest == trained.plan.digest()
    card = (trained.workspace.model / "model_card.md").read_text(encoding="utf-8")
    assert "Tile overlap: 0.25. It is as good." in card

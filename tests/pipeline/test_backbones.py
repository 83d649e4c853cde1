"""Settings that ask for pretrained encoders; the encoder is made by hand, timm is not needed."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from autoseg.errors import AutosegError
from autoseg.network import pretrained
from autoseg.network.build import build_network
from autoseg.network.weight_files import load_kept
from autoseg.pipeline.backbones import apply_settings
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.pipeline.training import TrainOptions, prepare_workspace, train_model
from autoseg.plan.registry import load_planner
from autoseg.runtime.errors import AutosegError as RuntimeRefusal
from autoseg.runtime.images import Geometry, Image
from autoseg.runtime.model import Model
from autoseg.testing.fingerprints import fingerprint_of, request_of
from autoseg.testing.synthetic import write_rings
from autoseg.train.checkpoint import load_weights
from autoseg.train.fold import train_fold
from autoseg.train.job import FoldJob, Interrupted
from autoseg.workspace import Workspace

ASKED = ("2d.network.backbone=tiny", "2d.network.weights=none")


class Tiny(nn.Module):
    """Two stages with batch norm, in the form of timm's extractors."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 2, 2), nn.BatchNorm2d(4))
        self.second = nn.Conv2d(4, 8, 2, 2)
        self.feature_info = SimpleNamespace(channels=lambda: [4, 8], reduction=lambda: [2, 4])
        self.pretrained_cfg = {
            "architecture": "tiny",
            "tag": "x1",
            "mean": (0.4, 0.5, 0.6),
            "std": (0.2, 0.2, 0.2),
        }

    def forward(self, x):
        first = self.first(x)
        return [first, self.second(first)]


@pytest.fixture(scope="module")
def fingerprint():
    return fingerprint_of([(36, 200, 180)] * 40)


@pytest.fixture(scope="module")
def plan(fingerprint):
    return load_planner("nnunet")(request_of(fingerprint))


@pytest.fixture
def weights(monkeypatch):
    """Weights of an encoder that can be found without timm."""
    torch.manual_seed(0)
    module = Tiny()

    def find(model, source, in_channels):
        return pretrained.measured(module, model, in_channels, is_pretrained=source != "none")

    monkeypatch.setattr(pretrained, "find_extractor", find)
    monkeypatch.setattr(pretrained, "planned_extractor", lambda *_: Tiny())
    return module.state_dict()


def test_weights_are_kept_in_the_workspace(plan, fingerprint, weights, tmp_path):
    workspace = Workspace(tmp_path)
    changed = apply_settings(plan, ["2d.network.backbone=tiny"], fingerprint, workspace)
    backbone = changed.configuration("2d").network.backbone
    assert backbone is not None
    assert backbone.weights is not None
    assert (backbone.model, backbone.mean, backbone.frozen_norm) == ("tiny.x1", (0.5,), True)
    kept = load_kept(workspace.encoder_weights(backbone.weights), backbone)
    assert all(torch.equal(kept[name], weights[name]) for name in weights)


def test_the_same_settings_give_the_same_plan(plan, fingerprint, weights, tmp_path):
    first, again = (
        apply_settings(plan, ["2d.network.backbone=tiny"], fingerprint, Workspace(tmp_path / name))
        for name in ("a", "b")
    )
    assert first == again


def test_without_a_workspace_nothing_is_written(plan, fingerprint, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    apply_settings(plan, ["2d.network.backbone=tiny"], fingerprint)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_without_weights_learns_its_batch_norm(plan, fingerprint, weights, tmp_path):
    changed = apply_settings(plan, ASKED, fingerprint, Workspace(tmp_path))
    backbone = changed.configuration("2d").network.backbone
    assert backbone is not None
    assert (backbone.weights, backbone.frozen_norm) == (None, False)
    assert list(tmp_path.iterdir()) == []


def test_other_settings_come_on_top(plan, fingerprint, weights, tmp_path):
    assignments = [*ASKED, "2d.patch_size=64,96", "2d.network.decoder=attention"]
    flat = apply_settings(plan, assignments, fingerprint).configuration("2d")
    assert (flat.patch_size, flat.network.decoder) == ((64, 96), "attention")
    with pytest.raises(AutosegError, match="not divisible"):
        apply_settings(plan, [*ASKED, "2d.patch_size=63,96"], fingerprint)


def test_settings_without_an_encoder_load_no_torch():
    code = (
        "import sys\n"
        "from autoseg.pipeline.backbones import apply_settings\n"
        "from autoseg.plan.registry import load_planner\n"
        "from autoseg.testing.fingerprints import fingerprint_of, request_of\n"
        "fingerprint = fingerprint_of([(36, 200, 180)] * 40)\n"
        "plan = load_planner('nnunet')(request_of(fingerprint))\n"
        "apply_settings(plan, ['2d.batch_size=4'], fingerprint)\n"
        "print('torch' in sys.modules, 'timm' in sys.modules)\n"
    )
    run = [sys.executable, "-c", code]
    shown = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["False", "False"]


def test_without_timm_the_message_says_what_to_install(plan, fingerprint, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(AutosegError, match="timm cannot be imported") as caught:
        apply_settings(plan, ["2d.network.backbone=resnet34"], fingerprint)
    assert "pip install 'autoseg-unet[pretrained]'" in caught.value.fix


def test_a_trained_plan_says_so_too(plan, fingerprint, weights, monkeypatch):
    flat = apply_settings(plan, ASKED, fingerprint).configuration("2d")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(AutosegError, match="timm cannot be imported"):
        build_network(flat.network)


@pytest.fixture
def planned(weights, tmp_path):
    """A few grey pictures, planned with the encoder."""
    data = write_rings(tmp_path / "rings", num_cases=4, seed=0)
    options = PlanOptions(
        dataset=data,
        workspace=tmp_path / "r.autoseg",
        planner="nnunet",
        device="cpu",
        num_folds=2,
        overrides=("2d.network.backbone=tiny", "2d.patch_size=32,32", "num_threads=1"),
    )
    return make_plan(options)


def job_of(planned, num_steps):
    ids = tuple(case.id for case in planned.dataset.cases)
    return FoldJob(
        plan=planned.plan,
        dataset=planned.dataset,
        root=planned.workspace.root,
        configuration="2d",
        fold="0",
        train_cases=ids[2:],
        val_cases=ids[:1],
        device="cpu",
        num_threads=1,
        num_steps=num_steps,
    )


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_fold_starts_from_the_weights_and_goes_on_without_them(planned, weights):
    prepare_workspace(planned.workspace, ["2d"], lambda _: None)
    job, steps = job_of(planned, 3), []
    path = job.encoder_weights
    assert path is not None

    def should_stop():
        steps.append(1)
        return len(steps) >= 2

    with pytest.raises(Interrupted):
        train_fold(job, lambda _: None, should_stop)
    path.unlink()
    train_fold(job, lambda _: None, lambda: False)
    digest = planned.plan.digest()
    found, _ = load_weights(job.folder.final, digest)
    learnt = {key.removeprefix("backbone.extractor."): item for key, item in found.items()}
    for name, tensor in weights.items():
        if name.startswith("first.1"):  # frozen batch norm, but for the counter of batches
            torch.testing.assert_close(learnt[name], tensor)
    assert not torch.equal(learnt["second.weight"], weights["second.weight"])
    # Three steps from the weights that were planned, not from others.
    torch.testing.assert_close(learnt["second.weight"], weights["second.weight"], atol=0.2, rtol=0)


@pytest.mark.usefixtures("one_thread")
def test_a_fold_without_its_weights_says_how_to_get_them(planned):
    prepare_workspace(planned.workspace, ["2d"], lambda _: None)
    job = job_of(planned, 3)
    assert job.encoder_weights is not None
    job.encoder_weights.unlink()
    with pytest.raises(AutosegError, match="no file") as caught:
        train_fold(job, lambda _: None, lambda: False)
    assert "autoseg plan" in caught.value.fix


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_exported_model_normalises_as_the_weights_ask_and_needs_no_timm(planned, monkeypatch):
    train_model(TrainOptions(workspace=planned.workspace, steps=2, folds=("0",)))
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "timm", None)
    model = Model(planned.workspace.model)
    (configuration,) = model.manifest.configurations
    (channel,) = configuration.recipe.channels
    assert (channel.scheme, channel.mean, channel.std) == ("pretrained", 0.5, 0.2)
    assert configuration.input == "raw"
    assert all(item.label_agreement > 0.99 for item in configuration.parity)
    grey = np.full((1, 40, 48), 128, np.uint8)
    (part,) = model.prepare(Image(grey, Geometry((1.0, 1.0))))
    assert part.mean == pytest.approx(0.5 * 255)
    assert part.std == pytest.approx(0.2 * 255)
    with pytest.raises(RuntimeRefusal, match="values up to"):
        model.prepare(Image(grey / np.float32(255), Geometry((1.0, 1.0))))

"""Pretrained encoders that nobody asked for; timm and its weights are not needed."""

from types import SimpleNamespace

import pytest
from torch import nn

from autoseg.errors import AutosegError
from autoseg.network import pretrained
from autoseg.network.weight_files import load_kept
from autoseg.pipeline import backbones
from autoseg.pipeline.backbones import encoder_at_hand
from autoseg.testing.fingerprints import fingerprint_of
from autoseg.workspace import Workspace

PICTURES = fingerprint_of([(64, 64)] * 4, (1.0, 1.0), channels=("red", "green", "blue"))


@pytest.fixture
def asked(monkeypatch):
    """Names under which weights were looked for; timm seems to be there."""
    names = []

    def find(model, source, in_channels):
        names.append((model, source))
        return SimpleNamespace(
            module=nn.Conv2d(in_channels, 4, 2, 2),
            model=model,
            is_pretrained=True,
            mean=(0.5,) * 3,
            std=(0.2,) * 3,
            features=(4,),
            reductions=(2,),
            parameters=52,
            multiplications=12.0,
            values=1.0,
            has_batch_norm=True,
        )

    monkeypatch.setattr(backbones, "find_spec", lambda _: object())
    monkeypatch.setattr(pretrained, "find_extractor", find)
    return names


def cached(folder, *names):
    for name in names:
        snapshot = folder / f"models--timm--{name}" / "snapshots" / "0123"
        snapshot.mkdir(parents=True)
        (snapshot / "model.safetensors").touch()
    return folder


def test_the_usual_encoder_is_taken_and_its_weights_are_kept(tmp_path, asked):
    cache = cached(tmp_path / "hub", "resnet50.tv_in1k", "resnet18.a1_in1k", "vit_base.x")
    workspace = Workspace(tmp_path / "w")
    found = encoder_at_hand(PICTURES, workspace, cache)
    assert found is not None
    assert asked == [("resnet18.a1_in1k", "imagenet")]
    assert (found.backbone.model, found.shape.reductions) == ("resnet18.a1_in1k", (2,))
    assert found.backbone.weights is not None
    kept = load_kept(workspace.encoder_weights(found.backbone.weights), found.backbone)
    assert set(kept) == {"weight", "bias"}


def test_nothing_is_loaded_or_fetched_without_weights_in_the_cache(tmp_path, asked):
    assert encoder_at_hand(PICTURES, None, tmp_path) is None
    assert encoder_at_hand(PICTURES, None, cached(tmp_path, "resnet34d.ra2_in1k")) is None
    (tmp_path / "models--timm--resnet34.a1_in1k" / "blobs").mkdir(parents=True)  # broken off
    assert encoder_at_hand(PICTURES, None, tmp_path) is None
    assert asked == []


def test_without_timm_no_encoder_is_at_hand(tmp_path, asked, monkeypatch):
    monkeypatch.setattr(backbones, "find_spec", lambda _: None)
    assert encoder_at_hand(PICTURES, None, cached(tmp_path, "resnet34.a1_in1k")) is None
    assert asked == []


def test_weights_that_cannot_be_read_stop_no_plan(tmp_path, asked, monkeypatch):
    def refuse(*_):
        raise AutosegError(found="a half file", expected="a whole one", fix="fetch it again")

    monkeypatch.setattr(pretrained, "find_extractor", refuse)
    assert encoder_at_hand(PICTURES, None, cached(tmp_path, "resnet34.a1_in1k")) is None

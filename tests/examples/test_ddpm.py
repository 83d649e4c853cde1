import numpy as np
import pytest
import torch
from PIL import Image

from autoseg.network.diffusion import Denoiser
from autoseg.seeds import stream
from autoseg.train.ema import Ema
from examples import ddpm


def test_the_loss_falls():
    model = Denoiser(ddpm.PLAN)
    model.draw(0)
    losses = list(ddpm.train(model, Ema(model, 0.0), ddpm.rings, num_steps=12, seed=0))
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


def test_pictures_are_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ddpm, "NUM_DIFFUSION_STEPS", 4)
    target = tmp_path / "new.png"
    ddpm.main(["--steps", "2", "--samples", "9", "--out", str(target)])
    with Image.open(target) as picture:
        values = np.asarray(picture)
    assert values.shape == (2 * ddpm.SIZE, 8 * ddpm.SIZE)
    assert values[: ddpm.SIZE].std() > 0
    assert "9 new pictures" in capsys.readouterr().out


def test_pictures_of_a_folder_are_learnt_from(tmp_path, monkeypatch):
    monkeypatch.setattr(ddpm, "NUM_DIFFUSION_STEPS", 2)
    for index in range(2):
        Image.new("RGB", (50, 40), (100 * index,) * 3).save(tmp_path / f"{index}.png")
    found = ddpm.read_pictures(tmp_path)
    assert found.shape == (2, 1, ddpm.SIZE, ddpm.SIZE)
    assert found.mean(dim=(1, 2, 3)).tolist() == pytest.approx([-1, 100 / 127.5 - 1], abs=1e-6)
    ddpm.main(["--images", str(tmp_path), "--steps", "1", "--out", str(tmp_path / "new.png")])
    assert (tmp_path / "new.png").is_file()


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="no picture"):
        ddpm.read_pictures(tmp_path)


def test_a_perfect_model_leads_back_to_the_picture(monkeypatch):
    monkeypatch.setattr(ddpm, "NUM_DIFFUSION_STEPS", 50)
    kept = ddpm.cosine_schedule(50)
    (picture,) = ddpm.rings(stream(0), 1)

    def noise(x):
        now = kept[int(x[0, -1, 0, 0])]
        return (x[:, :1] - now.sqrt() * picture) / (1 - now).sqrt()

    found = ddpm.sample(noise, 2, seed=0)
    torch.testing.assert_close(found, picture.expand(2, -1, -1, -1), atol=0.05, rtol=0)

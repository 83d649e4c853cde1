import copy

import pytest
import torch

from autoseg.network.build import build_network
from autoseg.network.diffusion import Condition, Denoiser, cosine_schedule, diffused, with_steps
from autoseg.testing.plans import small_network

STAGES = ((4, 1), (8, 2))


def denoiser(num_axes=2, *, starts=True, **changes):
    """Return a denoiser; one that has begun to learn tells steps apart."""
    model = Denoiser(small_network(num_axes, stages=STAGES).revised(**changes))
    model.draw(0)
    if starts:
        return model
    generator = torch.Generator().manual_seed(1)
    for condition in model.conditions:
        assert isinstance(condition, Condition)
        condition.project.weight.data.normal_(generator=generator)
    return model


def noisy(num_axes=2, channels=1, step=10):
    torch.manual_seed(0)
    return with_steps(torch.randn(2, channels, *(8,) * num_axes), torch.full((2,), step))


@pytest.mark.parametrize("num_axes", [1, 2, 3])
@pytest.mark.parametrize("encoder", ["plain", "residual", "mednext"])
def test_as_many_channels_of_noise_come_out_as_the_image_has(num_axes, encoder):
    model = denoiser(num_axes, encoder=encoder, in_channels=3, num_classes=5)
    assert model(noisy(num_axes, channels=3)).shape == (2, 3, *(8,) * num_axes)


@pytest.mark.parametrize("norm", ["instance", "batch", "group"])
def test_the_parameters_of_the_network_keep_their_names(norm):
    plan = small_network(2, num_classes=5, stages=STAGES).revised(norm=norm)
    weights = Denoiser(plan).shared_weights()
    left = build_network(plan).load_state_dict(weights, strict=False)
    assert not left.unexpected_keys
    assert left.missing_keys == ["heads.0.weight", "heads.0.bias"]


def test_the_weights_of_several_heads_are_left_to_the_task():
    plan = small_network(2, stages=((4, 1), (8, 2), (8, 2))).revised(num_supervised=2)
    left = build_network(plan).load_state_dict(Denoiser(plan).shared_weights(), strict=False)
    assert {name.split(".")[0] for name in left.missing_keys} == {"heads"}


def test_a_step_changes_what_is_predicted_once_the_network_has_learnt():
    fresh, learnt = denoiser(), denoiser(starts=False)
    assert torch.equal(fresh(noisy(step=10)), fresh(noisy(step=900)))
    assert not torch.allclose(learnt(noisy(step=10)), learnt(noisy(step=900)))


def test_each_image_is_told_its_own_step():
    model, images = denoiser(starts=False).eval(), noisy()[:, :1]
    together = model(with_steps(images, torch.tensor([10, 900])))
    alone = [
        model(with_steps(images[i : i + 1], torch.tensor([s]))) for i, s in ((0, 10), (1, 900))
    ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_a_copy_is_told_the_step_by_its_own_parameters():
    model = denoiser(starts=False)
    before = model(noisy())
    other = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(other(noisy()), before)


def test_gradients_reach_every_parameter():
    model = denoiser(starts=False)
    model(noisy()).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.embedding.parameters())
    assert all(p.grad is not None for p in model.parameters())


def test_the_same_seed_draws_the_same_weights():
    first, second = denoiser().state_dict(), denoiser().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_network_inside_cannot_be_called_past_the_denoiser():
    with pytest.raises(ValueError, match="through the Denoiser"):
        denoiser().network(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("num_steps", [10, 1000])
def test_the_schedule_falls_from_all_of_the_image_to_next_to_nothing(num_steps):
    kept = cosine_schedule(num_steps)
    assert len(kept) == num_steps
    assert kept[0] > 0.95
    assert 0 < kept[-1] < 1e-4
    assert (kept.diff() < 0).all()


def test_the_schedule_has_the_values_of_the_formula():
    # f(500 / 1000) / f(0), by hand: cos(pi / 2 * 0.508 / 1.008)^2 / cos(pi / 2 * 0.008 / 1.008)^2
    assert cosine_schedule(1000)[499].item() == pytest.approx(0.49384, abs=1e-4)


def test_diffusion_keeps_the_variance():
    torch.manual_seed(0)
    images, noise = torch.randn(3, 1, 200, 200), torch.randn(3, 1, 200, 200)
    mixed = diffused(images, noise, torch.tensor([1.0, 0.5, 0.0]))
    torch.testing.assert_close(mixed[0], images[0])
    torch.testing.assert_close(mixed[2], noise[2])
    assert mixed[1].var().item() == pytest.approx(1, abs=0.02)

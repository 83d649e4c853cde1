from argparse import Namespace

import torch

from autoseg.record import LossPlan
from autoseg.train.loss import build_named_loss
from benchmarks.training_step import WARMUP_STEPS, ours, peer_loss

TINY = Namespace(device="cpu", patch=[8, 8], batch=2, stages=3, classes=3, steps=1)


def test_the_peers_loss_is_ours_but_for_its_constant():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 8, 8)
    labels = torch.randint(0, 3, (2, 8, 8))
    own = build_named_loss(
        LossPlan(), batch_dice=False, distance_transform=lambda mask: mask.astype(float)
    )
    difference = own(logits, labels) - peer_loss(logits, labels[:, None])
    others = torch.randn(2, 3, 8, 8)
    again = own(others, labels) - peer_loss(others, labels[:, None])
    assert torch.allclose(difference, again, atol=1e-5)


def test_our_side_takes_the_steps_asked_for():
    torch.manual_seed(0)
    images, labels = torch.randn(2, 1, 8, 8), torch.randint(0, 3, (2, 8, 8))
    assert len(list(ours(TINY, images, labels))) == WARMUP_STEPS + TINY.steps

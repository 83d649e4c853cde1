"""Losses against their peers: values against MONAI's, memory against nnU-Net's Dice + CE.

Values are compared with the MONAI of this environment, if it has one. Memory is the peak of forward
and backward above the logits, each loss in a process of its own; nnU-Net's formula is written out
here in plain torch, and with `--nnunet-python` its own class is measured as well.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SHAPE = (2, 60, 96, 96, 96)
SMOOTH = 1e-5
TOLERANCE = 1e-5


class OneHotDiceAndCrossEntropy(nn.Module):
    """nnU-Net's formula: cross-entropy minus soft Dice of softmax with a one-hot target."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits (B, K, *S) for labels (B, 1, *S)."""
        p = logits.softmax(dim=1)
        with torch.no_grad():
            target = torch.zeros(p.shape, device=p.device).scatter_(1, labels.long(), 1)[:, 1:]
            volume = target.flatten(2).sum(2)
        p = p[:, 1:]
        overlap, predicted = (p * target).flatten(2).sum(2), p.flatten(2).sum(2)
        dice = (2 * overlap + SMOOTH) / (volume + predicted + SMOOTH).clamp(min=1e-8)
        return functional.cross_entropy(logits, labels[:, 0].long()) - dice.mean()


def loss_of(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss that is called with labels (B, 1, *S)."""
    if name == "one-hot":
        return OneHotDiceAndCrossEntropy()
    if name == "nnunet":
        return nnunet_loss()
    from autoseg.train.loss import DiceAndCrossEntropy

    ours = DiceAndCrossEntropy(batch_dice=False)
    return lambda logits, labels: ours(logits, labels[:, 0])


def nnunet_loss() -> nn.Module:
    """Return nnU-Net's loss as its trainer makes it."""
    from nnunetv2.training.loss.compound_losses import (  # pyright: ignore[reportMissingImports]
        DC_and_CE_loss,
    )
    from nnunetv2.training.loss.dice import (  # pyright: ignore[reportMissingImports]
        MemoryEfficientSoftDiceLoss,
    )

    dice = {"batch_dice": False, "smooth": SMOOTH, "do_bg": False, "ddp": False}
    return DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)


def measure_loss(name: str, shape: tuple[int, ...], device: str) -> dict[str, float]:
    """Return value, seconds and peak bytes above the logits of one forward and backward."""
    generator = torch.Generator().manual_seed(0)
    size = (shape[0], 1, *shape[2:])
    labels = torch.randint(shape[1], size, generator=generator, dtype=torch.int16)
    loss = loss_of(name)
    warm = torch.zeros(1, shape[1], 4, 4, 4, requires_grad=True)
    loss(warm, labels[:1, :, :4, :4, :4]).backward()  # libraries are loaded
    logits = torch.empty(shape).normal_(generator=generator).to(device).requires_grad_()
    labels = labels.to(device)
    before = peak_bytes(device, now=True)
    start = time.perf_counter()
    value = loss(logits, labels)
    value.backward()
    result = value.item()  # waits for the device
    seconds = time.perf_counter() - start
    return {"value": result, "seconds": seconds, "bytes": peak_bytes(device) - before}


def peak_bytes(device: str, *, now: bool = False) -> int:
    """Return the peak of memory, or what is held now."""
    if device != "cpu":
        if now:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text().splitlines()
    key = "VmRSS:" if now else "VmHWM:"
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def compare_memory(shape: tuple[int, ...], device: str, nnunet_python: Path | None) -> None:
    """Print what each loss takes, each measured in a process of its own."""
    pythons = {"ours": Path(sys.executable), "one-hot": Path(sys.executable)}
    if nnunet_python:
        pythons["nnunet"] = nnunet_python
    found = {}
    for name, python in pythons.items():
        options = ["--child", name, "--device", device, "--shape", *map(str, shape)]
        command = [str(python), __file__, *options]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        item = found[name]
        megabytes = item["bytes"] / 1e6
        print(f"{name:8} {item['value']:.6f}  {item['seconds']:6.2f} s  {megabytes:8.0f} MB")
    logits = 4 * torch.Size(shape).numel()
    print(f"logits {logits / 1e6:.0f} MB; peaks are above them, their gradient included")
    for name in list(found)[1:]:
        ratio = found["ours"]["bytes"] / found[name]["bytes"]
        print(f"ours / {name}: {ratio:.3f} of the memory (aim: at most a third)")


def compare_values() -> None:
    """Print our values beside MONAI's; leave if they differ."""
    worst = 0.0
    for name, ours, theirs in monai_pairs():
        difference = abs(ours.item() - theirs.item())
        worst = max(worst, difference)
        print(f"{name:16} {ours.item():.7f}  MONAI {theirs.item():.7f}  {difference:.1e}")
    if worst > TOLERANCE:
        sys.exit(f"they differ by {worst:.1e}, more than {TOLERANCE:.0e}")


def monai_pairs() -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield name, our value and MONAI's, of the losses that both have."""
    from monai import losses as monai  # pyright: ignore[reportMissingImports]

    from autoseg.train.loss_terms.centreline import CentrelineDice
    from autoseg.train.loss_terms.overlap import Dice, GeneralisedDice, Tversky
    from autoseg.train.loss_terms.voxelwise import CrossEntropy, Focal

    smooth = {"smooth_nr": SMOOTH, "smooth_dr": SMOOTH}
    usual: dict[str, Any] = {"softmax": True, "to_onehot_y": True, **smooth}
    usual["include_background"] = False
    everything = {**usual, "include_background": True}
    tversky = Tversky(false_positive_weight=0.3, false_negative_weight=0.7)
    focal: dict[str, Any] = {"use_softmax": True, "to_onehot_y": True, "gamma": 2.0}
    plain, entropy = Dice(), CrossEntropy()
    share = 1 / 4  # MONAI's focal mean is over classes, too
    lit = Focal(gamma=2.0, alpha=0.7)
    pairs = [
        ("dice", [(1, plain)], monai.DiceLoss(**usual)),
        ("dice, squares", [(1, Dice(power=2))], monai.DiceLoss(squared_pred=True, **usual)),
        ("dice, batch", [(1, Dice(batch=True))], monai.DiceLoss(batch=True, **usual)),
        ("dice_ce", [(1, plain), (1, entropy)], monai.DiceCELoss(**usual)),
        ("focal", [(share, Focal(gamma=2.0))], monai.FocalLoss(**focal)),
        ("focal, alpha", [(share, lit)], monai.FocalLoss(alpha=0.7, **focal)),
        ("tversky", [(1, tversky)], monai.TverskyLoss(alpha=0.3, beta=0.7, **usual)),
        ("generalised_dice", [(1, GeneralisedDice())], monai.GeneralizedDiceLoss(**everything)),
    ]
    yield from compared(pairs, num_classes=4)
    tubes = [(0.5, plain), (0.5, CentrelineDice(iterations=3))]
    peer = monai.SoftDiceclDiceLoss(iter_=3, alpha=0.5, smooth=1e-12, **usual)
    yield from compared([("cldice", tubes, peer)], num_classes=2)  # its sums are over all classes


def compared(
    pairs: list[tuple[str, list, Callable[[Tensor, Tensor], Tensor]]], *, num_classes: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield name and both values of each pair on one random batch."""
    from autoseg.train.loss import Loss

    generator = torch.Generator().manual_seed(0)
    shape = (2, num_classes, 12, 14, 10)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (2, *shape[2:]), generator=generator)
    for name, terms, theirs in pairs:
        yield name, Loss(tuple(terms))(logits, labels), theirs(logits, labels[:, None])


def main() -> None:
    """Compare, with the options in the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nnunet-python", type=Path, help="of an environment with nnunetv2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", type=int, nargs="+", default=SHAPE)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shape = tuple(arguments.shape)
    if arguments.child:
        print(json.dumps(measure_loss(arguments.child, shape, arguments.device)))
        return
    if find_spec("monai"):
        compare_values()
    else:
        print("MONAI is not installed here: values are not compared")
    compare_memory(shape, arguments.device, arguments.nnunet_python)


if __name__ == "__main__":
    main()

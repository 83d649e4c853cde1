"""A training step of nnU-Net's network by our engine and by nnU-Net's recipe: seconds and memory.

    NNUNET -m benchmarks.training_step
    NNUNET -m benchmarks.training_step --device cuda --patch 128 128 128 --batch 2 --stages 6

NNUNET is a Python with torch, numpy, pydantic and `dynamic-network-architectures`, from which the
peer's network comes; PYTHONPATH leads to this checkout. Both sides have the same topology, patch,
batch, optimiser, clipping, deep supervision and loss (Dice and cross-entropy) and the same data in
memory: augmentation and reading are left out. The peer's loop is written here after what nnU-Net
does: one-hot labels, softmax Dice with a smooth term of 1e-5, SGD with Nesterov momentum, autocast
to float16 with a scaler on a GPU and float32 on a processor. Ours chooses its precision by rule
(`autoseg.train.probe.usual_execution`); `--peer-precision` gives the peer another.

Each side runs in a process of its own, in turn, `--rounds` times. Printed are the medians and their
ratios: seconds of a step, and the peak memory of a step (of the GPU; of the process on a CPU, less
what it had before the network was built).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from autoseg.network.execution import Execution
from autoseg.plan.training import num_supervised, sgd_training
from autoseg.record import NetworkPlan, StagePlan
from autoseg.testing.plans import small_configuration
from autoseg.train.learner import build_learner, build_loss
from autoseg.train.loop import train
from autoseg.train.probe import usual_execution
from autoseg.train.sampling import Batch

FEATURES = 32
MOST_FEATURES = 320
SMOOTH = 1e-5
LR, MOMENTUM, DECAY, CLIP_NORM = 1e-2, 0.99, 3e-5, 12.0
WARMUP_STEPS = 2
SUMMARY = "a training step of our engine and of nnU-Net's recipe"
REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}


def main() -> None:
    """Run both sides in turn and print what they took; or run one and print that as JSON."""
    parser = argparse.ArgumentParser(description=SUMMARY)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--patch", type=int, nargs="+", default=[40, 56, 40])
    parser.add_argument("--batch", type=int, default=7)
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-precision", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--side", choices=("autoseg", "nnU-Net"), help="used by the command itself")
    wanted = parser.parse_args()
    if wanted.side:
        print(json.dumps(measured(wanted)))
        return
    found: dict[str, list[dict]] = {"autoseg": [], "nnU-Net": []}
    for _ in range(wanted.rounds):
        for side, rows in found.items():
            words = [sys.executable, "-m", "benchmarks.training_step", *sys.argv[1:]]
            output = subprocess.run(
                [*words, "--side", side], check=True, stdout=subprocess.PIPE, text=True
            ).stdout
            rows.append(json.loads(output.splitlines()[-1]))
            print(f"{side}: {rows[-1]}", flush=True)
    for key, unit in (("seconds", "s a step"), ("peak_bytes", "bytes at most")):
        ours, peers = (statistics.median(row[key] for row in rows) for rows in found.values())
        print(f"{unit}: autoseg {ours:.4g}, nnU-Net {peers:.4g}, ratio {peers / ours:.2f}")


def measured(wanted: argparse.Namespace) -> dict:
    """Return the median seconds of a step of one side, and its peak memory."""
    torch.manual_seed(0)
    images = torch.randn(wanted.batch, 1, *wanted.patch)
    labels = torch.randint(0, wanted.classes, (wanted.batch, *wanted.patch))
    is_gpu = torch.device(wanted.device).type == "cuda"
    before = 0 if is_gpu else _resident()
    steps = (ours if wanted.side == "autoseg" else peers)(wanted, images, labels)
    times = []
    started = time.perf_counter()
    for index, _ in enumerate(steps):
        if is_gpu:
            torch.cuda.synchronize()
        now = time.perf_counter()
        if index >= WARMUP_STEPS:
            times.append(now - started)
        started = now
    peak = torch.cuda.max_memory_allocated() if is_gpu else _resident() - before
    return {"seconds": statistics.median(times), "peak_bytes": peak}


def ours(wanted: argparse.Namespace, images: Tensor, labels: Tensor) -> Iterator[None]:
    """Yield after each step of our engine."""
    execution: Execution = usual_execution(wanted.device)
    supervised = num_supervised(wanted.stages)
    item = small_configuration(
        tuple(wanted.patch),
        batch_size=wanted.batch,
        network=network_plan(wanted),
        training=sgd_training(tuple(wanted.patch), supervised=supervised, batch_dice=False),
    )
    batch = Batch(images, labels.to(torch.int16))
    yield from (
        None
        for _ in train(
            build_learner(item, execution, 0),
            (batch.on(execution) for _ in range(WARMUP_STEPS + wanted.steps)),
            build_loss(item.training),
            execution=execution,
            learning_rate=lambda _: LR,
            max_gradient_norm=CLIP_NORM,
        )
    )


def network_plan(wanted: argparse.Namespace) -> NetworkPlan:
    """Return nnU-Net's topology: 3 x 3 x 3 convolutions, two a stage, strides of 2."""
    dims = len(wanted.patch)
    return NetworkPlan(
        encoder="plain",
        in_channels=1,
        num_classes=wanted.classes,
        stages=tuple(
            StagePlan(
                features=min(FEATURES * 2**level, MOST_FEATURES),
                kernel_size=(3,) * dims,
                strides=(1 if level == 0 else 2,) * dims,
                num_blocks=2,
            )
            for level in range(wanted.stages)
        ),
        decoder_convs=2,
        num_supervised=num_supervised(wanted.stages),
    )


def peers(wanted: argparse.Namespace, images: Tensor, labels: Tensor) -> Iterator[None]:
    """Yield after each step of nnU-Net's recipe."""
    device = torch.device(wanted.device)
    precision = wanted.peer_precision or ("fp16" if device.type == "cuda" else "fp32")
    network = peer_network(wanted).to(device).train()
    optimizer = torch.optim.SGD(
        network.parameters(), LR, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True
    )
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    levels = [labels[:, None]]
    while len(levels) < wanted.stages - 1:
        levels.append(levels[-1][(..., *(slice(None, None, 2),) * len(wanted.patch))])
    weights = [0.5**level for level in range(len(levels))]
    if len(weights) > 1:
        weights[-1] = 0.0
    for _ in range(WARMUP_STEPS + wanted.steps):
        placed = images.to(device, non_blocking=True)
        targets = [level.to(device, non_blocking=True) for level in levels]
        optimizer.zero_grad(set_to_none=True)
        reduced = REDUCED.get(precision)
        with torch.autocast(device.type, reduced) if reduced else nullcontext():
            outputs = network(placed)
            loss = torch.stack(
                [
                    weight / sum(weights) * peer_loss(output, target)
                    for weight, output, target in zip(weights, outputs, targets, strict=True)
                    if weight
                ]
            ).sum()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        scaler.step(optimizer)
        scaler.update()
        loss.detach().cpu()  # as nnU-Net logs it
        yield None


def peer_network(wanted: argparse.Namespace) -> nn.Module:
    """Return nnU-Net's plain network from its own library."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet  # type: ignore

    dims = len(wanted.patch)
    plan = network_plan(wanted)
    return PlainConvUNet(
        input_channels=1,
        n_stages=wanted.stages,
        features_per_stage=[stage.features for stage in plan.stages],
        conv_op=(nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1],
        kernel_sizes=[stage.kernel_size for stage in plan.stages],
        strides=[stage.strides for stage in plan.stages],
        n_conv_per_stage=2,
        num_classes=wanted.classes,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 1],
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )


def peer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return cross-entropy less the mean Dice of the foreground, of (B, K, *S) and (B, 1, *S).

    Dice is taken image by image, 2 sum(p g) / (sum(p) + sum(g)) with a smooth term.
    """
    axes = tuple(range(2, logits.ndim))
    chances = logits.softmax(1)[:, 1:]
    with torch.no_grad():
        truth = torch.zeros(logits.shape, device=logits.device, dtype=torch.bool)
        truth.scatter_(1, labels, 1)
        truth = truth[:, 1:]
        sizes = truth.sum(axes)
    both = (chances * truth).sum(axes)
    dice = (2 * both + SMOOTH) / torch.clip(sizes + chances.sum(axes) + SMOOTH, 1e-8)
    return nn.functional.cross_entropy(logits, labels[:, 0]) - dice.mean()


def _resident() -> int:
    """Return the highest resident memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()

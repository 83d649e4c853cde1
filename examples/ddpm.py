"""A denoising diffusion model (Ho et al. 2020) on our U-Net: learns images, draws new ones.

    python examples/ddpm.py --steps 2000 --out samples.png
    python examples/ddpm.py --images FOLDER

Letters in shapes: B batch, S pixels of a side.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from autoseg.network.diffusion import Denoiser, cosine_schedule, diffused, with_steps
from autoseg.record import NetworkPlan, StagePlan
from autoseg.seeds import stream
from autoseg.train.ema import Ema
from autoseg.train.rates import poly, warmup_steps

SIZE = 32
NUM_DIFFUSION_STEPS = 200
BATCH_SIZE = 16
PEAK_LR = 2e-3
EMA_DECAY = 0.995
ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff"}

PLAN = NetworkPlan(
    encoder="residual",
    in_channels=1,
    num_classes=1,
    stages=tuple(
        StagePlan(features=features, kernel_size=(3, 3), strides=(stride, stride), num_blocks=1)
        for features, stride in ((24, 1), (32, 2), (48, 2), (64, 2))
    ),
    decoder_convs=1,
    num_supervised=1,
    norm="group",  # instance norm would take brightness away, which images need
    upsampling="linear",
)


def rings(rng: np.random.Generator, count: int) -> Tensor:
    """Return (B, 1, S, S) pictures of a bright ring each, -1 to 1."""
    y, x = np.mgrid[:SIZE, :SIZE]
    radius, width = rng.uniform(4, 9, (count, 1, 1)), rng.uniform(1.5, 3, (count, 1, 1))
    centre = rng.uniform(10, SIZE - 10, (2, count, 1, 1))
    distance = np.abs(np.hypot(y - centre[0], x - centre[1]) - radius)
    return torch.from_numpy(2 / (1 + np.exp(4 * (distance - width))) - 1).float()[:, None]


def read_pictures(folder: Path) -> Tensor:
    """Return all pictures of a folder, grey and small: (B, 1, S, S), -1 to 1."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not paths:
        raise SystemExit(f"no picture in {folder}: expected one of {', '.join(sorted(ENDINGS))}")
    pictures = torch.from_numpy(np.stack([_read_picture(path) for path in paths]))
    return pictures.float()[:, None] / 127.5 - 1


def _read_picture(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L").resize((SIZE, SIZE)))


def train(
    model: Denoiser,
    ema: Ema,
    draw: Callable[[np.random.Generator, int], Tensor],
    *,
    num_steps: int,
    seed: int,
) -> Iterator[float]:
    """Learn to tell the noise (algorithm 1); yield the loss of each step."""
    optimizer = torch.optim.AdamW(model.parameters())
    kept, generator = cosine_schedule(NUM_DIFFUSION_STEPS), torch.Generator().manual_seed(seed)
    for step in range(num_steps):
        rise = min(1.0, (step + 1) / (warmup_steps(50, num_steps) + 1))
        optimizer.param_groups[0]["lr"] = PEAK_LR * rise * poly(step, num_steps, power=1)
        images = draw(stream(seed, "images", step), BATCH_SIZE)
        steps = torch.randint(NUM_DIFFUSION_STEPS, (len(images),), generator=generator)
        noise = torch.randn(images.shape, generator=generator)
        predicted = model(with_steps(diffused(images, noise, kept[steps]), steps))
        loss = torch.nn.functional.mse_loss(predicted, noise)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(step + 1)
        yield loss.item()


@torch.no_grad()
def sample(model: Callable[[Tensor], Tensor], count: int, seed: int) -> Tensor:
    """Return (B, 1, S, S) new pictures (algorithm 2), the clean picture kept within -1 to 1."""
    generator = torch.Generator().manual_seed(seed)
    kept = cosine_schedule(NUM_DIFFUSION_STEPS)
    before = torch.cat([torch.ones(1), kept[:-1]])  # left of the image one step earlier
    x = torch.randn((count, 1, SIZE, SIZE), generator=generator)
    for step in reversed(range(NUM_DIFFUSION_STEPS)):
        now, then = kept[step], before[step]
        noise = model(with_steps(x, torch.full((count,), step)))
        clean = ((x - (1 - now).sqrt() * noise) / now.sqrt()).clamp(-1, 1)
        beta = 1 - now / then
        # Ho et al. 2020, equation 7: mean and variance of the step before.
        mean = (then.sqrt() * beta * clean + (now / then).sqrt() * (1 - then) * x) / (1 - now)
        deviation = (beta * (1 - then) / (1 - now)).sqrt()
        x = mean + deviation * torch.randn(x.shape, generator=generator)
    return x


def save_grid(pictures: Tensor, path: Path, columns: int = 8) -> None:
    """Write pictures (B, 1, S, S), -1 to 1, side by side as one PNG."""
    values = ((pictures[:, 0].clamp(-1, 1) + 1) * 127.5).byte().numpy()
    values = np.pad(values, ((0, -len(values) % columns), (0, 0), (0, 0)))
    rows = [np.hstack(list(values[i : i + columns])) for i in range(0, len(values), columns)]
    Image.fromarray(np.vstack(rows)).save(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, tell the loss ten times, and write new pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of pictures; default: drawn rings")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("samples.png"))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    draw = rings
    if chosen.images is not None:
        pictures = read_pictures(chosen.images)

        def draw(rng: np.random.Generator, count: int) -> Tensor:
            return pictures[rng.integers(len(pictures), size=count)]

    model, every = Denoiser(PLAN), max(1, chosen.steps // 10)
    model.draw(chosen.seed)
    ema = Ema(model, EMA_DECAY)
    losses: list[float] = []
    for loss in train(model, ema, draw, num_steps=chosen.steps, seed=chosen.seed):
        losses.append(loss)
        if len(losses) % every == 0:
            print(f"step {len(losses)}: loss {np.mean(losses[-every:]):.4f}", flush=True)
    save_grid(sample(ema.model, chosen.samples, chosen.seed), chosen.out)
    print(f"{chosen.samples} new pictures: {chosen.out}")


if __name__ == "__main__":
    main()

"""A causal 1D U-Net that predicts the next byte of a text, compared with an order-2 n-gram.

    python examples/bytes_lm.py --steps 1000
    python examples/bytes_lm.py --text FILE

A U-Net is causal if nothing in it looks ahead. Convolutions are padded on the left only, strided
ones too, so that cell j of a level with stride s has seen the bytes up to s j; upsampling gives it
to the positions s j to s j + s - 1, which are no earlier. Normalisation takes the features of one
position together, never positions.

Letters in shapes: B batch, F features, S bytes of a window.
"""

import argparse
import math
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from autoseg.network.blocks import ConvBlock
from autoseg.network.build import initialise
from autoseg.network.layers import Materials
from autoseg.network.upsampling import upsampling
from autoseg.seeds import stream
from autoseg.train.rates import poly, warmup_steps

NUM_BYTES = 256
FEATURES = (96, 128, 192)
STRIDES = (1, 4, 4)
BLOCKS = 2
KERNEL = 5
WINDOW = 256
BATCH_SIZE = 8
PEAK_LR = 3e-3
MATERIALS = Materials(dimensions=1, padding="valid")
"""Without padding of their own, convolutions are causal behind padding on the left."""


class PositionNorm(nn.Module):
    """Layer normalisation of the features at each position by itself: (B, F, S) -> (B, F, S)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised features."""
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


class CausalBlock(nn.Module):
    """A ConvBlock that sees its position and earlier ones; added to its input where that fits."""

    def __init__(self, in_channels: int, features: int, *, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.block = ConvBlock(
            in_channels, features, kernel=(kernel,), stride=(stride,), materials=MATERIALS
        )
        self.block.norm = PositionNorm(features)
        self.earlier = kernel - 1

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, F, S / stride) of (B, C, S)."""
        y = self.block(functional.pad(x, (self.earlier, 0)))
        return x + y if x.shape == y.shape else y


class ByteUNet(nn.Module):
    """Bytes (B, S) -> logits (B, 256, S) of the byte that follows each; S divides by 16."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(NUM_BYTES, FEATURES[0])
        self.encoder, self.ups, self.merges = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        width = FEATURES[0]
        for features, stride in zip(FEATURES, STRIDES, strict=True):
            # A strided block sees the whole cell before its position, so that no byte is lost.
            kernel = KERNEL if stride == 1 else 2 * stride
            blocks = [CausalBlock(width, features, kernel=kernel, stride=stride)]
            blocks += [CausalBlock(features, features, kernel=KERNEL) for _ in range(BLOCKS)]
            self.encoder.append(nn.Sequential(*blocks))
            width = features
        for level in reversed(range(1, len(FEATURES))):
            above, stride = FEATURES[level - 1], (STRIDES[level],)
            self.ups.append(upsampling(FEATURES[level], above, stride=stride, materials=MATERIALS))
            self.merges.append(
                nn.Sequential(
                    CausalBlock(2 * above, above, kernel=KERNEL),
                    CausalBlock(above, above, kernel=KERNEL),
                )
            )
        self.head = nn.Conv1d(FEATURES[0], NUM_BYTES, 1)

    def forward(self, text: Tensor) -> Tensor:
        """Return logits; those at position t depend on the bytes up to t only."""
        x = self.embedding(text).transpose(1, 2)  # (B, F, S)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.ups, self.merges, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], dim=1))
        return self.head(x)


def train(model: ByteUNet, text: NDArray[np.uint8], num_steps: int, seed: int) -> Iterator[float]:
    """Learn from random windows of a text; yield the bits a byte of each step."""
    initialise(model, seed)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    for step in range(num_steps):
        rise = min(1.0, (step + 1) / (warmup_steps(100, num_steps) + 1))
        optimizer.param_groups[0]["lr"] = PEAK_LR * rise * poly(step, num_steps, power=1)
        starts = stream(seed, "text", step).integers(len(text) - WINDOW, size=BATCH_SIZE)
        windows = torch.from_numpy(
            np.stack([text[i : i + WINDOW + 1] for i in starts]).astype(np.int64)
        )
        loss = functional.cross_entropy(model(windows[:, :-1]), windows[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item() / math.log(2)


@torch.no_grad()
def unet_bits(model: ByteUNet, text: NDArray[np.uint8], skipped: int) -> float:
    """Return the mean bits a byte of a text after its first `skipped` bytes.

    Windows overlap by half, so that all but the first bytes have half a window before them.
    """
    model.eval()
    half, total, count, done = WINDOW // 2, 0.0, 0, skipped
    for start in range(0, len(text) - 1, half):
        window = text[start : start + WINDOW + 1].astype(np.int64)
        if start + len(window) <= done:
            break
        filled = np.pad(window[:-1], (0, WINDOW + 1 - len(window)))  # what follows has no effect
        logits = model(torch.from_numpy(filled)[None])[0, :, : len(window) - 1]
        losses = functional.cross_entropy(logits.T, torch.from_numpy(window[1:]), reduction="none")
        new = losses[done - start - 1 :]
        total, count, done = total + new.sum().item(), count + len(new), start + len(window)
    return total / count / math.log(2)


def ngram_bits(train_text: NDArray[np.uint8], text: NDArray[np.uint8], order: int) -> float:
    """Return the mean bits a byte of a text, from the third on for order 2, by counts in another.

    Witten and Bell's smoothing: P(c | h) = (N(hc) + D(h) P(c | h')) / (N(h) + D(h)), where D(h)
    different bytes followed h, and h' is h without its first byte; last of all, bytes are equal.
    """
    probability = np.full(len(text) - order, 1 / NUM_BYTES)
    for length in range(order + 1):
        seen, asked = _codes(train_text, length + 1), _codes(text, length + 1)[order - length :]
        pairs, pair_counts = np.unique(seen, return_counts=True)
        contexts, first = np.unique(pairs // NUM_BYTES, return_index=True)
        follows = np.add.reduceat(pair_counts, first)
        kinds = np.diff(np.append(first, len(pairs)))
        together = _looked_up(pairs, pair_counts, asked)
        alone = _looked_up(contexts, follows, asked // NUM_BYTES)
        different = _looked_up(contexts, kinds, asked // NUM_BYTES)
        known = alone > 0
        mixed = (together + different * probability) / np.maximum(alone + different, 1)
        probability = np.where(known, mixed, probability)
    return float(-np.log2(probability).mean())


def _codes(text: NDArray[np.uint8], length: int) -> NDArray[np.int64]:
    """Return each run of `length` bytes as one number, the last byte its lowest."""
    count = len(text) - length + 1
    parts = [text[i : i + count].astype(np.int64) << 8 * (length - 1 - i) for i in range(length)]
    return np.sum(parts, axis=0)


def _looked_up(keys: NDArray, values: NDArray, asked: NDArray) -> NDArray:
    """Return the value of each key that is asked for, 0 where there is none."""
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[places] == asked, values[places], 0)


def read_text(path: Path | None, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a text to learn and one to be asked about: nine tenths and the last tenth of a file.

    Without a file, the source of Python's standard library, of which every tenth file is asked.
    """
    if path is not None:
        text = np.frombuffer(path.read_bytes()[:size], np.uint8)
        return text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]
    sides: tuple[list[bytes], list[bytes]] = ([], [])
    for index, file in enumerate(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))):
        sides[index % 10 == 9].append(file.read_bytes())
    shares = (size * 9 // 10, size // 10)
    learnt, asked = (b"".join(side)[:n] for side, n in zip(sides, shares, strict=True))
    return np.frombuffer(learnt, np.uint8), np.frombuffer(asked, np.uint8)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and tell the bits a byte of network and n-gram on the same text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--text", type=Path, help="any file; default: Python's standard library")
    parser.add_argument("--bytes", type=int, default=1_500_000, help="how much of it is read")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    learnt, asked = read_text(chosen.text, chosen.bytes)
    if min(len(learnt), len(asked)) <= WINDOW:
        raise SystemExit(f"a text of {len(learnt) + len(asked)} bytes is too short")
    print(f"{len(learnt)} bytes to learn, {len(asked)} others to predict")
    order = 2
    print(f"order-{order} n-gram: {ngram_bits(learnt, asked, order):.3f} bits per byte", flush=True)
    torch.manual_seed(chosen.seed)  # the embedding's; `initialise` draws all else
    model, every = ByteUNet(), max(1, chosen.steps // 10)
    bits: list[float] = []
    for loss in train(model, learnt, chosen.steps, chosen.seed):
        bits.append(loss)
        if len(bits) % every == 0:
            print(f"step {len(bits)}: {np.mean(bits[-every:]):.3f} in training", flush=True)
    print(f"U-Net: {unet_bits(model, asked, order):.3f} bits per byte")


if __name__ == "__main__":
    main()

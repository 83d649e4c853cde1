"""Augmentation against nnU-Net's: patches per second, and what each effect does to an image.

Ours draws, reads and applies nnU-Net's distribution (`nnunet_augmentation`). The peer is the list
of transforms that nnU-Net's own trainer builds for training (batchgeneratorsv2), with its cutting
and padding. Both cut from the same case in memory, on one thread, each in a process of its own;
rounds take turns, medians are printed. Seconds are those of the CPU, so that other processes count
for little. Pin it to a core: `taskset -c 1 python -m benchmarks.augmentation ...`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

AIM = 3.0
PATCHES = ((320, 320), (512, 512), (40, 56, 40), (96, 96, 96), (16, 160, 160))
"""The last is anisotropic: both sides turn and scale its slices only (dummy 2D)."""
LABELS = (3, 15)
"""Background included."""
EFFECTS = (
    "noise",
    "blur",
    "brightness",
    "contrast",
    "low resolution",
    "inverted gamma",
    "gamma",
    "scale",
    "rotation",
    "mirroring",
)
STATISTICS = ("mean", "deviation", "range", "gradient", "change", "label 1")
DISTRIBUTION_PATCH = (40, 40, 40)
ROOM = 1.6
"""Edge of a case over that of its patch."""

Sampler = Callable[[int], tuple[NDArray[np.float32], NDArray]]
"""Makes patch (C, *P) and labels (*P) of one seed."""


def make_case(
    patch: Sequence[int], num_labels: int, num_channels: int
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Return image (C, *S) and labels (*S): structures that touch, in a body with noise."""
    rng = np.random.default_rng(0)
    shape = [round(n * ROOM) for n in patch]
    grid = np.stack(
        np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij")
    )
    nearest = np.full(shape, np.inf)
    labels = np.zeros(shape, np.int8)
    for index in range(2 * num_labels):  # every label lies in several places
        centre = rng.uniform(-0.6, 0.6, (len(shape),) + (1,) * len(shape))
        distance = ((grid - centre) ** 2).sum(0)
        labels[distance < nearest] = index % num_labels
        nearest = np.minimum(nearest, distance)
    labels[(grid**2).sum(0) > 0.8] = 0
    levels = rng.normal(0, 1, (num_channels, num_labels))
    image = levels[:, labels] + rng.normal(0, 0.3, (num_channels, *shape))
    return image.astype(np.float32), labels


def starts(patch: Sequence[int], shape: Sequence[int], seed: int) -> list[int]:
    """Return where the patch of a seed begins: the same on both sides."""
    rng = np.random.default_rng(seed)
    return [int(rng.integers(n - p + 1)) for p, n in zip(patch, shape, strict=True)]


def our_sampler(
    patch: Sequence[int],
    image: NDArray,
    labels: NDArray,
    *,
    effect: str | None,
    place: Sequence[int] | None,
) -> Sampler:
    """Return our pipeline, or one effect of it that always happens."""
    from autoseg.augment.augment import draw_augmentation
    from autoseg.augment.padding import read_image, read_labels
    from autoseg.plan.augmentation import nnunet_augmentation
    from autoseg.seeds import stream

    plan = nnunet_augmentation(patch)
    mirrored = tuple(range(len(patch)))
    if effect:
        names = [name for name in type(plan).model_fields if name.endswith("_probability")]
        plan = plan.revised(**dict.fromkeys(names, 0.0))
        if effect == "mirroring":
            plan = plan.revised(mirror_probability=0.5)
        else:
            plan = plan.revised(**{effect.replace(" ", "_") + "_probability": 1.0})
    stored = image.astype(np.float16)  # as prepared cases are stored

    def sample(seed: int) -> tuple[NDArray[np.float32], NDArray]:
        start = place or starts(patch, labels.shape, seed)
        rng = stream(seed, "benchmark")
        drawn = draw_augmentation(rng, plan, (len(image), *patch), mirror_axes=mirrored)
        box = drawn.source_box(start, patch)
        cut = read_image(stored, box, padding="mirror"), read_labels(labels, box)
        made = drawn.apply(*cut, patch)
        return np.ascontiguousarray(made[0]), np.ascontiguousarray(made[1], np.int16)

    return sample


def peer_sampler(
    patch: Sequence[int],
    image: NDArray,
    labels: NDArray,
    *,
    effect: str | None,
    place: Sequence[int] | None,
) -> Sampler:
    """Return nnU-Net's cutting and transforms, or one effect of them that always happens."""
    import torch
    from acvl_utils.cropping_and_padding.bounding_boxes import (  # pyright: ignore[reportMissingImports]
        crop_and_pad_nd,
    )

    transforms, initial = peer_transforms(patch)
    if effect:
        keep_only(transforms, effect)
        initial = list(labels.shape)  # what it cuts otherwise is too small for its largest scale
    labels = labels[None]

    def sample(seed: int) -> tuple[NDArray[np.float32], NDArray]:
        start = place or starts(patch, labels.shape[1:], seed)
        if effect:
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - its transforms draw from it
        lows = [s - (i - p) // 2 for s, i, p in zip(start, initial, patch, strict=True)]
        box = [[low, low + n] for low, n in zip(lows, initial, strict=True)]
        cut = crop_and_pad_nd(image, box, 0)
        if np.may_share_memory(cut, image):
            cut = cut.copy()  # its transforms write to what they are given
        with torch.no_grad():
            made = transforms(
                image=torch.from_numpy(cut).float(),
                segmentation=torch.from_numpy(
                    crop_and_pad_nd(labels, box, -1, cast_cropped_to=np.int16)
                ),
            )
        return made["image"].contiguous().numpy(), made["segmentation"][0].contiguous().numpy()

    return sample


def peer_transforms(patch: Sequence[int]) -> tuple[Any, list[int]]:
    """Return nnU-Net's default training transforms and the size that it cuts for them."""
    from types import SimpleNamespace

    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import (  # pyright: ignore[reportMissingImports]
        nnUNetTrainer,
    )

    trainer = SimpleNamespace(
        configuration_manager=SimpleNamespace(patch_size=list(patch)),
        print_to_log_file=lambda *_, **__: None,
    )
    configure = nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size
    rotation, dummy, initial, mirror_axes = configure(trainer)
    transforms = nnUNetTrainer.get_training_transforms(
        tuple(patch), rotation, None, mirror_axes, dummy, use_mask_for_norm=[False]
    )
    return transforms, [int(n) for n in initial]


def keep_only(composed: Any, effect: str) -> None:  # noqa: ANN401
    """Leave one effect in nnU-Net's list of transforms, and make it always happen."""
    named = {
        "GaussianNoiseTransform": "noise",
        "GaussianBlurTransform": "blur",
        "MultiplicativeBrightnessTransform": "brightness",
        "ContrastTransform": "contrast",
        "SimulateLowResolutionTransform": "low resolution",
    }
    kept = []
    for transform in composed.transforms:
        kind = type(transform).__name__
        if kind == "SpatialTransform":
            transform.p_rotation = float(effect == "rotation")
            transform.p_scaling = float(effect == "scale")
            kept.append(transform)
        elif kind == "RandomTransform":
            inner = transform.transform
            name = named.get(type(inner).__name__)
            if name is None:
                name = "inverted gamma" if inner.p_invert_image else "gamma"
            transform.apply_probability = 1.0
            kept += [transform] if name == effect else []
        elif kind != "MirrorTransform" or effect == "mirroring":
            kept.append(transform)
    composed.transforms = kept


def describe(
    image: NDArray[np.float32], labels: NDArray, original: NDArray[np.float32]
) -> list[float]:
    """Return the statistics of one changed patch, in the order of STATISTICS."""
    gradient = np.mean([np.abs(np.diff(image, axis=axis)).mean() for axis in (1, 2, 3)])
    return [
        float(image.mean()),
        float(image.std()),
        float(np.ptp(image)),
        float(gradient),
        float(np.abs(image - original).mean()),
        float((labels == 1).mean()),
    ]


def serve(side: str) -> None:
    """Answer requests, one JSON line each: the seconds of a round, or statistics of an effect."""
    import torch

    torch.set_num_threads(1)
    make = {"ours": our_sampler, "peer": peer_sampler}[side]
    samplers: dict[str, Sampler] = {}
    for line in sys.stdin:
        request = json.loads(line)
        patch, effect = request["patch"], request["effect"]
        key = json.dumps([patch, request["labels"], effect])
        if key not in samplers:
            image, labels = make_case(patch, request["labels"], request["channels"])
            place = [(n - p) // 2 for n, p in zip(labels.shape, patch, strict=True)]
            samplers[key] = make(
                patch, image, labels, effect=effect, place=place if effect else None
            )
            for seed in range(10_000, 10_000 if effect else 10_030):  # buffers, libraries
                samplers[key](seed)
        if effect is None:
            answer: Any = seconds(samplers[key], request["seeds"])
        else:
            image, labels = make_case(patch, request["labels"], request["channels"])
            place = [(n - p) // 2 for n, p in zip(labels.shape, patch, strict=True)]
            original = image[(slice(None), *map(slice, place, np.add(place, patch)))]
            made = (samplers[key](seed) for seed in range(*request["seeds"]))
            answer = [describe(*patches, original) for patches in made]
        print(json.dumps(answer), flush=True)


def seconds(sample: Sampler, seeds: Sequence[int]) -> float:
    """Return the CPU time that the patches of `seeds` (first, end) take."""
    start = time.process_time()
    for seed in range(*seeds):
        sample(seed)
    return time.process_time() - start


class Side:
    """One of the two processes."""

    def __init__(self, name: str, python: Path) -> None:
        self.name = name
        threads = [f"{kind}_NUM_THREADS=1" for kind in ("OMP", "MKL", "OPENBLAS")]
        self._process = subprocess.Popen(
            ["env", *threads, str(python), __file__, "--child", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: object) -> Any:  # noqa: ANN401
        """Return the answer to one request."""
        pipe = cast("IO[str]", self._process.stdin)
        pipe.write(json.dumps(request) + "\n")
        pipe.flush()
        answer = cast("IO[str]", self._process.stdout).readline()
        if not answer:
            sys.exit(f"the process of {self.name} ended: its error is above")
        return json.loads(answer)

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()


def compare_speed(sides: Sequence[Side], rounds: int, round_s: float, channels: int) -> None:
    """Print patches per second of both sides for each patch size and number of labels."""
    print(f"{'patch':>14} {'labels':>6} {'ours/s':>9} {'peer/s':>9} {'ratio':>6}  (aim {AIM})")
    for patch in PATCHES:
        for num_labels in LABELS:
            found = [rates(side, patch, num_labels, channels, rounds, round_s) for side in sides]
            taken: list[list[float]] = [[], []]
            for _ in range(rounds):
                for index, rate in enumerate(found):
                    taken[index].append(next(rate))
            ours, peer = (statistics.median(item) for item in taken)
            name = "x".join(map(str, patch))
            print(f"{name:>14} {num_labels:6} {ours:9.1f} {peer:9.1f} {ours / peer:6.2f}")


def rates(
    side: Side, patch: Sequence[int], num_labels: int, channels: int, rounds: int, round_s: float
) -> Iterator[float]:
    """Yield the patches per second of each round, as many patches as fill its time."""
    request = {"patch": patch, "labels": num_labels, "channels": channels, "effect": None}
    count = 40
    guess = side.ask(**request, seeds=[20_000, 20_000 + count]) / count
    count = max(20, round(round_s / guess))
    for index in range(rounds):
        yield count / side.ask(**request, seeds=[index * count, (index + 1) * count])


def compare_distributions(sides: Sequence[Side], count: int) -> None:
    """Print mean and deviation over patches of each statistic of each effect, on both sides."""
    print(f"\n{count} patches of {DISTRIBUTION_PATCH}; mean +- deviation over patches; ours | peer")
    print("z: difference of the means in standard errors; ratio of the variances")
    request = {"patch": DISTRIBUTION_PATCH, "labels": 3, "channels": 1, "seeds": [0, count]}
    for effect in EFFECTS:
        ours, peer = (np.array(side.ask(**request, effect=effect)) for side in sides)
        for index, name in enumerate(STATISTICS):
            a, b = ours[:, index], peer[:, index]
            error = np.sqrt((a.var() + b.var()) / count)
            if error < 1e-7:
                continue  # the effect leaves this statistic as it was
            print(
                f"{effect:>15} {name:>9} {a.mean():8.4f} +- {a.std():.4f} |"
                f" {b.mean():8.4f} +- {b.std():.4f}"
                f"  z {(a.mean() - b.mean()) / error:+5.1f}  {a.var() / max(b.var(), 1e-12):.2f}"
            )


def main() -> None:
    """Compare, with the options in the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nnunet-python", type=Path, help="of an environment with nnunetv2")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--round-s", type=float, default=2.0)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--distribution", type=int, default=400, help="patches of each effect")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        serve(arguments.child)
        return
    if arguments.nnunet_python is None:
        parser.error("--nnunet-python is needed")
    sides = [Side("ours", Path(sys.executable)), Side("peer", arguments.nnunet_python)]
    if arguments.rounds:
        compare_speed(sides, arguments.rounds, arguments.round_s, arguments.channels)
    if arguments.distribution:
        compare_distributions(sides, arguments.distribution)
    for side in sides:
        side.end()


if __name__ == "__main__":
    main()

"""A small model in nnU-Net's own format, trained within minutes, that predicts every class.

NNUNET_PYTHON benchmarks/train_nnunet.py PREPARED FOLDER --configuration 3d_fullres --folds 0 1

runs in the environment of nnU-Net and needs nothing of ours. PREPARED is a data set's folder of
`nnUNet_preprocessed` with its plans and prepared cases; FOLDER becomes what nnU-Net trains into.
Its trainer sees thousands of patches before it finds small classes; this loop leaves augmentation
out, looks at every class as often and learns faster, so that comparing labels means something.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2  # type: ignore
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # type: ignore
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # type: ignore

RESIDUAL = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
BLOCKS = (1, 2, 2, 2, 2, 2, 2, 2)
LR = 4e-3
BATCH_SIZE = 2
REPORTED = 20


def small_plans(plans: dict, configuration: str, features: int, *, residual: bool) -> dict:
    """Return the plans with a narrow network, whose encoder may be residual."""
    architecture = plans["configurations"][configuration]["architecture"]
    words = architecture["arch_kwargs"]
    count = words["n_stages"]
    words["features_per_stage"] = [min(features * 2**i, features * 8) for i in range(count)]
    if residual:
        architecture["network_class_name"] = RESIDUAL
        words.pop("n_conv_per_stage", None)
        words["n_blocks_per_stage"] = list(BLOCKS[:count])
        words["n_conv_per_stage_decoder"] = [1] * (count - 1)
    return plans


def patch(case: tuple, size: list[int], rng: np.random.Generator) -> tuple:
    """Return (C, *S) values and (*S) labels around a voxel of some class, zeros beyond the image.

    Every class that a case shows is as likely; a 2D patch is the slice with that voxel.
    """
    values, labels = np.asarray(case[0][:]), np.asarray(case[1][:])[0].clip(0)
    places = np.argwhere(labels == rng.choice(np.unique(labels)[1:]))
    centre = places[rng.integers(len(places))]
    if len(size) < labels.ndim:
        index, *centre = centre
        values, labels = values[:, index], labels[index]
    pads = [(n // 2, n - n // 2) for n in size]
    box = tuple(slice(c, c + n) for c, n in zip(centre, size, strict=True))
    return np.pad(values, [(0, 0), *pads])[(slice(None), *box)], np.pad(labels, pads)[box]


def dice_ce(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy and soft Dice of the foreground, of (B, K, *S) and (B, *S)."""
    chances = logits.softmax(1).flatten(2)
    truth = torch.nn.functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).flatten(2)
    both, sizes = (chances * truth).sum((0, 2)), (chances + truth).sum((0, 2))
    return torch.nn.functional.cross_entropy(logits, labels) - (2 * both / sizes)[1:].mean()


def train(options: argparse.Namespace, plans: dict, dataset: dict, fold: int) -> None:
    """Train one fold and write its checkpoint as nnU-Net writes it."""
    manager = PlansManager(plans)
    planned = manager.get_configuration(options.configuration)
    heads = manager.get_label_manager(dataset).num_segmentation_heads
    torch.manual_seed(fold)
    rng = np.random.default_rng(fold)
    network = nnUNetTrainer.build_network_architecture(
        manager, planned, len(dataset["channel_names"]), heads, enable_deep_supervision=False
    )
    folder = options.prepared / planned.data_identifier
    prepared = nnUNetDatasetBlosc2(str(folder))
    cases = [prepared.load_case(name) for name in list(prepared.identifiers)[fold::2]]
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, options.steps, 0.9)
    for step in range(options.steps):
        size = list(options.patch or planned.patch_size)
        drawn = [patch(cases[rng.integers(len(cases))], size, rng) for _ in range(BATCH_SIZE)]
        images = torch.from_numpy(np.stack([image for image, _ in drawn])).float()
        labels = torch.from_numpy(np.stack([label for _, label in drawn])).long()
        loss = dice_ce(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % REPORTED == 0:
            print(f"fold {fold}, step {step}: loss {loss.item():.3f}", flush=True)
    target = options.folder / f"fold_{fold}"
    target.mkdir(parents=True)
    checkpoint = {
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": options.configuration, "fold": fold},
        "inference_allowed_mirroring_axes": tuple(range(len(planned.patch_size))),
        "network_weights": network.state_dict(),
    }
    torch.save(checkpoint, target / "checkpoint_final.pth")


def main() -> None:
    """Train the folds one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plans", default="nnUNetPlans")
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--features", type=int, default=8, help="of the first stage")
    parser.add_argument("--patch", type=int, nargs="+", help="while training")
    parser.add_argument("--residual", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    plans = json.loads((options.prepared / f"{options.plans}.json").read_text(encoding="utf-8"))
    plans = small_plans(plans, options.configuration, options.features, residual=options.residual)
    dataset = json.loads((options.prepared / "dataset.json").read_text(encoding="utf-8"))
    options.folder.mkdir(parents=True)
    (options.folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    (options.folder / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    for fold in options.folds:
        train(options, plans, dataset, fold)


if __name__ == "__main__":
    main()

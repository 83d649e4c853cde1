"""Small models in nnU-Net's format, with weights by formula: no training, no nnU-Net."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.plan.export_nnunet import ARCHITECTURES, BLOCK_FIELDS, RESAMPLE

FEATURES = (4, 6, 6)


def numbers(shape: Sequence[int], name: str) -> NDArray[np.float32]:
    """Return numbers that depend on a name alone: 0.3 sin(0.7 i + crc32(name) mod 100)."""
    count = int(np.prod(shape))
    phase = zlib.crc32(name.encode()) % 100
    return (0.3 * np.sin(0.7 * np.arange(count) + phase)).reshape(shape).astype(np.float32)


def their_weights(encoder: str, dims: int, *, num_channels: int, num_outputs: int) -> dict:
    """Return the weights of a network of three stages as nnU-Net stores them.

    Every layer is there under two names, that of the encoder under four.

    Parameters
    ----------
    encoder
        "plain" (two convolutions a stage) or "residual" (1, 2, 2 blocks).
    """
    weights: dict[str, Tensor] = {}
    for name, shape in _convolutions(encoder, dims, num_channels).items():
        weights |= _conv_and_norm(name, shape)
    for index, level in enumerate((1, 0)):
        stride = ((1, *(2,) * (dims - 1)), (2,) * dims)[level]
        shape = (FEATURES[level + 1], FEATURES[level], *stride)
        weights |= _pair(f"decoder.transpconvs.{index}", shape, FEATURES[level])
        shape = (num_outputs, FEATURES[level], *(1,) * dims)
        weights |= _pair(f"decoder.seg_layers.{index}", shape, num_outputs)
    repeated = {f"decoder.{name}": item for name, item in weights.items() if name[:7] == "encoder"}
    return {**weights, **repeated}


def _convolutions(encoder: str, dims: int, num_channels: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every convolution that has a normalisation behind it."""
    layers: dict[str, tuple[int, ...]] = {}
    if encoder == "residual":
        layers["encoder.stem.convs.0"] = (FEATURES[0], num_channels, *_kernel(0, dims))
    for level, width in enumerate(FEATURES):
        if encoder == "residual":
            layers |= _blocks(level, _kernel(level, dims))
            continue
        before = (num_channels, *FEATURES)[level]
        layers[f"encoder.stages.{level}.0.convs.0"] = (width, before, *_kernel(level, dims))
        layers[f"encoder.stages.{level}.0.convs.1"] = (width, width, *_kernel(level, dims))
    for index, level in enumerate((1, 0)):
        width, name = FEATURES[level], f"decoder.stages.{index}.convs"
        layers[f"{name}.0"] = (width, 2 * width, *_kernel(level, dims))
        if encoder == "plain":
            layers[f"{name}.1"] = (width, width, *_kernel(level, dims))
    return layers


def _kernel(level: int, dims: int) -> tuple[int, ...]:
    return (1, *(3,) * (dims - 1)) if level == 0 else (3,) * dims


def _blocks(level: int, kernel: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the convolutions of a stage's residual blocks."""
    layers: dict[str, tuple[int, ...]] = {}
    width, before = FEATURES[level], FEATURES[max(0, level - 1)]
    for index in range((1, 2, 2)[level]):
        block = f"encoder.stages.{level}.blocks.{index}"
        layers[f"{block}.conv1"] = (width, before if index == 0 else width, *kernel)
        layers[f"{block}.conv2"] = (width, width, *kernel)
        if index == 0 and before != width:
            layers[f"{block}.skip.1"] = (width, before, *(1,) * len(kernel))
    return layers


def _conv_and_norm(name: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    is_skip = ".skip." in name
    conv = _pair(f"{name}.conv", shape, None if is_skip else shape[0])
    norm = {
        f"{name}.norm.weight": _tensor((shape[0],), f"{name}.norm.weight") + 1,
        f"{name}.norm.bias": _tensor((shape[0],), f"{name}.norm.bias"),
    }
    first = {key.replace(".conv.", ".all_modules.0."): item for key, item in conv.items()}
    second = {key.replace(".norm.", ".all_modules.1."): item for key, item in norm.items()}
    return {**conv, **norm, **first, **second}


def _pair(name: str, shape: tuple[int, ...], num_biases: int | None) -> dict[str, Tensor]:
    pair = {f"{name}.weight": _tensor(shape, f"{name}.weight")}
    if num_biases is not None:
        pair[f"{name}.bias"] = _tensor((num_biases,), f"{name}.bias")
    return pair


def _tensor(shape: tuple[int, ...], name: str) -> Tensor:
    return torch.from_numpy(numbers(shape, name))


def their_plans(encoder: str, dims: int, **changes: object) -> dict:
    """Return plans.json for `their_weights`, with fields of its configuration changed."""
    kernels = [[1, *[3] * (dims - 1)], [3] * dims, [3] * dims]
    strides = [[1] * dims, [1, *[2] * (dims - 1)], [2] * dims]
    spline = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "batch_size": 2,
        "patch_size": [8, 12, 12][-dims:],
        "median_image_size_in_voxels": [10, 14, 13][-dims:],
        "spacing": [2.0, 1.0, 1.0][-dims:],
        "normalization_schemes": ["ZScoreNormalization", "CTNormalization"],
        "use_mask_for_norm": [True, False],
        "resampling_fn_data": RESAMPLE,
        "resampling_fn_probabilities": RESAMPLE,
        "resampling_fn_data_kwargs": spline,
        "resampling_fn_probabilities_kwargs": {**spline, "order": 1},
        "architecture": {
            "network_class_name": ARCHITECTURES[encoder],
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": list(FEATURES),
                "kernel_sizes": kernels,
                "strides": strides,
                BLOCK_FIELDS[encoder]: [2, 2, 2] if encoder == "plain" else [1, 2, 2],
                "n_conv_per_stage_decoder": [2, 2] if encoder == "plain" else [1, 1],
                "conv_bias": True,
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
        },
        **changes,
    }
    name = "2d" if dims == 2 else "3d_fullres"
    return {
        "dataset_name": "Dataset007_Made",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.0, 1.0, 1.0],
        "original_median_shape_after_transp": [10, 14, 13],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {
            "1": {"mean": 50.0, "std": 20.0, "percentile_00_5": 10.0, "percentile_99_5": 90.0}
        },
        "configurations": {name: configuration},
    }


THEIR_DATASET = {
    "channel_names": {"0": "T1", "1": "CT"},
    "labels": {"background": 0, "liver": 1, "spleen": 2},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}


def write_nnunet(
    root: Path,
    plans: Mapping[str, object],
    folds: Mapping[str, Mapping[str, Tensor]],
    dataset: Mapping[str, object] = THEIR_DATASET,
) -> Path:
    """Write trained folds as nnU-Net does, numpy's numbers in them, and return their folder."""
    (configuration,) = plans["configurations"]  # type: ignore[misc]
    folder = root / "Dataset007_Made" / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    for name, weights in folds.items():
        (folder / f"fold_{name}").mkdir(parents=True)
        checkpoint = {
            "network_weights": dict(weights),
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": configuration, "device": torch.device("cpu")},
            "inference_allowed_mirroring_axes": (0, 1),
            "logging": {"mean_fg_dice": [np.float32(0.5)], "ema": [np.float64(0.25)]},
            "_best_ema": np.float64(0.25),
        }
        torch.save(checkpoint, folder / f"fold_{name}" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    return folder

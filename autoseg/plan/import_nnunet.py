"""What nnU-Net's `plans.json` and `dataset.json` say, in our records."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from autoseg.errors import PlanError
from autoseg.plan.export_nnunet import ARCHITECTURES, BLOCK_FIELDS, RESAMPLE, SCHEME_NAMES
from autoseg.record import NetworkPlan, StagePlan
from autoseg.runtime.geometry import Unit
from autoseg.runtime.recipe import Channel, Labels, Recipe, Region

READERS: dict[str, Unit] = {
    "SimpleITKIO": "mm",
    "NibabelIO": "mm",
    "NaturalImage2DIO": "pixel",
}
"""Readers that see an image as we read it, and the unit of its spacing."""
PICTURE_RATIO = 500.0
"""nnU-Net reads a 2D image as a volume of one slice, 999 times thicker than a pixel is wide."""
COARSE_RATIO = 3.0
"""nnU-Net's constant for an axis that is resampled alone."""
NEVER = 1e9
"""A ratio of spacings that no image has."""
OVERLAP = 0.5
"""`nnUNetv2_predict` moves the window by half a patch."""
SLOPE = 0.01


@dataclass(frozen=True, kw_only=True)
class ImportedPlan:
    """One configuration of nnU-Net's, as far as it matters after training."""

    dataset_name: str
    plans_name: str
    configuration: str
    channels: tuple[str, ...]
    labels: Labels
    decision: Literal["largest", "regions"]
    """How logits become labels (see `autoseg.runtime.manifest.Configuration`)."""
    file_ending: str
    unit: Unit
    recipe: Recipe
    network: NetworkPlan
    patch_size: tuple[int, ...]
    median_shape: tuple[float, ...]
    """Of the prepared cases, axes of the image."""


def read_plans(
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
    configuration: str,
    mirror_axes: Sequence[int] | None,
) -> ImportedPlan:
    """Return what nnU-Net planned for a configuration.

    Parameters
    ----------
    plans, dataset
        The content of `plans.json` and `dataset.json`.
    mirror_axes
        `inference_allowed_mirroring_axes` of the checkpoint.

    Raises
    ------
    PlanError
        A field is missing, or asks for something that autoseg does not do as nnU-Net does.
    """
    try:
        return _read(plans, dataset, configuration, tuple(mirror_axes or ()))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PlanError(
            found=f"plans.json or dataset.json of {configuration}: {type(error).__name__} {error}",
            expected="both files as nnU-Net 2 writes them beside its checkpoints",
            fix="copy them again from the folder that nnU-Net trained in",
        ) from None


def _read(
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
    name: str,
    mirror_axes: tuple[int, ...],
) -> ImportedPlan:
    planned = _configuration(plans, name)
    _refuse_cascade(planned, name)
    reader = plans["image_reader_writer"]
    _require(reader in READERS, f"image_reader_writer {reader}", f"{', '.join(READERS)}")
    declared = dataset.get("channel_names") or dataset["modality"]
    channels = tuple(str(declared[key]) for key in sorted(declared, key=int))
    labels, decision = _labels(dataset)
    num_outputs = len(labels.values) - (decision == "regions")
    median = planned.get("median_image_size_in_voxels", planned["patch_size"])
    transpose, is_picture = _transpose(plans)
    dims = len(planned["patch_size"])
    slices = [] if dims == len(transpose) else [plans["original_median_shape_after_transp"][0]]
    return ImportedPlan(
        dataset_name=str(plans["dataset_name"]),
        plans_name=str(plans["plans_name"]),
        configuration=name,
        channels=channels,
        labels=labels,
        decision=decision,
        file_ending=str(dataset["file_ending"]),
        unit="pixel" if is_picture and reader == "NaturalImage2DIO" else READERS[reader],
        recipe=_recipe(plans, planned, channels, transpose, mirror_axes),
        network=_network(_architecture(planned), len(channels), num_outputs),
        patch_size=tuple(int(size) for size in planned["patch_size"]),
        median_shape=(*map(float, slices), *(float(size) for size in median[-dims:])),
    )


def _require(holds: bool, found: str, expected: str) -> None:  # noqa: FBT001
    """Refuse what an import would not reproduce."""
    if not holds:
        raise PlanError(
            found=f"nnU-Net's plan with {found}",
            expected=expected,
            fix="predict with nnU-Net, or train the data set with `autoseg plan DATASET` and "
            "`autoseg train`",
        )


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a configuration with everything that it inherits."""
    known = plans["configurations"]
    _require(name in known, f"no configuration {name}", f"one of {', '.join(known)}")
    chain = [known[name]]
    while "inherits_from" in chain[-1] and len(chain) <= len(known):
        chain.append(known[chain[-1]["inherits_from"]])
    merged: dict[str, Any] = {}
    for item in reversed(chain):
        merged |= item
    return merged


def _refuse_cascade(planned: Mapping[str, Any], name: str) -> None:
    if planned.get("previous_stage"):
        raise PlanError(
            found=f"configuration {name}, which needs the labels that {planned['previous_stage']} "
            "predicts as input",
            expected="a configuration that takes images alone: 2d, 3d_fullres or 3d_lowres",
            fix=f"import the folder of {planned['previous_stage']} or of 3d_fullres",
        )


def _labels(dataset: Mapping[str, Any]) -> tuple[Labels, Literal["largest", "regions"]]:
    """Return the classes of the network's outputs, or those that its regions are painted as."""
    declared = dict(dataset["labels"])
    ignore = declared.pop("ignore", None)
    if any(isinstance(value, (list, tuple)) and len(value) > 1 for value in declared.values()):
        return _painted_labels(dataset, declared, ignore), "regions"
    values = {
        name: int(value[0] if isinstance(value, (list, tuple)) else value)
        for name, value in declared.items()
    }
    order = sorted(values, key=values.__getitem__)
    _require(
        [values[name] for name in order] == list(range(len(order))),
        f"the label values {sorted(values.values())}",
        "0, 1, 2, ...",
    )
    return Labels(names=tuple(order), values=tuple(range(len(order))), ignore=ignore), "largest"


def _painted_labels(
    dataset: Mapping[str, Any], declared: Mapping[str, Any], ignore: int | None
) -> Labels:
    """Return background, and one class a region: what is painted where that region wins."""
    regions = {
        name: {int(item) for item in (value if isinstance(value, (list, tuple)) else [value])}
        for name, value in declared.items()
    }
    regions = {name: values for name, values in regions.items() if values != {0}}
    order = tuple(int(value) for value in dataset["regions_class_order"])
    _require(
        len(order) == len(regions) == len(set(order)) and 0 not in order,
        f"regions_class_order {list(order)} for {len(regions)} regions",
        "one value a region, all different, none 0",
    )
    values = (0, *order)
    return Labels(
        names=("background", *regions),
        values=values,
        ignore=ignore,
        regions=tuple(
            Region(name=name, classes=tuple(i for i, v in enumerate(values) if v in members))
            for name, members in regions.items()
        ),
    )


def _transpose(plans: Mapping[str, Any]) -> tuple[tuple[int, ...], bool]:
    """Return the order of the image's axes, and whether images are pictures of two axes."""
    forward = tuple(int(axis) for axis in plans["transpose_forward"])
    spacing = plans.get("original_median_spacing_after_transp")
    is_picture = plans["image_reader_writer"] == "NaturalImage2DIO" or (
        spacing is not None and spacing[0] / max(spacing[1:]) > PICTURE_RATIO
    )
    if not is_picture:
        return forward, False
    _require(forward[0] == 0, f"transpose_forward {list(forward)} of pictures", "0 first")
    return tuple(axis - 1 for axis in forward[1:]), True


def _recipe(
    plans: Mapping[str, Any],
    planned: Mapping[str, Any],
    channels: Sequence[str],
    transpose: tuple[int, ...],
    mirror_axes: tuple[int, ...],
) -> Recipe:
    order, ratio = _resampling(planned, "resampling_fn_data", (1, 3))
    _, back = _resampling(planned, "resampling_fn_probabilities", (1,))
    _require(ratio == back, "other rules for resampling images than for logits", "the same rules")
    known = plans.get("foreground_intensity_properties_per_channel") or plans.get(
        "foreground_intensity_properties_by_modality", {}
    )
    schemes = zip(
        channels, planned["normalization_schemes"], planned["use_mask_for_norm"], strict=True
    )
    return Recipe(
        transpose=transpose,
        spacing=tuple(float(value) for value in planned["spacing"][-len(planned["patch_size"]) :]),
        channels=tuple(
            _channel(name, scheme, known.get(str(index), {}), uses_mask=bool(mask))
            for index, (name, scheme, mask) in enumerate(schemes)
        ),
        order="normalise-resample",
        spline_order=order,
        coarse_ratio=ratio,
        padding="zero",
        overlap=OVERLAP,
        mirror_axes=mirror_axes,
        test_time_mirroring=bool(mirror_axes),
    )


def _resampling(
    planned: Mapping[str, Any], field: str, orders: tuple[int, ...]
) -> tuple[int, float]:
    """Return the order of the spline, and from which ratio an axis is resampled alone."""
    words = planned.get(f"{field}_kwargs", {})
    function, order = planned.get(field, RESAMPLE), words.get("order", orders[-1])
    separate = words.get("force_separate_z")
    _require(function == RESAMPLE, f"{field} {function}", RESAMPLE)
    _require(order in orders, f"{field} of order {order}", f"order {orders}")
    _require(
        words.get("order_z", 0) == 0, f"{field} of order_z {words.get('order_z')}", "order_z 0"
    )
    _require(separate is not True, f"{field} with force_separate_z true", "null or false")
    return int(order), COARSE_RATIO if separate is None else NEVER


def _channel(name: str, scheme: str, known: Mapping[str, Any], *, uses_mask: bool) -> Channel:
    schemes = {theirs: ours for ours, theirs in SCHEME_NAMES.items()}
    _require(scheme in schemes, f"the normalisation {scheme}", f"{', '.join(schemes)}")
    if schemes[scheme] == "ct":
        return Channel(
            name=name,
            scheme="ct",
            lower=float(known["percentile_00_5"]),
            upper=float(known["percentile_99_5"]),
            mean=float(known["mean"]),
            std=max(float(known["std"]), 1e-8),
        )
    constants = {"rgb": (0.0, 255.0), "none": (0.0, 1.0)}.get(schemes[scheme], (None, None))
    return Channel(
        name=name,
        scheme=schemes[scheme],  # type: ignore[arg-type]
        mean=constants[0],
        std=constants[1],
        use_mask=uses_mask and schemes[scheme] == "zscore",
    )


def _architecture(planned: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the description of the network, that of older plans in today's form."""
    if "architecture" in planned:
        return planned["architecture"]
    blocks = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
    kind = planned["UNet_class_name"]
    _require(kind in blocks, f"the network {kind}", f"{', '.join(blocks)}")
    counts = planned["n_conv_per_stage_encoder"]
    base, most = planned["UNet_base_num_features"], planned["unet_max_num_features"]
    return {
        "network_class_name": ARCHITECTURES[blocks[kind]],
        "arch_kwargs": {
            "features_per_stage": [min(base * 2**i, most) for i in range(len(counts))],
            "kernel_sizes": planned["conv_kernel_sizes"],
            "strides": planned["pool_op_kernel_sizes"],
            BLOCK_FIELDS[blocks[kind]]: counts,
            "n_conv_per_stage_decoder": planned["n_conv_per_stage_decoder"],
        },
    }


def _network(architecture: Mapping[str, Any], num_channels: int, num_outputs: int) -> NetworkPlan:
    kind = str(architecture["network_class_name"]).rpartition(".")[2]
    encoders = {path.rpartition(".")[2]: encoder for encoder, path in ARCHITECTURES.items()}
    _require(kind in encoders, f"the network {kind}", f"{' or '.join(encoders)}")
    words = architecture["arch_kwargs"]
    _refuse_other_layers(words)
    features = [int(value) for value in words["features_per_stage"]]
    decoder = words["n_conv_per_stage_decoder"]
    decoder = [decoder] * (len(features) - 1) if isinstance(decoder, int) else list(decoder)
    _require(len(set(decoder)) == 1, f"n_conv_per_stage_decoder {decoder}", "equal numbers")
    blocks = words[BLOCK_FIELDS[encoders[kind]]]
    blocks = [blocks] * len(features) if isinstance(blocks, int) else blocks
    shapes = zip(features, words["kernel_sizes"], words["strides"], blocks, strict=True)
    return NetworkPlan(
        encoder=encoders[kind],  # type: ignore[arg-type]
        in_channels=num_channels,
        num_classes=num_outputs,
        stages=tuple(
            StagePlan(
                features=width,
                kernel_size=tuple(map(int, kernel)),
                strides=tuple(map(int, stride)),
                num_blocks=int(count),
            )
            for width, kernel, stride, count in shapes
        ),
        decoder_convs=int(decoder[0]),
        num_supervised=len(features) - 1,
    )


def _refuse_other_layers(words: Mapping[str, Any]) -> None:
    """Refuse layers that our networks do not have."""
    norm = words.get("norm_op_kwargs") or {}
    activation = words.get("nonlin_kwargs") or {}
    allowed = {
        "conv_bias": words.get("conv_bias", True) is True,
        "norm_op": "InstanceNorm" in str(words.get("norm_op", "InstanceNorm")),
        "norm_op_kwargs": math.isclose(norm.get("eps", 1e-5), 1e-5) and norm.get("affine", True),
        "dropout_op": words.get("dropout_op") is None,
        "nonlin": str(words.get("nonlin", "LeakyReLU")).endswith("LeakyReLU"),
        "nonlin_kwargs": math.isclose(activation.get("negative_slope", SLOPE), SLOPE),
        "nonlin_first": not words.get("nonlin_first", False),
        "kernel_sizes": all(size % 2 for kernel in words["kernel_sizes"] for size in kernel),
        "block": "Bottleneck" not in str(words.get("block", "")),
        "bottleneck_channels": words.get("bottleneck_channels") is None,
        "stem_channels": words.get("stem_channels") in (None, words["features_per_stage"][0]),
    }
    for field, holds in allowed.items():
        _require(
            bool(holds),
            f"{field} {words.get(field)}",
            "convolutions with bias and odd kernels, InstanceNorm with weights, LeakyReLU of slope "
            f"{SLOPE}, no dropout, basic blocks",
        )

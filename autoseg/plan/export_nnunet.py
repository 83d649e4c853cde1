"""A plan in the form of nnU-Net's `nnUNetPlans.json`."""

import json
from typing import Any

from autoseg.errors import PlanError
from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.plan.plan import ConfigurationPlan, Plan

SCHEME_NAMES = {
    "zscore": "ZScoreNormalization",
    "ct": "CTNormalization",
    "none": "NoNormalization",
    "unit": "RescaleTo01Normalization",
    "rgb": "RGBTo01Normalization",
}
ARCHITECTURES = {
    "plain": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "residual": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
}
BLOCK_FIELDS = {"plain": "n_conv_per_stage", "residual": "n_blocks_per_stage"}
RESAMPLE = "resample_data_or_seg_to_shape"


def nnunet_json(plan: Plan, fingerprint: Fingerprint) -> str:
    """Return the text of nnUNetPlans.json.

    Raises
    ------
    PlanError
        The plan has what nnU-Net has not.
    """
    return json.dumps(to_nnunet(plan, fingerprint), indent=2, sort_keys=True) + "\n"


def to_nnunet(plan: Plan, fingerprint: Fingerprint) -> dict[str, Any]:
    """Return nnU-Net's plans of a plan: what it trains differs only in order and padding.

    Raises
    ------
    PlanError
        The plan has what nnU-Net has not.
    """
    if fingerprint.dimensions == 1:
        raise PlanError(
            found=f"{plan.dataset_name}: images with 1 axis",
            expected="images with 2 or 3 axes: nnU-Net has no 1D",
            fix="leave out --export-nnunet",
        )
    first = plan.configurations[0].recipe
    transpose = list(first.transpose)
    if len(transpose) == 2:  # nnU-Net sees a 2D image as a volume of one slice
        transpose = [0, *(axis + 1 for axis in transpose)]
    return {
        "dataset_name": plan.dataset_name,
        "plans_name": "nnUNetPlans",
        "experiment_planner_used": f"autoseg {plan.planner}",
        "label_manager": "LabelManager",
        "image_reader_writer": "SimpleITKIO" if plan.unit == "mm" else "NaturalImage2DIO",
        "transpose_forward": transpose,
        "transpose_backward": [transpose.index(axis) for axis in range(len(transpose))],
        "foreground_intensity_properties_per_channel": {
            str(index): known.model_dump() for index, known in enumerate(fingerprint.intensities)
        },
        "configurations": {item.name: _configuration(plan, item) for item in plan.configurations},
    }


def _configuration(plan: Plan, item: ConfigurationPlan) -> dict[str, Any]:
    if item.previous_stage is not None:
        return {"inherits_from": item.inherits_from, "previous_stage": item.previous_stage}
    architecture = _architecture(item)
    following = [other.name for other in plan.configurations if other.previous_stage == item.name]
    spline = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    return {
        "data_identifier": f"nnUNetPlans_{item.name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": item.batch_size,
        "patch_size": list(item.patch_size),
        "median_image_size_in_voxels": list(item.median_shape),
        "spacing": list(item.recipe.spacing),
        "normalization_schemes": [SCHEME_NAMES[c.scheme] for c in item.recipe.channels],
        "use_mask_for_norm": [c.use_mask for c in item.recipe.channels],
        "resampling_fn_data": RESAMPLE,
        "resampling_fn_seg": RESAMPLE,
        "resampling_fn_probabilities": RESAMPLE,
        "resampling_fn_data_kwargs": {**spline, "order": item.recipe.spline_order},
        "resampling_fn_seg_kwargs": {**spline, "is_seg": True, "order": 1},
        "resampling_fn_probabilities_kwargs": {**spline, "order": 1},
        "batch_dice": item.training.batch_dice,
        "architecture": architecture,
        **({"next_stage": following[0]} if following else {}),
    }


def _architecture(item: ConfigurationPlan) -> dict[str, Any]:
    network = item.network
    if network.encoder not in ARCHITECTURES or network.variants:
        words = {"encoder": network.encoder, **network.variants}
        raise PlanError(
            found=f"{item.name}.network with {', '.join(f'{k}={v}' for k, v in words.items())}",
            expected=f"nnU-Net's: encoder {' or '.join(ARCHITECTURES)}, no variant",
            fix="leave out --export-nnunet, or the --set that changes the network",
        )
    stages, dims = network.stages, network.dimensions
    return {
        "network_class_name": ARCHITECTURES[network.encoder],
        "arch_kwargs": {
            "n_stages": len(stages),
            "features_per_stage": [stage.features for stage in stages],
            "kernel_sizes": [list(stage.kernel_size) for stage in stages],
            "strides": [list(stage.strides) for stage in stages],
            BLOCK_FIELDS[network.encoder]: [stage.num_blocks for stage in stages],
            "n_conv_per_stage_decoder": [network.decoder_convs] * (len(stages) - 1),
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }

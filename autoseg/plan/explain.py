"""Reasons in words: the decisions that `autoseg plan` prints as a table."""

from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.plan.compose import decision, text
from autoseg.plan.family import Family, Fitted
from autoseg.plan.plan import ConfigurationPlan, Decision
from autoseg.plan.rules import MASK_THRESHOLD, Grid, channels
from autoseg.plan.sizing import Limits, Sized

SCHEME_REASONS = {
    "ct": "CT numbers mean the same in every image: constants of the whole data set.",
    "zscore": "Brightness differs from image to image: mean and deviation of each image.",
    "unit": "The channel's name asks for each image's range to become 0 to 1.",
    "rgb": "Colour values of 0 to 255 become 0 to 1.",
    "none": "The channel's name asks for raw values.",
}


SIGNAL_REASONS = {
    **SCHEME_REASONS,
    "zscore": "Offset and amplitude differ from signal to signal: mean and deviation of each.",
}


def explain_grid(fingerprint: Fingerprint, grid: Grid) -> list[Decision]:
    """Return the decisions that hold for all configurations."""
    is_signal = len(grid.spacing) == 1
    coarse = "; a coarse axis with few slices keeps its finer cases"
    found = [
        decision(
            "spacing",
            f"{text(grid.spacing)} {fingerprint.unit}",
            rule="target_spacing",
            reason=f"The median over cases{'' if is_signal else coarse}.",
            num_cases=grid.num_cases,
        )
    ]
    if not is_signal:
        found.append(_explain_axes(grid))
    return found + _explain_channels(fingerprint)


def _explain_axes(grid: Grid) -> Decision:
    moved = grid.transpose != tuple(range(len(grid.transpose)))
    return decision(
        "axes",
        ", ".join(str(axis) for axis in grid.transpose),
        rule="transpose_axes",
        reason=(
            "The coarsest axis goes first." if moved else "The coarsest axis already is the first."
        ),
        spacing=grid.spacing,
    )


def _explain_channels(fingerprint: Fingerprint) -> list[Decision]:
    kept = fingerprint.median_relative_size_after_cropping
    found = []
    by_name = {channel.name: channel for channel in channels(fingerprint)}  # "rgb_to_0_1" thrice
    for channel in by_name.values():
        reasons = SCHEME_REASONS if fingerprint.dimensions > 1 else SIGNAL_REASONS
        reason = reasons[channel.scheme]
        if channel.use_mask:
            reason += f" Cropping leaves less than {MASK_THRESHOLD:.0%}: zeros are not counted."
        found.append(
            decision(
                f"normalisation of {channel.name}",
                channel.scheme,
                rule="channels",
                reason=reason,
                left_after_cropping=kept,
            )
        )
    return found


def explain_configuration(
    item: ConfigurationPlan, fitted: Fitted, family: Family, memory_bytes: int
) -> list[Decision]:
    """Return the decisions about one configuration that memory and data led to."""
    name, network = item.name, item.network
    return [
        decision(
            f"{name}.patch_size",
            item.patch_size,
            rule="fit_topology",
            reason="The largest part of the median image that the memory target holds.",
            median_shape=item.median_shape,
            memory=f"{memory_bytes / 1e9:.3g} GB",
            feature_values=fitted.values,
        ),
        decision(
            f"{name}.network",
            network.extent,
            rule="topology",
            reason="Axes are halved while they stay at least 4 voxels and similar in spacing.",
            spacing=item.recipe.spacing,
            encoder=family.encoder,
        ),
        decision(
            f"{name}.batch_size",
            item.batch_size,
            rule="batch_size",
            reason=_batch_reason(fitted, family),
            affordable=round(fitted.affordable_batch),
            largest=fitted.largest_batch,
        ),
        decision(
            f"{name}.train_by_default",
            item.train_by_default,
            rule="train_by_default",
            reason=item.why,
        ),
    ]


def explain_sized(item: ConfigurationPlan, sized: Sized, limits: Limits) -> list[Decision]:
    """Return the decisions about one configuration that the time and the memory led to."""
    name, network = item.name, item.network
    return [
        decision(
            f"{name}.patch_size",
            item.patch_size,
            rule="fit_budget",
            reason=sized.patch_reason,
            median_shape=item.median_shape,
            memory=f"{limits.memory_bytes / 1e9:.3g} GB",
        ),
        decision(
            f"{name}.network",
            network.extent,
            rule="fit_budget",
            reason=sized.width_reason,
            step=f"{sized.step_seconds:.2g} s",
            steps=int(limits.seconds / sized.step_seconds),
        ),
        decision(
            f"{name}.batch_size",
            item.batch_size,
            rule="fit_budget",
            reason=sized.batch_reason,
            largest=sized.largest_batch,
        ),
        decision(
            f"{name}.train_by_default",
            item.train_by_default,
            rule="preference",
            reason=item.why,
        ),
    ]


def _batch_reason(fitted: Fitted, family: Family) -> str:
    if round(fitted.affordable_batch) < fitted.batch_size:
        return "Two images are the least that a step may see."
    if fitted.batch_size == round(fitted.affordable_batch):
        return "What the memory target leaves after the patch."
    if fitted.batch_size == fitted.largest_batch:
        return f"More would show the network over {family.max_covered:.0%} of the data in one step."
    return "The data set is small: two images are the least that a step may see."

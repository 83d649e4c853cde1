"""Does an exported network give what the trained one gives? Measured on real cases.

Letters in shapes: C channels, K classes, S' axes of the prepared array.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.formats.registry import find_format
from autoseg.errors import ExportError
from autoseg.infer.predict import predict_prepared, torch_network
from autoseg.network.execution import Execution
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.runtime.cascade import find_previous
from autoseg.runtime.images import Image
from autoseg.runtime.manifest import Configuration, Parity
from autoseg.runtime.model import Effort, TileNetwork, predict_logits
from autoseg.runtime.normalise import network_input, normalise
from autoseg.runtime.prepare import Prepared, prepare
from autoseg.runtime.recipe import Channel
from autoseg.runtime.restore import decide_labels, restore_labels, to_probabilities

NUM_CASES = 2
REGION = 1.5
"""Compared of each case: its middle, up to this many patches along an axis, so with blending."""
NUM_SLICES = 3
"""Along axes that the network lacks."""
MIN_AGREEMENT = 0.999
MAX_DIFFERENCE = 1e-3
"""Of probabilities, in fp32."""
MIN_REDUCED_AGREEMENT = 0.995
"""In reduced precision, which is offered only above this."""
CPU = Execution(device="cpu", precision="fp32")
PLAIN = Effort(1.0, "never")
FURTHER = Channel(name="previous stage", scheme="none")
"""A class that the previous stage may have found."""


@dataclass(frozen=True)
class Sample:
    """The middle of a real case, with the logits (K, *S') of the training framework."""

    part: Prepared
    expected: NDArray[np.float32]


def draw_samples(
    dataset: Dataset,
    case_ids: Sequence[str],
    plan: Plan,
    name: str,
    folds: Mapping[str, Sequence[nn.Module]],
) -> list[Sample]:
    """Return the first few of the cases, predicted as in the validation of training.

    Parameters
    ----------
    name
        Of the configuration.
    folds
        Trained networks, by the names of configurations: also of the stages before.
    """
    cases = {case.id: case for case in dataset.cases}
    configuration = plan.configuration(name)
    samples = []
    for case_id in case_ids[:NUM_CASES]:
        image = find_format(dataset.layout).read_image(dataset, cases[case_id])
        part = _middle(_prepared(image, plan, configuration, folds), configuration.patch_size)
        samples.append(Sample(part, _expected(part, configuration, folds[name])))
    return samples


def _prepared(
    image: Image,
    plan: Plan,
    configuration: ConfigurationPlan,
    folds: Mapping[str, Sequence[nn.Module]],
) -> Prepared:
    """Return an image as a configuration takes it, with what the stages before find in it."""
    recipe, spacing = configuration.recipe, image.geometry.spacing
    part = prepare(image.array, spacing, recipe)
    if configuration.previous_stage is None:
        return part
    before = plan.configuration(configuration.previous_stage)
    seen = _prepared(image, plan, before, folds)
    found = restore_labels(_expected(seen, before, folds[before.name]), seen.placement)
    previous = find_previous(
        found,
        part.placement,
        recipe,
        spacing,
        num_classes=len(plan.labels.values),
        margin=None,  # networks are compared everywhere
    )
    return replace(part, previous=previous)


def _expected(
    part: Prepared, configuration: ConfigurationPlan, folds: Sequence[nn.Module]
) -> NDArray[np.float32]:
    return predict_prepared(
        folds,
        network_input(part, configuration.recipe),
        configuration,
        execution=CPU,
        mirror_axes=(),
        previous=part.previous,
    )


def draw_sample(image: Image, configuration: Configuration, folds: Sequence[nn.Module]) -> Sample:
    """Return an image as it is, predicted by the training framework."""
    part = prepare(image.array, image.geometry.spacing, configuration.recipe)
    network = reference_network(folds, configuration)
    return Sample(part, predict_logits(part, configuration, network, PLAIN))


def _middle(part: Prepared, patch_size: Sequence[int]) -> Prepared:
    shape = part.array.shape[1:]
    slices = len(shape) - len(patch_size)
    most = [NUM_SLICES] * slices + [int(REGION * size) for size in patch_size]
    starts = [max(0, (size - limit) // 2) for size, limit in zip(shape, most, strict=True)]
    index = tuple(slice(start, start + limit) for start, limit in zip(starts, most, strict=True))
    previous = part.previous
    if previous is not None:
        previous = replace(previous, labels=previous.labels[index])
    array = np.ascontiguousarray(part.array[(slice(None), *index)])
    return replace(part, array=array, previous=previous)


def compare(
    samples: Sequence[Sample], configuration: Configuration, network: TileNetwork, backend: str
) -> Parity:
    """Return how well a network agrees with the training framework on the samples."""
    equal, total, difference = 0, 0, 0.0
    for sample in samples:
        found = predict_logits(sample.part, configuration, network, PLAIN)
        chances, expected = (
            to_probabilities(np.array(logits), configuration.decision)
            for logits in (found, sample.expected)
        )
        labels = (decide_labels(item, configuration.decision) for item in (chances, expected))
        same = np.equal(*labels)
        equal, total = equal + int(same.sum()), total + same.size
        gap = np.abs(chances - expected)
        difference = float(np.maximum(difference, gap.max()))  # unlike max, keeps NaN
    return Parity(
        backend=backend,  # type: ignore[arg-type]
        num_cases=len(samples),
        num_voxels=total,
        label_agreement=equal / max(1, total),
        max_probability_difference=difference,
    )


def require_parity(parity: Parity, name: str) -> None:
    """Refuse an export in fp32 that disagrees with the training framework.

    Raises
    ------
    ExportError
        Labels or probabilities differ too much, or are not numbers.
    """
    agrees = parity.label_agreement >= MIN_AGREEMENT
    if agrees and parity.max_probability_difference <= MAX_DIFFERENCE:
        return
    raise ExportError(
        found=f"the {parity.backend} export of {name} agrees with the training framework on "
        f"{parity.label_agreement:.4%} of the voxels, with probabilities up to "
        f"{parity.max_probability_difference:.2e} apart",
        expected=f"at least {MIN_AGREEMENT:.1%}, and at most {MAX_DIFFERENCE:.0e}",
        fix="check that onnxruntime and torch are releases that autoseg supports, then run "
        "`autoseg export` again; nothing was written",
    )


def reference_network(folds: Sequence[nn.Module], configuration: Configuration) -> TileNetwork:
    """Return the training framework's path behind the interface of an exported graph."""
    predict = torch_network(folds, CPU.device, CPU.precision)
    channels = configuration.recipe.channels
    bounded = configuration.input == "raw"
    free = tuple(replace(channel, lower=None, upper=None) for channel in channels)
    given = channels if bounded else free

    def run(
        tile: NDArray[np.float32], mean: NDArray[np.float32], std: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        further = (FURTHER,) * (tile.shape[1] - len(given))
        apply = partial(normalise, channels=given + further)
        rows = [apply(*row) for row in zip(tile, mean, std, strict=True)]
        return predict(np.stack(rows))

    return run

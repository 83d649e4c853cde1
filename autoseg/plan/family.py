"""Families of networks and how one is fitted to memory: what nnU-Net's planners have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from autoseg.plan.memory import feature_values
from autoseg.plan.rules import batch_size, largest_batch
from autoseg.plan.topology import Topology, first_patch, fit_topology
from autoseg.plan.training import num_supervised
from autoseg.record import NetworkPlan, StagePlan

REFERENCE_BATCH = {2: 12, 3: 2}
"""Images a step of the reference networks, by number of axes."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """The constants of a family; mappings go by the number of axes."""

    encoder: Literal["plain", "residual"]
    blocks: tuple[int, ...]
    """Convolutions or residual blocks of each stage; the last entry repeats."""
    decoder_convs: int
    base_features: int = 32
    """Of the first stage; each further stage doubles them."""
    max_features: Mapping[int, int]
    reference_values: Mapping[int, float]
    """Feature values of one image when `REFERENCE_BATCH` images fill `reference_bytes`."""
    reference_bytes: int
    fitted_batch: Mapping[int, int]
    """Images a step for which the patch must fit into memory."""
    max_covered: float
    """Largest part of the data set in one batch."""
    max_supervised: int = 99
    """Largest number of resolutions with a head."""


@dataclass(frozen=True)
class Facts:
    """What the data say about a network's ends."""

    in_channels: int
    num_classes: int
    num_outputs: int
    """Entries of the label table: the classes, and the ignore label where there is one."""


@dataclass(frozen=True)
class Fitted:
    """A network with the patch and the batch that fill the memory."""

    topology: Topology
    network: NetworkPlan
    values: int
    """Feature values of one image."""
    affordable_batch: float
    largest_batch: int
    batch_size: int

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Patch of the topology."""
        return self.topology.patch_size


def network_of(family: Family, found: Topology, facts: Facts) -> NetworkPlan:
    """Return the family's network of a given topology."""
    dims, last = len(found.patch_size), len(family.blocks) - 1
    stages = tuple(
        StagePlan(
            features=min(family.max_features[dims], family.base_features * 2**index),
            kernel_size=kernel,
            strides=strides,
            num_blocks=family.blocks[min(index, last)],
        )
        for index, (kernel, strides) in enumerate(zip(found.kernels, found.strides, strict=True))
    )
    return NetworkPlan(
        encoder=family.encoder,
        in_channels=facts.in_channels,
        num_classes=facts.num_classes,
        stages=stages,
        decoder_convs=family.decoder_convs,
        num_supervised=min(family.max_supervised, num_supervised(len(stages))),
    )


def memory_values(family: Family, dims: int, memory_bytes: int) -> float:
    """Return the feature values of `REFERENCE_BATCH` images' share that fit into a memory."""
    return family.reference_values[dims] * (memory_bytes / family.reference_bytes)


def fit_network(
    family: Family,
    facts: Facts,
    memory_bytes: int,
    *,
    spacing: Sequence[float],
    median_shape: Sequence[float],
    num_voxels: float,
) -> Fitted:
    """Return the family's largest patch for a memory, its network, and the batch that is left.

    Parameters
    ----------
    family, facts, memory_bytes
        The family, the ends of its networks, and the memory that one fold may fill.
    spacing, median_shape
        Of the prepared cases, axes of the network.
    num_voxels
        Of the data set at this spacing.
    """
    dims = len(spacing)
    reference = memory_values(family, dims, memory_bytes)
    found = fit_topology(
        spacing,
        median_shape,
        start=first_patch(spacing, median_shape),
        is_too_large=_too_large(family, facts, reference),
    )
    network = network_of(family, found, facts)
    values = feature_values(network, found.patch_size, facts.num_outputs)
    affordable = reference / values * REFERENCE_BATCH[dims]
    largest = largest_batch(num_voxels, found.patch_size, family.max_covered)
    return Fitted(found, network, values, affordable, largest, batch_size(affordable, largest))


def _too_large(family: Family, facts: Facts, reference: float) -> Callable[[Topology], bool]:
    def is_too_large(found: Topology) -> bool:
        dims = len(found.patch_size)
        network = network_of(family, found, facts)
        values = feature_values(network, found.patch_size, facts.num_outputs)
        return values / REFERENCE_BATCH[dims] * family.fitted_batch[dims] > reference

    return is_too_large

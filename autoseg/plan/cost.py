"""What a configuration costs: parameters, operations, time, memory, disk."""

from collections.abc import Sequence

from autoseg.machine import Device, Machine
from autoseg.plan.counting import forward_operations, num_parameters
from autoseg.plan.memory import training_memory
from autoseg.plan.plan import Cost
from autoseg.record import NetworkPlan

TRAINING_FACTOR = 3.0
"""A step is one forward pass and a backward pass that costs two."""
CPU_EFFICIENCY = {
    ("bf16", 1): 1.0,
    ("bf16", 2): 0.65,
    ("bf16", 3): 1.0,
    ("fp32", 1): 0.6,
    ("fp32", 2): 0.3,
    ("fp32", 3): 0.5,
}
"""Training throughput over that of a float32 matrix product, by precision and number of axes.
Measured on two cores with AVX512-BF16: matrix product 2.0e11/s; networks alone 2.6e11 (3D) and
1.5e11 (2D) in bfloat16, 1.2e11 (3D) in float32; data and optimiser take the rest. In 1D, on one
core: matrix product 9e10, networks 1.1e11 to 1.5e11 in bfloat16, 5.5e10 to 7e10 in float32."""
GPU_FLOPS = {
    "H200": 4.5e13,
    "H100": 4.0e13,
    "A100": 2.3e13,
    "L40": 2.2e13,
    "4090": 2.5e13,
    "3090": 1.5e13,
    "V100": 1.4e13,
    "2080": 1.0e13,
    "T4": 5.0e12,
}
"""Operations a second that 3D U-Nets should reach in half precision, by a part of the device's
name: estimates, not measured; the probe before training corrects them."""
OTHER_GPU_FLOPS = 1.0e13
"""The same where the name says nothing."""
STEP_OVERHEAD_S = {"cuda": 0.015, "mps": 0.03, "cpu": 0.02}
"""Time of a step that does not shrink with the network: calls, optimiser, loss."""
PREPARED_VALUE_BYTES = 1.6
"""float16 images after lossless compression, bytes a value."""
PREPARED_LABEL_BYTES = 0.1
"""Label maps compress well: bytes a voxel."""


def training_flops(machine: Machine, device: Device, dimensions: int) -> float:
    """Return the operations a second that training is expected to reach on a device."""
    if device == "cpu":
        return machine.flops * CPU_EFFICIENCY[machine.training_precision(device), dimensions]
    names = " ".join(gpu.name for gpu in machine.gpus)
    known = [flops for part, flops in GPU_FLOPS.items() if part in names]
    return min(known, default=OTHER_GPU_FLOPS)


def step_cost(
    network: NetworkPlan, patch_size: Sequence[int], *, batch_size: int, speed: tuple[float, float]
) -> tuple[float, float]:
    """Return the operations and the seconds of one training step.

    Parameters
    ----------
    network, patch_size, batch_size
        What is trained on what.
    speed
        Operations a second, and seconds a step that no operation explains.
    """
    operations = TRAINING_FACTOR * batch_size * forward_operations(network, patch_size)
    flops, overhead = speed
    return operations, operations / flops + overhead


def speed(machine: Machine, device: Device, dimensions: int) -> tuple[float, float]:
    """Return operations a second and overhead a step, for `step_cost`."""
    return training_flops(machine, device, dimensions), STEP_OVERHEAD_S[device]


def disk_bytes(num_channels: int, dataset_voxels: float) -> int:
    """Return the expected size of all prepared cases of a configuration."""
    return int(dataset_voxels * (num_channels * PREPARED_VALUE_BYTES + PREPARED_LABEL_BYTES))


def configuration_cost(
    network: NetworkPlan,
    patch_size: Sequence[int],
    *,
    batch_size: int,
    device: Device,
    machine: Machine,
    dataset_voxels: float,
) -> Cost:
    """Return the cost of a configuration; the training time is filled in when steps are known."""
    pace = speed(machine, device, network.dimensions)
    operations, seconds = step_cost(network, patch_size, batch_size=batch_size, speed=pace)
    memory = training_memory(
        network,
        patch_size,
        batch_size=batch_size,
        precision=machine.training_precision(device),
    )
    return Cost(
        parameters=num_parameters(network),
        step_operations=operations,
        step_seconds=seconds,
        train_seconds=0.0,
        memory_bytes=memory,
        disk_bytes=disk_bytes(network.in_channels, dataset_voxels),
    )

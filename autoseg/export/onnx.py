"""A module as an ONNX file.

Letters in shapes: B tiles in a batch, C channels, P axes of the patch.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from autoseg.runtime.manifest import INPUTS, OUTPUT

OPSET = 20
EXTERNAL_BYTES = 1_500_000_000
"""Weights above this lie in a file of their own: one ONNX file holds at most 2 GB."""
TOLERANCE = 1e-3
"""Largest difference of logits, relative to their largest, at other sizes than the patch."""


def write_onnx(
    module: nn.Module,
    path: Path,
    *,
    num_channels: int,
    patch_size: Sequence[int],
    strides: Sequence[int] | None,
) -> bool:
    """Write the ONNX file and return whether it takes multiples of `strides` as sizes.

    That is proved at two sizes besides the patch; else, and without strides, the graph takes the
    patch alone.
    """
    # Sizes 0 and 1 count as constants for the exporter, so no axis of the example has them.
    example = make_input(2, num_channels, patch_size)
    if strides is not None and _is_dynamic(module, path, example, strides):
        return True
    _write(module, path, example, _dynamic_shapes(patch_size, None))
    return False


def _is_dynamic(
    module: nn.Module, path: Path, example: tuple[Tensor, Tensor, Tensor], strides: Sequence[int]
) -> bool:
    """Write a graph that takes multiples of `strides`, and return whether it is right."""
    num_channels, *patch_size = example[0].shape[1:]
    try:
        _write(module, path, example, _dynamic_shapes(patch_size, strides))
    except Exception:  # whatever the exporter cannot make dynamic
        logging.getLogger("autoseg").info("no dynamic ONNX graph", exc_info=True)
        return False
    sizes = other_sizes(patch_size, strides)
    return all(_agrees(module, path, num_channels, size) for size in sizes)


def make_input(
    num_tiles: int, num_channels: int, patch_size: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a tile of noise with mean and std."""
    generator = torch.Generator().manual_seed(0)
    tile = torch.randn(num_tiles, num_channels, *patch_size, generator=generator)
    constants = torch.ones(num_tiles, num_channels)
    return tile, constants * 0.1, constants * 1.1


def other_sizes(patch_size: Sequence[int], strides: Sequence[int]) -> list[tuple[int, ...]]:
    """Return two sizes besides the patch: about half of it, and one step more along each axis.

    At least two voxels remain at the lowest resolution, which instance normalisation needs.
    """
    pairs = list(zip(patch_size, strides, strict=True))
    larger = tuple(size + stride for size, stride in pairs)
    smaller = tuple(max(2, size // stride // 2) * stride for size, stride in pairs)
    if smaller == tuple(patch_size):
        smaller = tuple(size + 2 * stride for size, stride in pairs)
    return [smaller, larger]


def _dynamic_shapes(
    patch_size: Sequence[int], strides: Sequence[int] | None
) -> dict[str, dict[int, object]]:
    """Return which axes of the inputs may change; without strides only the batch."""
    dimension = torch.export.Dim
    batch = dimension("batch")
    axes: dict[int, object] = {}
    if strides is not None:
        for axis, stride in enumerate(strides):
            unit = dimension(f"size_{axis}", min=1 if patch_size[axis] == stride else 2)
            axes[axis + 2] = stride * unit if stride > 1 else unit
    return {"tile": {0: batch, **axes}, "mean": {0: batch}, "std": {0: batch}}


def _write(
    module: nn.Module,
    path: Path,
    example: tuple[Tensor, ...],
    dynamic_shapes: dict[str, dict[int, object]],
) -> None:
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_shapes=dynamic_shapes,
        )
        assert program is not None
        _forget_sources(program.model.graph)
        num_bytes = sum(item.numel() * item.element_size() for item in module.parameters())
        program.save(path, external_data=num_bytes > EXTERNAL_BYTES)


def _forget_sources(graph) -> None:  # noqa: ANN001
    """Drop what names the source files of this machine from every node."""
    for item in (graph, *graph):
        item.metadata_props.clear()
        item.doc_string = None
    for node in graph:
        for value in node.outputs:
            value.metadata_props.clear()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: it warns about its own deprecations and about packages it lacks."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _agrees(module: nn.Module, path: Path, num_channels: int, size: Sequence[int]) -> bool:
    """Return whether the file gives the module's logits for tiles of another size."""
    import onnxruntime

    inputs = make_input(1, num_channels, size)
    with torch.inference_mode():
        expected = module(*inputs).numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {name: item.numpy() for name, item in zip(INPUTS, inputs, strict=True)}
    try:
        found = np.asarray(session.run([OUTPUT], feed)[0])
    except Exception:  # onnxruntime raises classes of its own, which share no base
        return False
    close = np.abs(found - expected).max() <= TOLERANCE * max(1.0, float(np.abs(expected).max()))
    return found.shape == expected.shape and bool(close)

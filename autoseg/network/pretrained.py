"""Feature extractors of timm and their weights; the only place that knows timm.

timm is imported when an extractor is asked for, and never otherwise.

Letters in shapes: C input channels, H and W pixels.
"""

import copy
import importlib
import itertools
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoseg.errors import AutosegError, nearest
from autoseg.network.backbone import fix_padding
from autoseg.network.weight_files import first_line, matched, read_tensors
from autoseg.record import NO_WEIGHTS, PUBLISHED_WEIGHTS, Backbone

PROBE_STRIDES = 8
"""An extractor is measured on a picture of this many of its coarsest pixels a side."""
LARGEST_STRIDE = 64
"""Coarser features than this see pictures as a whole, which helps no outline."""


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A feature extractor with what a plan must know of it."""

    model: str
    """As timm names it, with the tag of its weights."""
    module: nn.Module
    """(B, C, H, W) -> one (B, F, H / reduction, W / reduction) a stage, finest first."""
    is_pretrained: bool
    mean: tuple[float, ...]
    """That the weights expect of values from 0 to 1, one entry an input channel."""
    std: tuple[float, ...]
    features: tuple[int, ...]
    reductions: tuple[int, ...]
    parameters: int
    multiplications: float
    """For each pixel of the image."""
    values: float
    """For each pixel of the image."""
    has_batch_norm: bool


def find_extractor(model: str, weights: str, in_channels: int) -> Extractor:
    """Return a feature extractor by timm's name for it, its first layer made for our channels.

    Parameters
    ----------
    model
        Such as "resnet34" or "tf_efficientnet_lite0.in1k".
    weights
        "imagenet": those that timm publishes, from the user's cache or else the network; "none":
        drawn at random; else the file that holds them.

    Raises
    ------
    AutosegError
        timm is missing; it knows no such model; the model makes no features that a U-Net could
        use; the weights are no weights of it, cannot be read or not be fetched.
    """
    timm = load_timm()
    _check_name(timm, model)
    if weights == PUBLISHED_WEIGHTS:
        module = _published(timm, model, in_channels)
    elif weights == NO_WEIGHTS:
        module = _created(timm, model, in_chans=in_channels)
    else:
        module = _from_file(timm, model, Path(weights), in_channels)
    return measured(module, model, in_channels, is_pretrained=weights != NO_WEIGHTS)


def planned_extractor(backbone: Backbone, in_channels: int, features: Sequence[int]) -> nn.Module:
    """Return the extractor of a plan, its weights drawn by timm; nothing is fetched.

    Raises
    ------
    AutosegError
        timm is missing, or builds other features than those that were planned.
    """
    timm = load_timm()
    _check_name(timm, backbone.model)
    module = _created(timm, backbone.model, in_chans=in_channels)
    found = list(module.feature_info.channels())
    if found != list(features):
        raise AutosegError(
            found=f"timm {timm.__version__} builds {backbone.model} with features {found}",
            expected=f"the planned features {list(features)}",
            fix="install the version of timm that was there when `autoseg plan` ran, or plan again",
        )
    fix_padding(module, importlib.import_module("timm.layers").Conv2dSame)
    return module


def load_timm() -> Any:  # noqa: ANN401
    """Return the package timm.

    Raises
    ------
    AutosegError
        It cannot be imported.
    """
    try:
        with _quiet():
            return importlib.import_module("timm")
    except (ImportError, RuntimeError) as error:  # the latter of a torchvision for another torch
        raise AutosegError(
            found=f"a pretrained encoder is asked for, but timm cannot be imported: {error}",
            expected="the package timm and a torchvision that fits the installed torch",
            fix="pip install 'autoseg-unet[pretrained]'; or plan without --set ...network.backbone",
        ) from error


def measured(module: nn.Module, model: str, in_channels: int, *, is_pretrained: bool) -> Extractor:
    """Return an extractor with its features, its size and what its weights expect.

    Nothing is computed: shapes alone go through a copy of it.

    Parameters
    ----------
    module
        With timm's `feature_info` and `pretrained_cfg`.
    model
        Its name in messages.

    Raises
    ------
    AutosegError
        Its features are no pyramid of ever coarser pictures.
    """
    info: Any = module.feature_info
    config: Any = getattr(module, "pretrained_cfg", {})
    features, reductions = tuple(info.channels()), tuple(info.reduction())
    _check_pyramid(model, reductions)
    counts = _counted(module, model, in_channels, reductions[-1] * PROBE_STRIDES)
    expected = [(size, *counts.side(step)) for size, step in zip(features, reductions, strict=True)]
    if counts.shapes != expected:
        raise _no_pyramid(model, f"features of shapes {counts.shapes}")
    tag = config.get("tag")
    return Extractor(
        model=f"{config['architecture']}.{tag}" if tag and config.get("architecture") else model,
        module=module,
        is_pretrained=is_pretrained,
        mean=for_channels(config.get("mean", (0.5,)), in_channels),
        std=for_channels(config.get("std", (0.5,)), in_channels),
        features=features,
        reductions=reductions,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        multiplications=counts.multiplications / counts.size**2,
        values=counts.values / counts.size**2,
        has_batch_norm=any(
            isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules()
        ),
    )


def for_channels(values: Sequence[float], count: int) -> tuple[float, ...]:
    """Return one number a channel: those given, or for another number of channels their mean.

    timm does the same (`adapt_to_chs`), beside kernels that are summed or repeated.
    """
    if len(values) == count:
        return tuple(float(value) for value in values)
    return (round(math.fsum(values) / len(values), 6),) * count


# Measuring


@dataclass
class _Counts:
    """What one picture of `size` x `size` pixels takes and gives."""

    size: int
    multiplications: int = 0
    values: int = 0
    shapes: list[tuple[int, ...]] | None = None

    def side(self, reduction: int) -> tuple[int, int]:
        return (self.size // reduction, self.size // reduction)


def _counted(module: nn.Module, model: str, in_channels: int, size: int) -> _Counts:
    counts = _Counts(size)

    def count(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        counts.values += output.numel()
        counts.multiplications += output.numel() * weight[0].numel()

    probe = copy.deepcopy(module).to("meta").eval()
    for layer in probe.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    try:
        with torch.no_grad():
            outputs = probe(torch.empty(1, in_channels, size, size, device="meta"))
    except Exception as error:  # encoders for pictures of one size refuse in many ways
        raise _no_pyramid(model, f"no features of {size} x {size} pixels: {error}") from error
    counts.shapes = [tuple(output.shape[1:]) for output in outputs]
    return counts


def _check_pyramid(model: str, reductions: Sequence[int]) -> None:
    steps = [below / above for above, below in itertools.pairwise(reductions)]
    is_halving = reductions[0] & (reductions[0] - 1) == 0
    if not is_halving or any(step != int(step) or step < 2 for step in steps):
        raise _no_pyramid(model, f"features {list(reductions)} times coarser than the image")
    if reductions[-1] > LARGEST_STRIDE:
        raise _no_pyramid(model, f"features {reductions[-1]} times coarser than the image")


def _no_pyramid(model: str, what: str) -> AutosegError:
    return AutosegError(
        found=f"{model} gives {what}",
        expected="an encoder whose stages are each coarser than the one before, for any size",
        fix="choose a convolutional one, such as resnet34, efficientnet_b0 or vgg11",
    )


# Building


def _check_name(timm: Any, model: str) -> None:  # noqa: ANN401
    name = model.partition(".")[0]
    if timm.is_model(name):
        return
    names = timm.list_models()
    raise AutosegError(
        found=f"encoder {model!r}, which timm {timm.__version__} does not know",
        expected=f"one of its {len(names)} models, such as resnet34, efficientnet_b0 or vgg11",
        fix=f"correct network.backbone{nearest(name, names)}",
    )


def _created(timm: Any, model: str, **options: object) -> Any:  # noqa: ANN401
    try:
        with _quiet():
            return timm.create_model(model, features_only=True, **options)
    except Exception as error:  # of many kinds: unknown tags, models without features
        raise AutosegError(
            found=f"timm cannot make a feature extractor of {model}: {first_line(error)}",
            expected="a model of timm that gives features",
            fix="choose another network.backbone, such as resnet34, efficientnet_b0 or vgg11",
        ) from error


def _published(timm: Any, model: str, in_channels: int) -> Any:  # noqa: ANN401
    """Return an extractor with the weights that timm publishes."""
    module = _created(timm, model, in_chans=in_channels)
    config = module.pretrained_cfg
    source = config.get("hf_hub_id") or config.get("url")
    if not source:
        raise AutosegError(
            found=f"timm publishes no weights of {model}",
            expected=f"one of {', '.join(timm.list_pretrained(model + '*')) or 'its other models'}",
            fix="choose one of them, or set network.weights to a file or to none",
        )
    try:
        with _quiet():
            return timm.create_model(
                model, features_only=True, pretrained=True, in_chans=in_channels
            )
    except Exception as error:  # of the network, the hub's client or the disk
        raise AutosegError(
            found=f"the weights of {model} are not in the cache and cannot be fetched from "
            f"{source}: {first_line(error)}",
            expected="a network, or weights fetched before",
            fix=f"fetch {source} where there is a network, and give the file with "
            "--set ...network.weights=FILE; or train without by --set ...network.weights=none",
        ) from error


def _from_file(timm: Any, model: str, path: Path, in_channels: int) -> Any:  # noqa: ANN401
    """Return an extractor with the weights in a file.

    What the file lacks is marked by values that are no numbers: what of it the extractor uses
    cannot be missing.
    """
    try:
        stored = read_tensors(path)
    except (OSError, ValueError) as error:
        raise AutosegError(
            found=f"network.weights={path} cannot be read: {error}",
            expected="a file of weights (.pth, .pt, .bin or .safetensors), or imagenet, or none",
            fix="correct the path, or save the weights again as a state_dict",
        ) from error
    with _quiet():
        wanted = timm.create_model(model).state_dict()
    weights = matched(stored, wanted)
    module = _created(
        timm,
        model,
        pretrained=True,
        in_chans=in_channels,
        pretrained_cfg_overlay={"state_dict": weights, "custom_load": False},
    )
    missing = [name for name, tensor in module.state_dict().items() if tensor.isnan().any()]
    if missing:
        raise AutosegError(
            found=f"{path} lacks {len(missing)} of the {len(module.state_dict())} tensors of "
            f"{model}, or has them in other shapes: {', '.join(missing[:3])}, ...",
            expected="weights of this model: the same names and shapes, or all shapes in order",
            fix="correct network.backbone, or the file",
        )
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what timm and the packages below it say of themselves."""
    loggers = [logging.getLogger(name) for name in ("timm", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

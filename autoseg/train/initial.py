"""Fine-tuning: which weights of another model a network begins with.

Letters in shapes: K classes, C input channels, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from autoseg.errors import TrainingError, counted

HEADS, BACKBONE, ENCODER = "heads.", "backbone.", "encoder"
CONVOLUTION_AXES = 3
"""Fewest axes of a convolution's weights."""
PRESENCE = "presence of "
"""Before the name of a channel: the input that says where it is known."""

SHOWN = 3
"""Layers that a message names."""

Group: TypeAlias = dict[str, Tensor]
State: TypeAlias = Literal["loaded", "partly loaded", "skipped", "new"]


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """Weights of another model, under the names of training."""

    weights: Mapping[str, Tensor]
    classes: tuple[str, ...] | None
    """Names of the outputs; None: its outputs are no classes, or nobody knows which."""
    channels: tuple[str, ...]
    """Names of the inputs; empty: not known."""
    sha256: str
    """Of the file that they come from."""
    is_pretraining: bool = False
    """From `autoseg pretrain`: layers that are not in the U-Net served the denoising."""


@dataclass(frozen=True)
class LayerRow:
    """What became of a layer."""

    layer: str
    state: State
    reason: str = ""


@dataclass(frozen=True)
class Transfer:
    """A network's weights with what another model gave, and what became of each layer."""

    weights: dict[str, Tensor]
    rows: tuple[LayerRow, ...]


def transfer(
    fresh: Mapping[str, Tensor],
    source: InitialWeights,
    *,
    classes: Sequence[str],
    channels: Sequence[str],
) -> Transfer:
    """Return a network's weights, those of layers that fit taken from another model.

    Layers fit by name and shape. Heads keep the outputs of classes that have the same name; other
    outputs stay as drawn. The first convolution, and that of a pretrained encoder beside it, are
    adapted to other channels (see `_Pair.input`).

    Parameters
    ----------
    fresh
        Weights as drawn; not changed.
    source
        The other model's.
    classes, channels
        Names of the network's outputs and inputs.

    Raises
    ------
    TrainingError
        No convolution but those of the heads fits.
    """
    mine, theirs = _layers(fresh), _layers(source.weights)
    first = _first_convolutions(mine)
    weights, rows, has_common = dict(fresh), [], False
    for layer in dict.fromkeys((*mine, *theirs)):
        if layer not in mine:
            reason = "only for pretraining" if source.is_pretraining else "no such layer here"
            rows.append(LayerRow(layer, "skipped", reason))
            continue
        if layer not in theirs:
            rows.append(LayerRow(layer, "new", "not in the source"))
            continue
        pair = _Pair(mine[layer], theirs[layer])
        if layer.startswith(HEADS):
            found = pair.head(source.classes, tuple(classes))
        elif layer in first:
            found = pair.input(source.channels, tuple(channels))
        else:
            found = pair.inner()
        rows.append(LayerRow(layer, found.state, found.reason))
        weights |= {f"{layer}.{part}": tensor for part, tensor in found.group.items()}
        is_kept = bool(found.group) and not layer.startswith(HEADS)
        has_common |= is_kept and _is_convolution(found.group)
    if not has_common:
        raise _nothing_in_common(rows)
    return Transfer(weights, tuple(rows))


def encoder_widths(weights: Mapping[str, Tensor]) -> dict[int, int]:
    """Return the features of each stage of an encoder: what its last convolution gives."""
    widths: dict[int, int] = {}
    for name, tensor in weights.items():
        first, _, rest = name.partition(".")
        if first == ENCODER and tensor.ndim >= CONVOLUTION_AXES:
            widths[int(rest.partition(".")[0])] = len(tensor)
    return widths


def spatial_axes(weights: Mapping[str, Tensor]) -> int | None:
    """Return how many axes the images of a network have; None if it has no convolution."""
    sizes = [tensor.ndim for tensor in weights.values() if tensor.ndim >= CONVOLUTION_AXES]
    return sizes[0] - 2 if sizes else None


def _layers(weights: Mapping[str, Tensor]) -> dict[str, Group]:
    """Return weights by layer, each part (weight, bias, ...) under its own name."""
    groups: dict[str, Group] = {}
    for name, tensor in weights.items():
        layer, _, part = name.rpartition(".")
        groups.setdefault(layer, {})[part] = tensor
    return groups


def _first_convolutions(layers: Mapping[str, Group]) -> set[str]:
    """Return the layers that see the image: the first one, and a pretrained encoder's first one."""
    names = [name for name, group in layers.items() if _is_convolution(group)]
    return {*names[:1], *[name for name in names if name.startswith(BACKBONE)][:1]}


def _is_convolution(group: Group) -> bool:
    return any(tensor.ndim >= CONVOLUTION_AXES for tensor in group.values())


@dataclass(frozen=True)
class _Found:
    """The weights that a layer gets, in full, and what they are; none where it is skipped."""

    group: Group
    state: State
    reason: str = ""


@dataclass(frozen=True)
class _Pair:
    """One layer as drawn, and the layer of that name in the other model."""

    mine: Group
    theirs: Group

    def inner(self) -> _Found:
        """Return the other model's weights if all shapes are the same."""
        return self._differ(slice(None)) or _Found(self._taken(), "loaded")

    def head(self, theirs: tuple[str, ...] | None, mine: tuple[str, ...]) -> _Found:
        """Return the rows of classes that the other model knows by the same name, others as drawn.

        A row of (K, F, 1, ...) weights and of (K,) biases belongs to one class.
        """
        if theirs is None:
            return _Found({}, "skipped", "its outputs are no classes")
        if differ := self._differ(slice(1, None)):
            return differ
        if any(len(tensor) != len(theirs) for tensor in self.theirs.values()):
            return _Found({}, "skipped", f"it has not one output for each of {len(theirs)} classes")
        if theirs == mine:
            return _Found(self._taken(), "loaded")
        kept = {name: theirs.index(name) for name in mine if name in theirs}
        if not kept:
            return _Found({}, "skipped", f"its classes are {', '.join(theirs)}")
        places = [index for index, name in enumerate(mine) if name in kept]
        group = {part: tensor.clone() for part, tensor in self.mine.items()}
        for part, tensor in group.items():
            tensor[places] = self.theirs[part][list(kept.values())].to(tensor)
        return _named("classes", kept, mine, group, others="new")

    def input(self, theirs: tuple[str, ...], mine: tuple[str, ...]) -> _Found:
        """Return a first convolution (F, C, ...) for other channels.

        Channels are matched by name; a channel that the other model lacks begins with zeros, so
        that the network begins as the other model. Without a name in common, as many channels are
        taken in their order; of another number each gets the mean, scaled so that an image that is
        the same in all channels gives what it gave.
        """
        if differ := self._differ(slice(2, None)):
            return differ
        weight, wanted = self.theirs["weight"], self.mine["weight"]
        known, own = _inputs(theirs, weight.shape[1]), _inputs(mine, wanted.shape[1])
        if len(weight) != len(wanted) or not own:
            shapes = (tuple(weight.shape), tuple(wanted.shape))
            return _Found({}, "skipped", f"shape {shapes[0]}, here {shapes[1]}")
        kept = {name: known.index(name) for name in own if name in known}
        if not kept:
            is_same = not known and weight.shape == wanted.shape
            before = len(mine) if is_same else len(theirs) if known else weight.shape[1]
            return self._unnamed_input(before, len(mine))
        if known == own:
            return _Found(self._taken(), "loaded")
        group = self._taken()
        columns = [
            weight[:, kept[name]] if name in kept else torch.zeros_like(weight[:, 0])
            for name in own
        ]
        group["weight"] = torch.stack(columns, dim=1).to(wanted)
        return _named("channels", kept, own, group, others="zeros for")

    def _unnamed_input(self, before: int, now: int) -> _Found:
        """Return a first convolution for `now` channels of one for `before`, which have no names.

        Further inputs, which say where channels are, begin with zeros where the other model has
        none of them.
        """
        group, wanted = self._taken(), self.mine["weight"]
        if before == now and group["weight"].shape == wanted.shape:
            return _Found(group, "loaded", "channels in their order")
        channels = group["weight"][:, :before]
        reason = "channels in their order"
        if before != now:
            mean = channels.mean(dim=1, keepdim=True) * (before / now)
            channels = mean.repeat_interleave(now, dim=1)
            reason = f"{counted(now, 'channel')} from the mean of {before}"
        group["weight"] = torch.zeros_like(wanted)
        group["weight"][:, :now] = channels
        return _Found(group, "partly loaded", reason)

    def _taken(self) -> Group:
        return {part: tensor.to(self.mine[part]) for part, tensor in self.theirs.items()}

    def _differ(self, axes: slice) -> _Found | None:
        """Return why a layer is skipped: its parts, or their shapes along these axes, differ."""
        if self.mine.keys() != self.theirs.keys():
            names = ", ".join(self.theirs), ", ".join(self.mine)
            return _Found({}, "skipped", f"it has {names[0]}, here {names[1]}")
        for part, tensor in self.mine.items():
            shape, wanted = tuple(self.theirs[part].shape), tuple(tensor.shape)
            if len(shape) != len(wanted) or shape[axes] != wanted[axes]:
                return _Found({}, "skipped", f"shape {shape}, here {wanted}")
        return None


def _inputs(channels: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Return the names of all inputs of a first convolution; none where they are not known."""
    presences = tuple(PRESENCE + name for name in channels)
    names = {len(channels): channels, 2 * len(channels): (*channels, *presences)}
    return names.get(count, ())


def _named(
    what: str, kept: Mapping[str, int], mine: Sequence[str], group: Group, *, others: str
) -> _Found:
    """Return a layer of which what has a known name is kept."""
    rest = [name for name in mine if name not in kept]
    reason = f"{what} {', '.join(kept)}" + (f"; {others} {', '.join(rest)}" if rest else "")
    return _Found(group, "partly loaded" if rest else "loaded", reason)


def _nothing_in_common(rows: Sequence[LayerRow]) -> TrainingError:
    reasons = list(dict.fromkeys(f"{row.layer}: {row.reason}" for row in rows if row.reason))
    return TrainingError(
        found="--init with a model that has no layer in common with the planned network ("
        + "; ".join(reasons[:SHOWN])
        + "; ...)",
        expected="a model of the same kind: as many axes, stages and features",
        fix="plan again as that model was planned (`autoseg plan --planner` and `--set`), or "
        "leave out --init",
    )

"""A pretrained feature extractor as the lower stages of a U-Net's encoder; no timm here.

Letters in shapes: B batch, C input channels, F features of a stage, H and W pixels of the patch.
"""

from pathlib import Path
from typing import Self, final

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from autoseg.network.weight_files import load_kept
from autoseg.record import NetworkPlan


@final
class PretrainedStages(nn.Module):
    """Stages of an encoder that another package builds: (B, C, H, W) -> one (B, F, ...) a stage.

    Parameters
    ----------
    extractor
        Returns the features of each stage, finest first.
    frozen_norm
        Whether batch normalisation stays as it was trained. Fine-tuning sees a few patches a step,
        too few to measure statistics that a million images gave.
    """

    def __init__(self, extractor: nn.Module, *, frozen_norm: bool) -> None:
        super().__init__()
        self.extractor = extractor
        self._frozen = [
            module
            for module in extractor.modules()
            if frozen_norm and isinstance(module, _BatchNorm)
        ]
        for norm in self._frozen:
            norm.eval().requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of each stage, finest first."""
        return list(self.extractor(x))

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002
        """Switch between training and evaluation; frozen normalisation always evaluates."""
        super().train(mode)
        for norm in self._frozen:
            norm.eval()
        return self


@final
class FixedPadding(nn.Conv2d):
    """A convolution padded as TensorFlow does, (B, F, H, W) -> (B, G, H / stride, W / stride).

    TensorFlow computes the padding from the size of its input. Patches are multiples of all
    strides, and so it is the same for all of them: an exported graph has nothing to compute.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # pyright: ignore[reportArgumentType]
            conv.stride,  # pyright: ignore[reportArgumentType]
            dilation=conv.dilation,  # pyright: ignore[reportArgumentType]
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        self.weight, self.bias = conv.weight, conv.bias
        axes = zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)
        whole = [max(0, (kernel - 1) * step + 1 - stride) for kernel, stride, step in axes]
        self._around = [size for total in whole[::-1] for size in (total // 2, -(-total // 2))]

    def forward(self, input: Tensor) -> Tensor:
        """Return the features."""
        return super().forward(functional.pad(input, self._around))


def fix_padding(module: nn.Module, kind: type[nn.Module]) -> None:
    """Put a `FixedPadding` in place of each convolution of a kind; the weights keep their names."""
    for child_name, child in list(module.named_children()):
        if isinstance(child, kind) and isinstance(child, nn.Conv2d):
            setattr(module, child_name, FixedPadding(child))
        else:
            fix_padding(child, kind)


def build_backbone(plan: NetworkPlan) -> PretrainedStages | None:
    """Return the pretrained stages of a plan with weights still to be loaded; None without any.

    Raises
    ------
    AutosegError
        timm cannot be imported, or builds another encoder of that name than the planned one.
    """
    if plan.backbone is None:
        return None
    from autoseg.network.pretrained import planned_extractor

    features = [stage.features for stage in plan.stages[plan.num_own_stages :]]
    extractor = planned_extractor(plan.backbone, plan.in_channels, features)
    return PretrainedStages(extractor, frozen_norm=plan.backbone.frozen_norm)


def load_pretrained(network: nn.Module, plan: NetworkPlan, path: Path) -> None:
    """Give the encoder of a plan's network the weights that were planned for it.

    Raises
    ------
    AutosegError
        The file is missing, damaged or of other weights.
    """
    stages = network.get_submodule("backbone")
    assert isinstance(stages, PretrainedStages)
    assert plan.backbone is not None
    stages.extractor.load_state_dict(load_kept(path, plan.backbone))

"""The plan: every decision that the pipeline after planning follows."""

from typing import Literal

from autoseg.record import LossPlan, NetworkPlan, Record
from autoseg.runtime.geometry import Unit
from autoseg.runtime.recipe import Labels, Recipe


class Decision(Record):
    """One decision: what was chosen, by which rule, from what, and why."""

    name: str
    """What was decided, e.g. "3d_fullres.patch_size"."""
    value: str
    rule: str
    """Name of the function that decided."""
    inputs: dict[str, str]
    reason: str


class SidePair(Record):
    """Two classes that are each other's mirror image along an axis of the network."""

    axis: int
    first: int
    second: int


class AugmentationPlan(Record):
    """Ranges and probabilities of the random changes to a training patch. Angles in radians."""

    planar: bool
    """Spatial changes only in the last two axes (the first axis is much coarser)."""
    rotation: tuple[tuple[float, float], ...]
    """Range of the angle about each axis; one entry in 2D or when planar, none in 1D."""
    rotation_probability: float
    scale: tuple[float, float]
    scale_probability: float
    noise_probability: float
    noise_std: tuple[float, float]
    blur_probability: float
    blur_sigma: tuple[float, float]
    """Voxels."""
    brightness_probability: float
    brightness: tuple[float, float]
    contrast_probability: float
    contrast: tuple[float, float]
    low_resolution_probability: float
    low_resolution: tuple[float, float]
    gamma_probability: float
    inverted_gamma_probability: float
    gamma: tuple[float, float]
    mirror_probability: float
    """Of each axis in the recipe's `mirror_axes`."""
    side_pairs: tuple[SidePair, ...] = ()
    """Classes that a mirror swaps."""
    side_mirror_probability: float = 0.0
    """Of each axis in `side_pairs`, whose classes are swapped back."""
    elastic_probability: float = 0.0
    elastic_sigma: tuple[float, float] = (10.0, 20.0)
    """Smoothness, pixels of an edge of 512; smaller patches get less in proportion."""
    elastic_alpha: tuple[float, float] = (200.0, 500.0)
    """Strength, pixels of an edge of 512; smaller patches get less in proportion."""
    cutmix_probability: float = 0.0
    cutmix_fraction: tuple[float, float] = (0.1, 0.5)
    """Part of the patch that a box of another case takes."""
    copy_paste_probability: float = 0.0
    copy_paste_classes: tuple[int, ...] = ()
    """Classes whose objects are pasted; empty: all but the background, each as often."""
    channel_dropout_probability: float = 0.0
    """Of each channel; one at least is kept."""
    previous_change_probability: float = 0.0
    """That labels of the previous stage are dilated, eroded, opened or closed: each class in half
    of these patches."""
    previous_radius: tuple[int, int] = (1, 8)
    """Of the ball that does so, voxels."""
    previous_removal_probability: float = 0.0
    """That a connected part of the previous stage's labels is removed: of each class in half of
    these patches."""
    previous_removal_limit: float = 0.15
    """Part of the patch that such a part is smaller than."""
    place: Literal["workers", "device"] | None = None
    """What changes the patches: the processor's threads, or the training device, a batch at once;
    None: the device if it is a CUDA GPU."""


class TrainingPlan(Record):
    """How one fold is trained, except what only the training machine can know (RunSettings)."""

    optimizer: Literal["sgd", "adam", "adamw"]
    """Stochastic gradient descent with Nesterov momentum; Adam (Kingma and Ba 2015,
    arXiv:1412.6980), whose weight decay is part of the gradient; AdamW (Loshchilov and Hutter 2019,
    arXiv:1711.05101), whose weight decay is not."""
    peak_lr: float
    momentum: float
    """Nesterov momentum (sgd); ignored by adam and adamw."""
    weight_decay: float
    poly_power: float
    """Of the schedule poly: lr = peak_lr * (1 - step / num_steps) ** poly_power."""
    warmup_steps: int
    """Steps over which the rate rises to what the schedule says; at most a tenth of the run."""
    max_gradient_norm: float
    ema_decay: float
    """0: the final weights are not averaged."""
    batch_dice: bool
    """Dice over the whole batch instead of the mean over its images."""
    supervision_weights: tuple[float, ...]
    """Loss weight of each supervised resolution, finest first; sums to 1."""
    foreground_fraction: float
    """Fraction of each batch whose patches are centred on a foreground voxel."""
    augmentation: AugmentationPlan
    default_steps: int | None
    """Steps when neither budget nor steps are given; None: `default_budget_s` decides."""
    default_budget_s: float | None
    loss: LossPlan = LossPlan()
    recompute: bool = False
    """Compute stages again in the backward pass instead of keeping them: less memory, more time."""
    schedule: Literal["poly", "cosine", "one_cycle", "reduce_on_plateau"] = "poly"
    """What lowers the learning rate: time, or that the Dice of validation cases no longer rises."""
    reduce_factor: float = 0.5
    """Of the schedule reduce_on_plateau: what the rate is multiplied by."""
    reduce_patience: int = 10
    """Of the schedule reduce_on_plateau: looks without a better Dice before that."""
    max_rollbacks: int = 3
    """Times that a run which goes astray (a loss that is no number, all found classes lost) may go
    back to a checkpoint, each time with half the learning rate; then it ends with an error."""
    compiled: bool | None = None
    """Whether torch compiles the network; None: where a budget leaves time to see that it pays."""


class Cost(Record):
    """What a configuration is expected to cost on the planned machine."""

    parameters: int
    step_operations: float
    """Floating-point operations of one training step."""
    step_seconds: float
    train_seconds: float
    """One fold."""
    memory_bytes: int
    """Peak of the training device for one fold."""
    disk_bytes: int
    """Prepared cases."""


class ConfigurationPlan(Record):
    """One way to see the data: 1d, 2d, 3d_fullres, 3d_lowres or 3d_cascade_fullres."""

    name: str
    recipe: Recipe
    patch_size: tuple[int, ...]
    """Axes of the network, prepared order."""
    batch_size: int
    median_shape: tuple[int | float, ...]
    """Median shape of the prepared cases, axes of the network; the median over an even number of
    cases may end in .5."""
    network: NetworkPlan
    training: TrainingPlan
    cost: Cost
    inherits_from: str | None = None
    previous_stage: str | None = None
    region_margin: float | None = None
    """Tiles farther than this from what the previous stage found are background, not computed; in
    the unit of the spacing. None: all are computed."""
    train_by_default: bool
    why: str
    """Reason of `train_by_default`."""

    @property
    def output_size(self) -> tuple[int, ...]:
        """Axes of what the network predicts of a patch: the patch, less the output margin."""
        margins = self.network.output_margin
        return tuple(n - 2 * m for n, m in zip(self.patch_size, margins, strict=True))


class Plan(Record):
    """Every decision; what preprocess, train, predict and export follow."""

    schema_version: Literal[1] = 1
    autoseg_version: str
    planner: str
    dataset_name: str
    fingerprint_digest: str
    labels: Labels
    unit: Unit
    configurations: tuple[ConfigurationPlan, ...]
    num_folds: int
    seed: int
    budget_s: float | None
    device: Literal["cpu", "cuda", "mps"]
    device_index: int | None = None
    """Which of several devices; None: any."""
    memory_bytes: int
    """Of the training device, for one fold."""
    ram_bytes: int
    """Of all our processes together."""
    num_threads: int
    """CPU threads for one fold."""
    nsd_tolerance: float
    """Tolerance of the normalised surface distance, in `unit`."""
    decisions: tuple[Decision, ...]

    def configuration(self, name: str) -> ConfigurationPlan:
        """Return the configuration of that name (the name must exist)."""
        return next(item for item in self.configurations if item.name == name)

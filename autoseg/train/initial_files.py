"""Where `--init` finds weights: models, workspaces, checkpoints, nnU-Net's folders."""

import io
import warnings
from hashlib import file_digest, sha256
from pathlib import Path
from zipfile import ZipFile

import torch
from torch import Tensor

from autoseg.errors import AutosegError, TrainingError
from autoseg.network.build import build_network
from autoseg.network.weight_files import first_line, load_torch
from autoseg.plan.plan import Plan
from autoseg.runtime.manifest import (
    MANIFEST,
    Configuration,
    Manifest,
    check_file,
    load_manifest,
    parse_manifest,
)
from autoseg.train.initial import (
    ENCODER,
    InitialWeights,
    Transfer,
    encoder_widths,
    spatial_axes,
    transfer,
)
from autoseg.train.loop import Learner
from autoseg.train.nnunet import CHECKPOINT, FOLD, ZIP_ERRORS, is_nnunet, load_nnunet, opened
from autoseg.train.records import InitialChoice
from autoseg.workspace import Workspace

FIRST_FOLD = "folds.0."
"""Before the names of an exported network's first fold."""


def choose_initial(plan: Plan, configuration: str, path: Path) -> tuple[InitialChoice, Transfer]:
    """Return what a configuration's folds begin with, and what becomes of each layer.

    Raises
    ------
    AutosegError
        There are no weights at `path`, or none that fits the planned network.
    """
    source = read_initial(path, plan, configuration)
    axes, own = spatial_axes(source.weights), len(plan.configuration(configuration).patch_size)
    if axes is not None and axes != own:
        raise _other_axes(path, plan, configuration, axes)
    fresh = build_network(plan.configuration(configuration).network).state_dict()
    choice = InitialChoice(source=str(path.absolute()), sha256=source.sha256)
    try:
        return choice, fit(fresh, source, plan, configuration)
    except TrainingError as error:
        settings = _same_widths(source, plan, configuration)
        if not settings:
            raise
        raise TrainingError(
            found=error.found,
            expected="a network as wide as that model's, from which it differs in nothing else",
            fix="plan again with the features of that model, and with what was set besides: "
            f"`autoseg plan DATASET --replan {settings}`; or leave out --init",
        ) from None


def _other_axes(path: Path, plan: Plan, configuration: str, axes: int) -> TrainingError:
    """Return that a model sees images of other axes than a configuration."""
    own = len(plan.configuration(configuration).patch_size)
    fitting = [
        item.name
        for item in plan.configurations
        if len(item.patch_size) == axes and item.previous_stage is None
    ]
    fix = f"name a {own}D model, or leave out --init"
    if fitting:
        fix = f"train with --configurations {fitting[0]}, or {fix}"
    return TrainingError(
        found=f"--init {path}: a {axes}D model, and {configuration} is a {own}D configuration",
        expected="a model that sees as many axes as the configuration",
        fix=fix,
    )


def _same_widths(source: InitialWeights, plan: Plan, configuration: str) -> str:
    """Return the `--set` options with which a network fits; none if widths alone do not do it."""
    network = plan.configuration(configuration).network
    widths = encoder_widths(source.weights)
    if network.backbone is not None or sorted(widths) != list(range(len(network.stages))):
        return ""
    stages = [stage.revised(features=widths[index]) for index, stage in enumerate(network.stages)]
    try:
        fresh = build_network(network.revised(stages=tuple(stages))).state_dict()
        found = fit(fresh, source, plan, configuration)
    except (TrainingError, ValueError):
        return ""
    if any(row.state == "skipped" and row.layer.startswith(ENCODER) for row in found.rows):
        return ""
    return " ".join(
        f"--set {configuration}.network.stages.{index}.features={widths[index]}"
        for index, stage in enumerate(network.stages)
        if stage.features != widths[index]
    )


def fit(
    fresh: dict[str, Tensor], source: InitialWeights, plan: Plan, configuration: str
) -> Transfer:
    """Return the weights that a configuration's network begins with (see `transfer`)."""
    channels = plan.configuration(configuration).recipe.channels
    return transfer(
        fresh,
        source,
        classes=plan.labels.names,
        channels=[channel.name for channel in channels],
    )


def begin_from(learner: Learner, choice: InitialChoice, plan: Plan, configuration: str) -> None:
    """Give a network, and its running average, the weights that it is to begin with.

    Raises
    ------
    TrainingError
        The file holds other weights than when it was chosen.
    """
    source = read_initial(Path(choice.source), plan, configuration)
    if source.sha256 != choice.sha256:
        raise _changed(choice)
    found = fit(learner.model.state_dict(), source, plan, configuration)
    for model in (learner.model, learner.ema.model):
        model.load_state_dict(found.weights)


def _changed(choice: InitialChoice) -> TrainingError:
    return TrainingError(
        found=f"other weights in {choice.source} than when --init named it",
        expected=f"the file with SHA-256 {choice.sha256}",
        fix="put the file back, or delete the fold's folder and train it again",
    )


def read_initial(path: Path, plan: Plan, configuration: str) -> InitialWeights:
    """Return the weights at `path`; of several configurations the one that is most alike.

    Parameters
    ----------
    path
        A model's folder or zip, a workspace, a checkpoint of training or pretraining, or what
        nnU-Net has trained. Of several folds the first is taken.
    """
    if not path.exists():
        raise _no_weights(path, "no such file or folder")
    if is_nnunet(path):
        return _nnunet(path)
    if path.is_dir():
        folder = path if (path / MANIFEST).is_file() else Workspace(path).model
        if not (folder / MANIFEST).is_file():
            raise _no_weights(path, f"no {MANIFEST} in it or in {folder.name}/")
        manifest = load_manifest(folder)
        item = _most_alike(manifest, plan, configuration)
        content = check_file(folder, manifest, item.torchscript).read_bytes()
        return _exported(content, manifest, item)
    if path.suffix == ".zip":
        return _zipped(path, plan, configuration)
    return _checkpoint(path)


def _no_weights(path: Path, reason: str) -> TrainingError:
    return TrainingError(
        found=f"--init {path}: {reason}",
        expected="a model (folder or zip), a workspace with one, a checkpoint (.pt) of training or "
        "pretraining, or a folder or checkpoint of nnU-Net",
        fix="correct --init",
    )


def _nnunet(path: Path) -> InitialWeights:
    with opened(path) as folder:
        if path.suffix == ".pth":
            fold = path.parent.name.removeprefix(FOLD)
            model = load_nnunet(folder, folds=[fold], checkpoint=path.name)
        else:
            names = sorted(item.parent.name for item in folder.glob(f"{FOLD}*/{CHECKPOINT}"))
            model = load_nnunet(folder, folds=[name.removeprefix(FOLD) for name in names[:1]])
    first, named = model.folds[0], model.plan.decision == "largest"
    return InitialWeights(
        weights=first.weights,
        classes=model.plan.labels.names if named else None,
        channels=model.plan.channels,
        sha256=first.sha256,
    )


def _most_alike(manifest: Manifest, plan: Plan, configuration: str) -> Configuration:
    """Return the configuration of that name, else one with as many axes, else the first."""
    dims = len(plan.configuration(configuration).patch_size)
    return max(
        manifest.configurations,
        key=lambda item: (item.name == configuration, len(item.patch_size) == dims),
    )


def _zipped(path: Path, plan: Plan, configuration: str) -> InitialWeights:
    try:
        with ZipFile(path) as archive:
            manifest = parse_manifest(archive.read(MANIFEST), f"{path}/{MANIFEST}")
            item = _most_alike(manifest, plan, configuration)
            content = archive.read(item.torchscript)
    except (*ZIP_ERRORS, KeyError) as error:
        raise _no_weights(path, first_line(error)) from None
    stored = next(file for file in manifest.files if file.name == item.torchscript)
    if sha256(content).hexdigest() != stored.sha256:
        raise _no_weights(path, f"{item.torchscript} in it is not the file that was exported")
    return _exported(content, manifest, item)


def _exported(content: bytes, manifest: Manifest, item: Configuration) -> InitialWeights:
    """Return the weights of an exported network's first fold."""
    with warnings.catch_warnings():
        # torch announces the end of TorchScript as one or the other, by its version.
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        weights = torch.jit.load(io.BytesIO(content), map_location="cpu").state_dict()
    return InitialWeights(
        weights={
            name.removeprefix(FIRST_FOLD): tensor.float()
            for name, tensor in weights.items()
            if name.startswith(FIRST_FOLD)
        },
        classes=manifest.labels.names if item.decision == "largest" else None,
        channels=manifest.channels,
        sha256=sha256(content).hexdigest(),
    )


def _checkpoint(path: Path) -> InitialWeights:
    """Return the weights in a .pt file: of a pretraining, or of a workspace's fold."""
    try:
        content = load_torch(path)
    except (OSError, ValueError) as error:
        raise _no_weights(path, first_line(error)) from None
    if not isinstance(content, dict):
        content = {}
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    kinds = [kind for kind in ("network", "weights", "averaged") if kind in content]
    weights = content[kinds[0]] if kinds else None
    if not isinstance(weights, dict) or not all(isinstance(i, Tensor) for i in weights.values()):
        raise _no_weights(path, "a file without weights that autoseg has written")
    if kinds[0] != "network":
        classes, channels = _names_beside(path)
        return InitialWeights(weights=weights, classes=classes, channels=channels, sha256=digest)
    classes = content.get("classes")
    return InitialWeights(
        weights=weights,
        classes=None if classes is None else tuple(classes),
        channels=tuple(content.get("channels") or ()),
        sha256=digest,
        is_pretraining=True,
    )


def _names_beside(path: Path) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return the classes and channels of a fold's checkpoint from its workspace's plan."""
    configuration, parents = path.absolute().parent.parent.name, path.absolute().parents
    try:
        plan = Plan.load(Workspace(parents[3]).plan)
        recipe = plan.configuration(configuration).recipe
    except (AutosegError, IndexError, StopIteration):  # copied out of its workspace
        return None, ()
    return plan.labels.names, tuple(channel.name for channel in recipe.channels)

"""The peer's side of the benchmarks: its folders, its commands, a model with random weights."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import Dataset
from benchmarks.measure import Measurement, must

NAME = "Dataset001_Benchmark"

RANDOM_WEIGHTS = """
import json, sys
from pathlib import Path
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

plans_file, dataset_file, configuration, folder = sys.argv[1:]
plans = PlansManager(json.loads(Path(plans_file).read_text()))
dataset = json.loads(Path(dataset_file).read_text())
network = nnUNetTrainer.build_network_architecture(
    plans,
    plans.get_configuration(configuration),
    len(dataset["channel_names"]),
    plans.get_label_manager(dataset).num_segmentation_heads,
    enable_deep_supervision=False,
)
checkpoint = {
    "trainer_name": "nnUNetTrainer",
    "init_args": {"configuration": configuration},
    "inference_allowed_mirroring_axes": None,
    "network_weights": network.state_dict(),
}
torch.save(checkpoint, Path(folder) / "checkpoint_final.pth")
"""


@dataclass(frozen=True)
class NnUnet:
    """nnU-Net in a virtual environment of its own, with its folders under `root`."""

    python: Path
    root: Path

    @property
    def raw(self) -> Path:
        """The data set in nnU-Net's layout."""
        return self.root / "raw" / NAME

    @property
    def preprocessed(self) -> Path:
        """Fingerprint, plans and prepared cases."""
        return self.root / "preprocessed" / NAME

    @property
    def variables(self) -> Mapping[str, Path]:
        """What nnU-Net reads from the environment."""
        return {
            "nnUNet_raw": self.root / "raw",
            "nnUNet_preprocessed": self.root / "preprocessed",
            "nnUNet_results": self.root / "results",
        }

    def run(self, command: str, *arguments: str | Path) -> Measurement:
        """Run one of its commands and return what it took."""
        program = self.python.with_name(f"nnUNetv2_{command}")
        return must([program, *arguments], folder=self.root, variables=self.variables)

    def prepared(self, configuration: str) -> Path:
        """Return the folder of prepared cases."""
        return self.preprocessed / f"nnUNetPlans_{configuration}"

    def plan(self) -> None:
        """Make its plans without preparing cases."""
        self.run("plan_and_preprocess", "-d", "1", "-npfp", "2", "--no_pp")

    def random_model(self, configuration: str) -> None:
        """Write fold 0 of a model of its own plan with random weights."""
        trainer = f"nnUNetTrainer__nnUNetPlans__{configuration}"
        model = self.root / "results" / NAME / trainer
        (model / "fold_0").mkdir(parents=True)
        plans = self.preprocessed / "nnUNetPlans.json"
        (model / "plans.json").write_bytes(plans.read_bytes())
        (model / "dataset.json").write_bytes((self.raw / "dataset.json").read_bytes())
        words = [plans, self.raw / "dataset.json", configuration, model / "fold_0"]
        must(
            [self.python, "-c", RANDOM_WEIGHTS, *words], folder=self.root, variables=self.variables
        )


def convert(dataset: Dataset, peer: NnUnet) -> None:
    """Link a data set into nnU-Net's layout; its labels must be 0, 1, 2, ..."""
    values = dataset.labels.values
    if values != tuple(range(len(values))):
        raise SystemExit(f"nnU-Net needs label values 0, 1, ..., found {values}")
    for folder in ("imagesTr", "labelsTr"):
        (peer.raw / folder).mkdir(parents=True)
    for name in ("preprocessed", "results"):
        (peer.root / name).mkdir()
    for case in dataset.cases:
        for channel, path in enumerate(dataset.image_paths(case)):
            name = f"{case.id}_{channel:04d}{dataset.file_ending}"
            (peer.raw / "imagesTr" / name).symlink_to(path)
        labels = peer.raw / "labelsTr" / f"{case.id}{dataset.file_ending}"
        labels.symlink_to(dataset.root / str(case.labels))
    labels = dict(zip(dataset.labels.names, values, strict=True))
    description = {
        "channel_names": {str(i): name for i, name in enumerate(dataset.channels)},
        # nnU-Net asks for this name.
        "labels": {"background" if not value else name: value for name, value in labels.items()},
        "numTraining": len(dataset.cases),
        "file_ending": dataset.file_ending,
    }
    (peer.raw / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def version(python: Path) -> str:
    """Return the version of nnU-Net in an environment."""
    code = "from importlib.metadata import version; print(version('nnunetv2'))"
    run = [python, "-c", code]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()

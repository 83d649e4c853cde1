import json

import numpy as np

import pytest

from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint, Intensities
from autoseg.machine import Machine
from autoseg.plan.registry import load_planner
from autoseg.plan.request import PlanRequest
from autoseg.runtime.recipe import Labels

DATASETS = (
    "Dataset001_BrainTumour",
    "Dataset002_Heart",
    "Dataset003_Liver",
    "Dataset004_Hippocampus",
    "Dataset005_Prostate",
    "Dataset008_HepaticVessel",
    "Dataset009_Spleen",
)
SCHEMES = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
}


def _load(path):
    raw = json.loads(path.read_text())
    known = raw["foreground_intensity_properties_per_channel"]
    return Fingerprint(
        autoseg_version="0",
        dataset_name=raw["dataset"],
        unit="mm",
        labels=Labels(names=tuple(raw["labels"]), values=tuple(raw["labels"].values())),
        channels=tuple(raw["channel_names"].values()),
        cases=tuple(
            CaseStats(case_id=str(i), shape=tuple(n), shape_after_crop=tuple(n), spacing=tuple(float(np.float32(x)) for x in s))
            for i, (n, s) in enumerate(zip(raw["shapes_after_crop"], raw["spacings"], strict=True))
        ),
        intensities=tuple(Intensities(**known[key]) for key in sorted(known, key=int)),
        median_relative_size_after_cropping=raw["median_relative_size_after_cropping"],
    )


MACHINE = Machine(
    num_cpus=2, memory_bytes=16 * 2**30, gpus=(), cpu_features=(), flops=2e11, system="x", python="3"
)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("planner", ["nnunet", "resenc_m", "resenc_l"])
def test_published_plans_are_reproduced(reference, planner, dataset):
    rows = [
        row
        for row in json.loads((reference / "msd/expected_plans.json").read_text())
        if (row["dataset"], row["planner"]) == (dataset, planner)
    ]
    plan = load_planner(planner)(
        PlanRequest(
            fingerprint=_load(reference / f"msd/fingerprints/{dataset}.json"),
            machine=MACHINE,
            device="cpu",
            memory_bytes=None,
            ram_bytes=8 * 2**30,
            budget_s=None,
            num_folds=5,
            seed=0,
        )
    )
    assert {item.name for item in plan.configurations} == {row["configuration"] for row in rows}
    for row in rows:
        _check_row(plan.configuration(row["configuration"]), row)


def _check_row(item, row):
    if "expect" not in row:
        assert (item.inherits_from, item.previous_stage) == (row["inherits_from"], row["previous_stage"])
        return
    expect, stages = row["expect"], item.network.stages
    assert item.recipe.spacing == pytest.approx(row["spacing"], rel=1e-3)
    assert list(item.median_shape) == row["median_shape"]
    assert list(item.patch_size) == expect["patch_size"]
    assert item.batch_size == expect["batch_size"]
    assert len(stages) == expect["n_stages"]
    assert [list(stage.strides) for stage in stages] == expect["strides"]
    assert [list(stage.kernel_size) for stage in stages] == expect["kernel_sizes"]
    assert [stage.features for stage in stages] == expect["features_per_stage"]
    assert item.training.batch_dice == expect["batch_dice"]
    assert [c.scheme for c in item.recipe.channels] == [SCHEMES[n] for n in expect["normalization"]]
    assert [c.use_mask for c in item.recipe.channels] == expect["use_mask_for_norm"]

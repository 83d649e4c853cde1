import json
import shutil
from pathlib import Path

import pytest
from PIL import Image as Pillow

from autoseg.dataset.dataset import Case, Dataset, DatasetSpec, Findings
from autoseg.errors import DatasetError
from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint
from autoseg.pipeline.checking import CheckOptions, check_dataset
from autoseg.pipeline.choices import TrainOptions, choose_folds
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.pipeline.splitting import SplitOptions, choose_splits
from autoseg.runtime.recipe import Labels
from autoseg.testing.synthetic import write_rings


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_rings(tmp_path_factory.mktemp("data") / "rings", num_cases=8, seed=0)


@pytest.fixture
def rings(made, tmp_path):
    return shutil.copytree(made, tmp_path / "rings")


def rename(root, old, new):
    for folder in ("images", "masks"):
        (root / folder / f"{old}.png").rename(root / folder / f"{new}.png")


def copy(root, old, new):
    for folder in ("images", "masks"):
        shutil.copy(root / folder / f"{old}.png", root / folder / f"{new}.png")


def plan(root, *, spec=None, splits=None, **options):
    """Return the outcome of planning, and the folds that were written."""
    place = root.parent
    if spec is not None:
        options["spec"] = place / "spec.json"
        options["spec"].write_text(DatasetSpec.model_validate(spec).to_json())
    if splits is not None:
        options["splits"] = place / "given.json"
        options["splits"].write_text(json.dumps(splits))
    options = {"planner": "nnunet", "workspace": place / "w", **options}
    outcome = make_plan(PlanOptions(dataset=root, **options))
    return outcome, json.loads(outcome.workspace.splits.read_text())


def found(outcome):
    findings = Findings.load(outcome.workspace.findings).findings
    return "\n".join(f"{finding.severity}: {finding.found}" for finding in findings)


def test_groups_that_names_tell_stay_together_and_are_told(rings):
    for index in range(8):
        rename(rings, f"case_{index:03d}", f"patient{index // 2}_frame{index % 2}")
    outcome, folds = plan(rings)
    assert len(folds) == outcome.plan.num_folds == 4
    assert all(len({case_id[:8] for case_id in fold["val"]}) == 1 for fold in folds)
    assert "note: 8 cases in 4 groups, as their names tell" in found(outcome)


def test_a_copy_is_kept_in_the_fold_of_its_image(rings):
    copy(rings, "case_003", "other")
    outcome, folds = plan(rings)
    assert [set(f["val"]) >= {"case_003", "other"} for f in folds].count(True) == 1
    assert "names, kept in one fold: case_003, other" in found(outcome)


def brighten(root, old, new):
    """Write a case again that looks the same without being equal."""
    shutil.copy(root / "masks" / f"{old}.png", root / "masks" / f"{new}.png")
    with Pillow.open(root / "images" / f"{old}.png") as image:
        image.point([min(value + 3, 255) for value in range(256)]).save(
            root / "images" / f"{new}.png"
        )


def test_images_that_look_the_same_are_kept_in_one_fold(rings):
    brighten(rings, "case_003", "other")
    _, folds = plan(rings)
    assert [set(f["val"]) >= {"case_003", "other"} for f in folds].count(True) == 1
    train = [f"case_{index:03d}" for index in range(8)]
    outcome, folds = plan(rings, splits=[{"train": train, "val": ["other"]}])
    assert folds == [{"train": train, "val": ["other"]}]
    assert "nearly the same image on both sides of a fold: case_003, other" in found(outcome)


def test_a_stack_of_images_that_all_look_the_same_is_planned_with_a_warning(rings):
    for index in range(1, 8):
        for folder in ("images", "masks"):
            (rings / folder / f"case_{index:03d}.png").unlink()
    for index in range(1, 6):
        brighten(rings, f"case_{index - 1:03d}", f"case_{index:03d}")
    outcome, folds = plan(rings)
    assert len(folds) == 5
    assert "warning: all 6 images are nearly the same" in found(outcome)


def chosen(cases, *, is_declared=False, **options):
    """Return the folds of cases of which only the group, the look and the site are known."""
    facts = {"shape": (2, 2), "shape_after_crop": (2, 2), "spacing": (1.0, 1.0)}
    labels = Labels(names=("background", "a"), values=(0, 1))
    dataset = Dataset(
        name="a",
        root=Path("/a"),
        layout="stems",
        channel_files="single",
        channels=("image",),
        labels=labels,
        labels_declared=True,
        file_ending=".png",
        cases=tuple(
            Case(id=i, images=(i,), labels=(i,), group=group, site=group)
            for i, (group, _) in cases.items()
        ),
        groups_declared=is_declared,
    )
    fingerprint = Fingerprint(
        autoseg_version="0",
        dataset_name="a",
        unit="pixel",
        labels=labels,
        channels=("image",),
        cases=tuple(
            CaseStats(case_id=i, thumbnail=f"{look:016x}", content_hash=i, **facts)
            for i, (_, look) in cases.items()
        ),
        intensities=(),
        median_relative_size_after_cropping=1.0,
    )
    return choose_splits(dataset, fingerprint, SplitOptions(**options), None)


def look(index):
    return (index + 1) * 0x9E3779B97F4A7C15 % (1 << 64)


def alone(count, start=0):
    return {f"x{i:03d}": (f"x{i:03d}", look(i)) for i in range(start, start + count)}


def alike(count, size=1):
    return {f"a{i:03d}": (f"a{i // size}", 0) for i in range(count)}


def test_a_video_among_other_images_leaves_folds_of_equal_size():
    folds, findings = chosen({**alike(98), **alone(1)})
    assert sorted(len(fold.val) for fold in folds) == [19, 20, 20, 20, 20]
    (warning,) = findings
    assert warning.severity == "warning"
    assert "98 of 99 images are nearly the same" in warning.found


def test_pairs_of_images_stay_together_beside_a_video():
    pair = {"x000": ("x000", look(0)), "x001": ("x001", look(0) ^ 1)}
    folds, findings = chosen({**alike(40), **alone(20, start=2), **pair})
    assert any({"x000", "x001"} <= set(fold.val) for fold in folds)
    assert sorted(finding.severity for finding in findings) == ["note", "warning"]


def test_a_group_that_is_large_itself_keeps_its_near_copies():
    cases = {**{f"b{i:02d}": ("b", look(i)) for i in range(30)}, **alone(20, start=29)}
    folds, _ = chosen(cases)  # x029 looks like b29
    assert all(len({"x029", "b29"} & set(fold.val)) != 1 for fold in folds)


def test_declared_groups_are_not_joined_by_what_images_look_like():
    folds, findings = chosen(alike(20, size=2), is_declared=True)
    assert [len(fold.val) for fold in folds] == [4] * 5
    assert [finding.severity for finding in findings] == ["note"]
    assert "several of the declared groups" in findings[0].found


def test_sites_that_look_alike_can_be_left_out_in_turn():
    folds, findings = chosen(alike(20, size=5), split_by="site")
    assert [(len(fold.train), len(fold.val)) for fold in folds] == [(15, 5)] * 4
    assert "all 20 images are nearly the same" in findings[0].found


def test_given_folds_with_a_copy_on_both_sides_are_refused(rings):
    copy(rings, "case_003", "other")
    train = [f"case_{index:03d}" for index in range(8)]
    with pytest.raises(DatasetError) as caught:
        plan(rings, splits=[{"train": train, "val": ["other"]}])
    assert "case_003 to train, other to validate" in caught.value.found
    assert "--splits" in caught.value.fix
    assert not (rings.parent / "w" / "plan.json").exists()


def test_given_folds_that_leak_are_refused_before_anything_is_measured(rings):
    splits = [{"train": ["case_000", "case_001"], "val": ["case_002"]}]
    with pytest.raises(DatasetError, match="group '00' on both sides"):
        plan(rings, splits=splits, group_by=r"case_(\d\d)")
    assert not (rings.parent / "w").exists()


def test_an_official_validation_set_is_the_only_fold(rings):
    outcome, folds = plan(rings, spec={"split": {"val": ("case_00[12]",)}})
    assert outcome.plan.num_folds == len(folds) == 1
    assert folds[0]["val"] == ["case_001", "case_002"]
    assert len(folds[0]["train"]) == 6


def test_a_number_of_folds_goes_before_an_official_split(rings):
    outcome, folds = plan(rings, spec={"split": {"val": ("case_001",)}}, num_folds=2)
    assert [len(fold["val"]) for fold in folds] == [4, 4]
    assert "note: the data set comes with a split (7 cases to train, 1 to validate)" in found(
        outcome
    )


def test_a_check_of_an_official_split_that_leaks_speaks_of_no_other_folds(rings):
    rename(rings, "case_000", "p1_a")
    rename(rings, "case_001", "p1_b")
    file = rings.parent / "spec.json"
    file.write_text('{"group_by": "^(p1|.*)", "split": {"val": ["p1_a"]}}')
    outcome = check_dataset(CheckOptions(dataset=rings, spec=file))
    told = [finding.found for finding in outcome.findings]
    assert outcome.has_errors
    assert not [text for text in told if "other folds were asked for" in text]


def test_an_official_split_that_tears_a_group_is_refused(rings):
    with pytest.raises(DatasetError, match="group '00' on both sides") as caught:
        plan(rings, spec={"split": {"val": ("case_001",)}}, group_by=r"case_(\d\d)")
    assert "--folds 5" in caught.value.fix
    with pytest.raises(DatasetError, match=r"case_000, .* to train, case_001 to test"):
        plan(rings, spec={"split": {"test": ("case_001",)}}, group_by=r"case_(\d\d)")


def test_nothing_is_planned_for_or_trained_on_test_cases(rings):
    outcome, folds = plan(rings, spec={"split": {"test": ("case_001", "case_005")}})
    tested = {"case_001", "case_005"}
    stored = Fingerprint.load(outcome.workspace.fingerprint)
    assert not tested & {case.case_id for case in stored.cases}
    assert {case.id for case in outcome.dataset.cases if case.split == "test"} == tested
    assert not any(tested & {*fold["train"], *fold["val"]} for fold in folds)
    options = TrainOptions(workspace=outcome.workspace, folds=("all",))
    (choice,) = choose_folds(outcome.plan, outcome.dataset, options)
    assert len(choice.split.train) == 6
    assert not tested & set(choice.split.train)


def test_a_test_case_outside_changes_no_decision(rings):
    split = {"test": ("case_001",)}
    first, _ = plan(rings, spec={"split": split})
    with Pillow.open(rings / "images" / "case_001.png") as image:
        other = image.rotate(90).crop((0, 0, image.width // 2, image.height // 2))
    other.save(rings / "images" / "case_001.png")
    other.point(lambda value: 0).save(rings / "masks" / "case_001.png")
    second, _ = plan(rings, spec={"split": split}, workspace=rings.parent / "w2")
    assert first.fingerprint == second.fingerprint


def test_a_class_that_only_test_cases_hold_is_none(rings):
    with Pillow.open(rings / "masks" / "case_001.png") as mask:
        mask.point(lambda value: 7 * value).save(rings / "masks" / "case_001.png")
    with pytest.raises(DatasetError, match=r"case_001\.png: label values 7"):
        plan(rings, spec={"split": {"test": ("case_001",)}})
    with pytest.raises(DatasetError, match=r"case_001\.png: label values 7"):
        plan(rings, splits={"train": ["case_000"], "val": ["case_002"], "test": ["case_001"]})


def test_cases_that_a_pattern_leaves_out_may_be_named_in_a_file_of_splits(rings):
    names = [f"case_{index:03d}" for index in range(8)]
    _, folds = plan(
        rings, spec={"exclude": {"*_00[67]*": "x"}}, splits={"train": names[:5], "val": names[5:]}
    )
    assert folds == [{"train": names[:5], "val": names[5:6]}]


def test_a_copy_in_the_test_set_is_refused_with_what_to_write(rings):
    copy(rings, "case_003", "other")
    with pytest.raises(DatasetError, match="test set and outside: case_003, other") as caught:
        plan(rings, spec={"split": {"test": ("other",)}})
    remedy = json.loads(caught.value.fix.partition(": ")[2])
    assert remedy == {"exclude": {"case_003": "copy"}}
    outcome, _ = plan(rings, spec={"split": {"test": ("other",)}, **remedy})
    assert len(outcome.fingerprint.cases) == 7


def test_a_file_of_splits_may_tell_the_test_set(rings):
    names = [f"case_{index:03d}" for index in range(8)]
    splits = {"train": names[:4], "val": names[4:6], "test": names[6:7]}
    outcome, folds = plan(rings, splits=splits)
    assert folds == [{"train": names[:4], "val": names[4:6]}]
    assert [case.id for case in outcome.dataset.cases if case.split == "test"] == [names[6]]
    assert f"warning: 1 case is in no fold of given.json: {names[7]}" in found(outcome)


def test_one_fold_a_site(rings):
    for index in range(8):
        rename(rings, f"case_{index:03d}", f"{'ABC'[index % 3]}_{index}")
    outcome, folds = plan(rings, spec={"site_by": "^([A-Z])_"}, split_by="site")
    assert outcome.plan.num_folds == 3
    assert [{case_id[0] for case_id in fold["val"]} for fold in folds] == [{"A"}, {"B"}, {"C"}]
    assert all(fold["val"][0][0] not in {i[0] for i in fold["train"]} for fold in folds)


def test_leaving_a_site_out_needs_sites(rings):
    with pytest.raises(DatasetError, match="8 of 8 cases without a site"):
        plan(rings, split_by="site")
    with pytest.raises(DatasetError, match="--folds 8"):
        plan(rings, num_folds=9)
    assert not (rings.parent / "w").exists()  # nothing was measured


def test_wishes_that_exclude_each_other_are_refused(rings):
    with pytest.raises(DatasetError, match="leave out --folds"):
        plan(rings, split_by="site", num_folds=3)


def test_nearly_equal_images_are_sought_once(rings, monkeypatch):
    def sought_again(cases):
        raise AssertionError("known already")

    monkeypatch.setattr("autoseg.pipeline.splitting.near_copies", sought_again)
    monkeypatch.setattr("autoseg.check.findings.near_copies", sought_again)
    plan(rings)
    check_dataset(CheckOptions(dataset=rings))

from dataclasses import replace

import pytest

from autoseg.plan.compose import cascade
from autoseg.preprocess.identity import prepared_as, recipe_digest
from autoseg.preprocess.preprocess import preprocess
from autoseg.workspace import Workspace


def with_cascade(plan, **changes):
    """Return a plan with a coarse stage and a second one, whose recipe has fields changed."""
    flat, full = plan.configurations
    coarse = full.revised(name="3d_lowres", recipe=replace(full.recipe, spacing=(4.0, 2.0, 2.0)))
    second = cascade(full, "3d_lowres", "a test")
    second = second.revised(recipe=replace(second.recipe, **changes))
    return plan.revised(configurations=(flat, full, coarse, second))


def test_a_second_stage_takes_the_cases_of_the_configuration_it_inherits_from(make_plan):
    plan = with_cascade(make_plan())
    names = [item.name for item in plan.configurations]
    assert [prepared_as(plan, name) for name in names] == [*names[:3], "3d_fullres"]


@pytest.mark.parametrize(
    "changes", [{"spacing": (1.0, 1.0, 1.0)}, {"spline_order": 1}, {"transpose": (1, 0, 2)}]
)
def test_a_second_stage_with_another_recipe_has_cases_of_its_own(make_plan, changes):
    assert prepared_as(with_cascade(make_plan(), **changes), "3d_cascade_fullres") == (
        "3d_cascade_fullres"
    )


def test_what_matters_only_to_prediction_does_not_part_the_cases(make_plan):
    plan = with_cascade(make_plan(), overlap=0.25, mirror_axes=())
    assert prepared_as(plan, "3d_cascade_fullres") == "3d_fullres"


def test_a_second_stage_whose_sibling_is_not_planned_has_cases_of_its_own(make_plan):
    plan = with_cascade(make_plan())
    alone = plan.revised(configurations=plan.configurations[2:])
    assert prepared_as(alone, "3d_cascade_fullres") == "3d_cascade_fullres"


def test_arrays_depend_on_labels_and_seed_too(make_plan):
    plan = make_plan()
    recipe = plan.configurations[0].recipe
    others = [
        plan.revised(seed=1),
        plan.revised(labels=replace(plan.labels, ignore=None)),
    ]
    assert len({recipe_digest(recipe, item) for item in (plan, *others)}) == 3


def test_cases_of_a_second_stage_are_prepared_once_with_those_it_shares(
    make_dataset, make_plan, tmp_path
):
    plan, workspace = with_cascade(make_plan()), Workspace(tmp_path / "run.autoseg")
    done = []
    preprocess(
        make_dataset(tmp_path / "data"),
        plan,
        workspace,
        ("3d_cascade_fullres", "3d_fullres"),
        num_workers=1,
        on_case=lambda *case: done.append(case),
    )
    assert sorted(done) == [("3d_fullres", case_id) for case_id in "abc"]
    folders = [path.name for path in (workspace.root / "preprocessed").iterdir()]
    assert folders == ["3d_fullres"]


def test_a_second_stage_alone_has_its_shared_cases_prepared(make_dataset, make_plan, tmp_path):
    plan, workspace = with_cascade(make_plan()), Workspace(tmp_path / "run.autoseg")
    preprocess(
        make_dataset(tmp_path / "data"),
        plan,
        workspace,
        ("3d_cascade_fullres",),
        num_workers=1,
        on_case=lambda *_: None,
    )
    assert (workspace.preprocessed("3d_fullres") / "a.json").exists()
    assert not workspace.preprocessed("3d_cascade_fullres").exists()

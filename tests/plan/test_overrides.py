import pytest

from autoseg.errors import PlanError
from autoseg.pipeline.supersede import by_key
from autoseg.plan.counting import num_parameters
from autoseg.plan.memory import BYTES_PER_PARAMETER, FIXED_BYTES
from autoseg.plan.overrides import apply_overrides, check_settings, user_settings
from autoseg.plan.registry import load_planner
from autoseg.plan.setting_keys import FIXED_FIELDS
from autoseg.testing.fingerprints import fingerprint_of, request_of


@pytest.fixture(scope="module")
def plan():
    return load_planner("nnunet")(request_of(fingerprint_of([(36, 50, 35)] * 200)))


def test_no_changes_leave_the_plan_as_it_is(plan):
    assert apply_overrides(plan, []) is plan


def test_a_value_of_one_configuration_changes_with_its_cost(plan):
    old, new = (
        item.configuration("3d_fullres")
        for item in (plan, apply_overrides(plan, ["3d_fullres.batch_size=2"]))
    )
    assert new.batch_size == 2
    assert new.cost.step_operations == pytest.approx(old.cost.step_operations * 2 / old.batch_size)
    assert new.cost.memory_bytes < old.cost.memory_bytes
    assert new.network == old.network


def test_a_change_is_recorded_in_place_of_the_decision(plan):
    changed = apply_overrides(plan, ["3d_fullres.batch_size=2"])
    (decision,) = [d for d in changed.decisions if d.name == "3d_fullres.batch_size"]
    assert (decision.value, decision.reason) == ("2", "Set by the user.")


@pytest.mark.parametrize("text", ["40,56,48", "[40, 56, 48]"])
def test_lists_are_written_with_commas_or_as_json(plan, text):
    changed = apply_overrides(plan, [f"3d_fullres.patch_size={text}"])
    assert changed.configuration("3d_fullres").patch_size == (40, 56, 48)


def test_nested_values_words_and_fields_of_the_plan_are_set(plan):
    changed = apply_overrides(
        plan,
        [
            "2d.training.augmentation.blur_probability=0",
            "2d.recipe.padding=mirror",
            "3d_fullres.train_by_default=false",
            "num_threads=1",
            "2d.network.stages.1.features=48",
        ],
    )
    flat = changed.configuration("2d")
    assert flat.training.augmentation.blur_probability == 0
    assert flat.recipe.padding == "mirror"
    assert flat.network.stages[1].features == 48
    assert flat.cost.parameters != plan.configuration("2d").cost.parameters
    assert not changed.configuration("3d_fullres").train_by_default
    assert changed.num_threads == 1


@pytest.mark.parametrize(
    ("assignments", "more_values"),
    [
        (["encoder=residual", "squeeze_reduction=16"], True),
        (["encoder=bottleneck"], True),
        (["encoder=mednext"], True),
        (["decoder=attention"], True),
        (["decoder=nested"], True),
        (["upsampling=linear"], True),
        (["upsampling=shuffle"], False),
        (["downsampling=max"], False),
        (["norm=batch"], False),
        (["norm=group"], False),
        (["dropout=0.2"], False),
    ],
    ids=str,
)
def test_every_part_of_a_network_is_set_with_its_cost(plan, assignments, more_values):
    changed = apply_overrides(plan, [f"3d_fullres.network.{item}" for item in assignments])
    old, new = (item.configuration("3d_fullres") for item in (plan, changed))
    assert new.network != old.network
    assert new.cost.parameters == num_parameters(new.network)
    assert (feature_bytes(new.cost) > feature_bytes(old.cost)) == more_values


def feature_bytes(cost):
    """Return what the values between the layers take of a configuration's memory."""
    return cost.memory_bytes - FIXED_BYTES - BYTES_PER_PARAMETER * cost.parameters


def test_deep_supervision_takes_other_weights(plan):
    supervised = plan.configuration("3d_fullres").network.num_supervised
    assert supervised == 2
    weights = "3d_fullres.training.supervision_weights=0.5,0.3,0.2"
    changed = apply_overrides(plan, ["3d_fullres.network.num_supervised=3", weights])
    first, *others = changed.configuration("3d_fullres").training.supervision_weights
    assert [weight / first for weight in others] == pytest.approx([0.6, 0.4])


@pytest.mark.parametrize(
    ("assignment", "hint"),
    [
        ("3d_fullress.batch_size=2", "3d_fullres"),
        ("3d_fullres.batchsize=2", "batch_size"),
        ("3d_fullres.training.peak_learning_rate=1", "peak_lr"),
        ("num_thread=2", "num_threads"),
        ("3d_fullres.learning_rate=1", "3d_fullres.training.peak_lr"),
        ("3d_fullres.overlap=0.5", "3d_fullres.recipe.overlap"),
        ("3d_fullres.training.batch_size=2", "3d_fullres.batch_size"),
        ("3d_fullres.dropuot=0.1", "3d_fullres.network.dropout"),
        ("batch_size=2", "2d.batch_size"),
        ("training.peak_rl=2", "write training.peak_lr="),
        ("folds=3", "--folds"),
        ("3d_fullres.network.stages.0.feature=3", "3d_fullres.network.stages.0.features"),
        ("augmentation.noise=0.1", "augmentation.noise_std"),
        ("3d_fullres.recipe.spacings.0=1", "3d_fullres.recipe.spacing.0"),
    ],
)
def test_an_unknown_key_names_the_nearest(plan, assignment, hint):
    with pytest.raises(PlanError) as caught:
        apply_overrides(plan, [assignment])
    assert hint in caught.value.fix


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("3d_fullres.patch_size=41,56,40", "not divisible"),
        ("3d_fullres.patch_size=40,56", "2 numbers"),
        ("3d_fullres.batch_size=two", "batch_size=two"),
        ("3d_fullres.patch_size=0,56,40", "patch_size=0"),
        ("3d_fullres.recipe.overlap=1.0", "overlap"),
        ("3d_fullres.network.num_supervised=1", "supervision_weights"),
        ("3d_fullres.network.num_classes=7", "2 labels"),
        ("3d_fullres.network.dropout=1.5", "network.dropout"),
        ("3d_fullres.network.squeeze_reduction=0", "network.squeeze_reduction"),
        ("num_folds=0", "num_folds"),
        ("3d_fullres.region_margin=20", "no previous stage says where something is"),
    ],
)
def test_a_plan_that_does_not_fit_together_is_refused(plan, assignment, words):
    with pytest.raises(PlanError) as caught:
        apply_overrides(plan, [assignment])
    assert words in caught.value.found


def test_a_cascade_takes_a_margin_around_what_its_first_stage_finds():
    plan = load_planner("nnunet")(request_of(fingerprint_of([(400, 500, 500)] * 20)))
    assert plan.configuration("3d_cascade_fullres").region_margin is None
    changed = apply_overrides(plan, ["3d_cascade_fullres.region_margin=20"])
    assert changed.configuration("3d_cascade_fullres").region_margin == 20
    for margin, words in (("-1", "0 or more"), ("far", "a number, or null")):
        with pytest.raises(PlanError) as caught:
            apply_overrides(plan, [f"3d_cascade_fullres.region_margin={margin}"])
        assert words in caught.value.expected


@pytest.mark.parametrize("assignment", ["3d_fullres.batch_size", "=3", "planner=mine"])
def test_what_is_no_assignment_is_refused(plan, assignment):
    with pytest.raises(PlanError):
        apply_overrides(plan, [assignment])


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("3d_fullres.batch_size=two", "a whole number"),
        ("3d_fullres.batch_size=2.5", "a whole number"),
        ("3d_fullres.patch_size=40,56,many", "whole numbers with commas between"),
        ("3d_fullres.patch_size=40", "whole numbers with commas between"),
        ("3d_fullres.network.decoder=dense", "'plain', 'attention' or 'nested'"),
        ("3d_fullres.train_by_default=yes", "true or false"),
        ("3d_fullres.network.squeeze_reduction=few", "a whole number, or null"),
        ("3d_fullres.training.augmentation.gamma=1", "two numbers with a comma between"),
        ("3d_fullres.training.peak_lr=fast", "a number"),
        ("3d_fullres.recipe.channels.0.scheme=zscor", "'zscore', 'ct'"),
        ("3d_fullres.network=small", "JSON like that in plan.json"),
        ("loss=focall", "one of ce"),
        ("3d_fullres.loss.kind=focall", "one of ce"),
    ],
)
def test_a_value_of_another_type_is_told_in_words_before_there_is_a_plan(assignment, expected):
    with pytest.raises(PlanError) as caught:
        check_settings([assignment])
    assert expected in caught.value.expected
    assert caught.value.found == f"--set {assignment}"


@pytest.mark.parametrize(
    "assignments",
    [
        ["3d_fullres.batch_size=2", "3d_fullres.batch_size=2"],
        ["3d_fullres.patch_size=40,56,40", "3d_fullres.patch_size.0=48"],
        ["loss=focal", "2d.loss.focal_gamma=3", "augmentation.gamma=0.5,1.5"],
        ["2d.network.backbone=resnet34", "2d.network.weights=none"],
        ["3d_fullres.network.dropout=1", "3d_fullres.network.squeeze_reduction=null"],
        ["3d_fullres.median_shape=40,50.5,40", "3d_fullres.training.loss.regions=[[1, 2], [2]]"],
    ],
)
def test_what_some_plan_takes_is_not_refused_before_there_is_one(assignments):
    check_settings(assignments)


def test_settings_that_contradict_each_other_are_told_all_at_once():
    with pytest.raises(PlanError) as caught:
        check_settings(["2d.batch_size=2", "2d.batch_size=3", "2d.batch=4", "seed=x"])
    for words in ("2d.batch_size=2 and 2d.batch_size=3", "unknown key 'batch'", "seed=x"):
        assert words in caught.value.found
    for words in ("leave one out", "2d.batch_size=...", "correct the value"):
        assert words in caught.value.fix


def test_a_configuration_that_other_data_have_is_told(plan):
    check_settings(["1d.batch_size=4"])
    with pytest.raises(PlanError, match="no configuration 1d") as caught:
        apply_overrides(plan, ["1d.batch_size=4"])
    assert caught.value.expected == "one of 2d, 3d_fullres"


def test_every_value_of_a_plan_is_known_to_the_keys(plan):
    changed = apply_overrides(plan, [f"{key}={text}" for key, text in settable(plan)])
    assert changed.configurations == plan.configurations


def settable(plan):
    """Return keys and values, as JSON, of everything in a plan that may be set."""
    for key, text in by_key(plan).items():
        if not FIXED_FIELDS.intersection(key.split(".")) and "labels" not in key:
            yield key, text


def test_user_settings_are_found_again(plan):
    settings = ("2d.batch_size=4", "3d_fullres.patch_size=[40, 56, 48]")
    assert user_settings(apply_overrides(plan, settings)) == settings
    assert user_settings(plan) == ()


def test_valid_convolutions_get_what_they_need(plan):
    before = plan.configuration("3d_fullres")
    changed = apply_overrides(plan, ["3d_fullres.network.padding=valid"])
    item = changed.configuration("3d_fullres")
    assert item.network.downsampling == "max"
    assert item.training.supervision_weights == (1.0,)
    assert all(n >= m for n, m in zip(item.output_size, before.patch_size, strict=True))
    reasons = {decision.name: decision.reason for decision in changed.decisions}
    assert "needs it" in reasons["3d_fullres.patch_size"]


def test_a_patch_that_valid_convolutions_cannot_take_is_refused_with_one_that_they_can(plan):
    fitting = apply_overrides(plan, ["3d_fullres.network.padding=valid"])
    first, *others = fitting.configuration("3d_fullres").patch_size
    words = ",".join(map(str, (first - 1, *others)))
    with pytest.raises(PlanError, match=f"{first}, ") as caught:
        apply_overrides(
            plan, ["3d_fullres.network.padding=valid", f"3d_fullres.patch_size={words}"]
        )
    assert "valid convolutions cannot take" in caught.value.found


def test_channel_dropout_makes_a_network_that_is_told_which_channels_are_there(plan):
    changed = apply_overrides(plan, ["augmentation.channel_dropout_probability=0.2"])
    assert all(item.network.missing_channels for item in changed.configurations)
    with pytest.raises(PlanError, match="missing_channels is false"):
        apply_overrides(
            plan,
            [
                "3d_fullres.augmentation.channel_dropout_probability=0.2",
                "3d_fullres.network.missing_channels=false",
            ],
        )


def test_recomputing_takes_less_memory_and_more_time(plan):
    changed = apply_overrides(plan, ["3d_fullres.training.recompute=true"])
    old, new = (item.configuration("3d_fullres").cost for item in (plan, changed))
    assert feature_bytes(new) < 0.7 * feature_bytes(old)
    assert new.step_seconds == pytest.approx(4 / 3 * old.step_seconds)


def test_a_key_without_its_configuration_is_told_with_all_that_may_be_meant(plan):
    with pytest.raises(PlanError) as caught:
        apply_overrides(plan, ["batch_size=4"])
    assert caught.value.fix == "write 2d.batch_size=..., or with another configuration: 3d_fullres"


def test_a_training_setting_without_a_configuration_holds_for_all(plan):
    changed = apply_overrides(plan, ["training.peak_lr=0.5", "training.schedule=cosine"])
    found = {(item.training.peak_lr, item.training.schedule) for item in changed.configurations}
    assert found == {(0.5, "cosine")}


def test_another_optimizer_brings_its_usual_numbers_unless_they_are_set(plan):
    changed = apply_overrides(plan, ["training.optimizer=adam", "2d.training.peak_lr=0.5"])
    rates = {item.name: item.training.peak_lr for item in changed.configurations}
    assert rates == {"2d": 0.5, "3d_fullres": 1e-4}
    assert {item.training.weight_decay for item in changed.configurations} == {1e-5}
    reasons = {decision.name: decision.reason for decision in changed.decisions}
    assert "needs it" in reasons["3d_fullres.training.weight_decay"]


def test_the_optimizer_that_is_planned_changes_nothing(plan):
    planned = plan.configuration("2d").training
    slow = plan.configuration("2d").revised(training=planned.revised(weight_decay=0.5))
    slower = plan.revised(configurations=(slow, *plan.configurations[1:]))
    changed = apply_overrides(slower, ["2d.training.optimizer=sgd"])
    assert changed.configuration("2d").training == slow.training


def test_one_cycle_has_no_other_warm_up(plan):
    changed = apply_overrides(plan, ["training.optimizer=adamw", "training.schedule=one_cycle"])
    assert {item.training.warmup_steps for item in changed.configurations} == {0}
    with pytest.raises(PlanError, match="rise of its own"):
        apply_overrides(plan, ["2d.training.schedule=one_cycle", "2d.training.warmup_steps=5"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["2d.training.schedule=cosine", "2d.training.poly_power=1"], "schedule poly"),
        (["2d.training.reduce_patience=5"], "schedule reduce_on_plateau"),
        (["2d.training.optimizer=adam", "2d.training.momentum=0.8"], "only sgd"),
    ],
)
def test_a_number_that_nothing_reads_is_refused(plan, settings, words):
    with pytest.raises(PlanError, match=words):
        apply_overrides(plan, settings)


def test_reductions_that_never_come_or_raise_the_rate_are_refused(plan):
    for setting in ("reduce_factor=2", "reduce_patience=-1"):
        with pytest.raises(PlanError, match="reduce_"):
            apply_overrides(
                plan, ["2d.training.schedule=reduce_on_plateau", f"2d.training.{setting}"]
            )


@pytest.mark.parametrize(
    ("assignment", "fix"),
    [
        (
            "lerning_rate=1e-3",
            "write 3d_fullres.training.peak_lr=..., or with another configuration",
        ),
        ("3d_fullres.lerning_rate=1e-3", "write 3d_fullres.training.peak_lr=..."),
        ("3d_fullres.oversampeling=1", "write 3d_fullres.training.foreground_fraction=..."),
        ("batch_size=2", "write 3d_fullres.batch_size=..., or with another configuration: 2d"),
        ("2d.batchsize=2", "write 2d.batch_size=..."),
    ],
)
def test_configurations_that_the_plan_has_are_proposed_the_best_first(assignment, fix):
    with pytest.raises(PlanError) as caught:
        check_settings([assignment], likely=("3d_fullres", "2d"))
    assert caught.value.fix.startswith(fix)
    for absent in ("1d", "3d_lowres", "cascade"):
        assert absent not in str(caught.value)


def test_the_only_configuration_is_proposed_alone():
    with pytest.raises(PlanError) as caught:
        check_settings(["lerning_rate=1e-3"], likely=("2d",))
    assert caught.value.fix == "write 2d.training.peak_lr=..."


@pytest.mark.parametrize(
    ("assignment", "found", "expected", "fix"),
    [
        ("3d_fullres.patch_size=64,64", "2 numbers", "the 3 axes of 3d_fullres", "in 2D"),
        ("2d.patch_size=64,64,64", "3 numbers", "the 2 axes of 2d", "64,96, or"),
        ("1d.patch_size=64,64", "2 numbers", "the 1 axis of 1d", "give 1 number"),
        ("3d_fullres.recipe.spacing=1,1", "2 numbers", "3 axes", "give 3 numbers"),
        ("2d.network.stages.1.strides=2,2,2", "3 numbers", "2 axes", "give 2 numbers"),
    ],
)
def test_numbers_that_are_not_one_for_each_axis_are_told_at_once(assignment, found, expected, fix):
    with pytest.raises(PlanError) as caught:
        check_settings([assignment])
    error = caught.value
    assert error.found == f"--set {assignment}: {found}"
    assert expected in error.expected
    assert fix in error.fix
    assert "\n" not in error.found


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("2d.batch_size=0", "batch_size 1 or more"),
        ("2d.patch_size=0,64", "patch_size 1 or more"),
        ("3d_fullres.training.peak_lr=-1", "peak_lr above 0"),
        ("3d_fullres.training.foreground_fraction=2", "foreground_fraction from 0 to 1"),
        ("3d_fullres.recipe.overlap=1.0", "overlap between 0 and 1"),
        ("3d_fullres.recipe.spacing=1,0,1", "spacing above 0"),
        ("memory_bytes=0", "memory_bytes above 0"),
    ],
)
def test_numbers_that_no_plan_takes_are_told_before_there_is_one(assignment, expected):
    with pytest.raises(PlanError) as caught:
        check_settings([assignment])
    assert (caught.value.found, caught.value.expected) == (f"--set {assignment}", expected)


@pytest.mark.parametrize("assignment", ["num_folds=3", "folds=3"])
def test_folds_are_made_with_the_plan_and_not_set(plan, assignment):
    with pytest.raises(PlanError) as caught:
        apply_overrides(plan, [assignment])
    assert caught.value.fix == "give --folds instead"

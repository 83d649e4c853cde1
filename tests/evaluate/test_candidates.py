"""When a challenger replaces the incumbent."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.evaluate.candidates import INCUMBENT, HeldOutScore, Verdict, decide
from autoseg.seeds import stream

FEW = settings(max_examples=15, deadline=None, derandomize=True)


@dataclass(frozen=True)
class Noise:
    """Standard deviations of Dice, of a training as a whole and of one of its cases."""

    run: float = 0.01
    case: float = 0.01
    degrees: float = float("inf")
    """Of Student's t, from which both are drawn: 3 has heavy tails."""


def trained(
    name, rng, noise, *, gain=0.0, cases=10, folds=2, seeds=2, place="fold"
) -> list[HeldOutScore]:
    """Return scores of a candidate whose cases differ in difficulty, the same for every one."""
    hard = stream(0, "difficulty").normal(0.8, 0.05, (folds, cases))

    def draw(*shape):
        if np.isinf(noise.degrees):
            return rng.normal(size=shape)
        return rng.standard_t(noise.degrees, shape) / np.sqrt(noise.degrees / (noise.degrees - 2))

    runs = noise.run * draw(folds, seeds, 1) + noise.case * draw(folds, seeds, cases)
    return [
        HeldOutScore(
            candidate=name,
            fold=f"{fold}",
            seed=seed,
            case=f"{place} {fold} case {case}",
            dice=float(hard[fold, case] + gain + runs[fold, seed, case]),
        )
        for fold, seed, case in np.ndindex(folds, seeds, cases)
    ]


def replaced(scores, **changes):
    return [item.revised(**changes) for item in scores]


def searched(seed, gains, noise=Noise(), **sizes) -> list[HeldOutScore]:
    rng = stream(seed, "scores")
    scores = trained(INCUMBENT, rng, noise, **sizes)
    for number, gain in enumerate(gains, 1):
        scores += trained(f"trial {number}", rng, noise, gain=gain, **sizes)
    return scores


def without(scores, name, **where):
    return [
        item
        for item in scores
        if item.candidate != name or any(getattr(item, key) != to for key, to in where.items())
    ]


@FEW
@given(seed=st.integers(0, 10**6), noise=st.floats(0.0, 0.01))
def test_large_gain_wins_whatever_the_noise(seed, noise):
    verdict = decide(searched(seed, [0.2, 0.0], Noise(noise, noise)), seed=0)
    assert verdict.winner == "trial 1"
    assert verdict.comparisons[0].low > 0
    assert verdict.comparisons[0].p_holm < 0.05
    assert "Trial 1 replaces the plan" in verdict.reason


@FEW
@given(seed=st.integers(0, 10**6), noise=st.floats(0.0, 0.2), cases=st.integers(1, 30))
def test_identical_candidates_never_win(seed, noise, cases):
    scores = trained(INCUMBENT, stream(seed, "scores"), Noise(noise, noise), cases=cases)
    verdict = decide([*scores, *replaced(scores, candidate="trial 1")], seed)
    assert verdict.winner is None
    assert verdict.comparisons[0].difference == 0
    assert verdict.comparisons[0].p_value == 1
    assert "trial 1 has the same scores" in verdict.reason


@FEW
@given(seed=st.integers(0, 10**6), order=st.randoms(use_true_random=False))
def test_order_of_the_scores_does_not_matter(seed, order):
    scores = searched(seed, [0.01, 0.02, 0.0])
    shuffled = list(scores)
    order.shuffle(shuffled)
    assert decide(shuffled, 0) == decide(scores, 0)


@FEW
@given(seed=st.integers(0, 10**6), gain=st.floats(-0.05, 0.05))
def test_swapping_both_sides_turns_the_comparison_round(seed, gain):
    scores = searched(seed, [gain])
    names = {INCUMBENT: "trial 1", "trial 1": INCUMBENT}
    swapped = [item.revised(candidate=names[item.candidate]) for item in scores]
    (there,), (back,) = decide(scores, 0).comparisons, decide(swapped, 0).comparisons
    assert back.difference == pytest.approx(-there.difference)
    assert back.p_value == pytest.approx(there.p_value)
    width = there.high - there.low
    assert back.low == pytest.approx(-there.high, abs=0.08 * width)  # as many resamples allow
    assert back.high == pytest.approx(-there.low, abs=0.08 * width)


def test_largest_of_several_gains_wins():
    verdict = decide(searched(0, [0.1, 0.3, 0.2]), 0)
    assert verdict.winner == "trial 2"
    assert [row.candidate for row in verdict.comparisons] == ["trial 2", "trial 3", "trial 1"]


def test_the_more_challengers_the_stronger_each_must_be():
    alone = decide(searched(0, [0.01]), 0).comparisons[0]
    among = {row.candidate: row for row in decide(searched(0, [0.01, -0.3, -0.2]), 0).comparisons}[
        "trial 1"
    ]
    assert among.p_value == alone.p_value
    assert among.p_value <= among.p_holm
    assert among.low == alone.low  # the resamples are the same for all


def test_holm_multiplies_in_steps():
    rows = decide(searched(3, [0.004, 0.01, 0.0]), 0).comparisons
    ordered = sorted(rows, key=lambda row: row.p_value)
    expected = np.maximum.accumulate(
        [row.p_value * by for row, by in zip(ordered, (3, 2, 1), strict=True)]
    )
    assert [row.p_holm for row in ordered] == pytest.approx(np.minimum(expected, 1))


def test_lucky_training_does_not_win_although_all_cases_agree():
    """The mistake of a test over cases alone."""
    scores = searched(0, [0.0], Noise(run=0.0, case=0.0001), cases=40)
    lucky = [
        item.revised(dice=(item.dice or 0) + 0.05)
        if (item.candidate, item.fold, item.seed) == ("trial 1", "0", 0)
        else item.revised(dice=(item.dice or 0) + 0.002 * (item.candidate == "trial 1"))
        for item in scores
    ]
    verdict = decide(lucky, 0)
    assert verdict.comparisons[0].p_holm < 0.001
    assert verdict.comparisons[0].low < 0
    assert verdict.winner is None
    assert "training the same plan again can change as much" in verdict.reason


def test_few_large_gains_do_not_win_against_many_small_losses():
    scores = searched(0, [0.0], Noise(0.0, 0.0), cases=20)
    skewed = [
        item.revised(dice=(item.dice or 0) + (0.5 if item.case.endswith("case 7") else -0.001))
        if item.candidate == "trial 1"
        else item
        for item in scores
    ]
    (row,) = decide(skewed, 0).comparisons
    assert row.difference > 0
    assert row.p_value == 1


def test_worse_challenger_is_told():
    assert "trial 1 is worse by 0.1" in decide(searched(0, [-0.1], Noise(0.0, 0.0)), 0).reason


def test_so_few_cases_can_prove_nothing():
    verdict = decide(searched(0, [0.2], Noise(0.001, 0.001), cases=2), 0)
    assert verdict.winner is None
    assert "takes at least 6" in verdict.reason
    assert decide(searched(0, [0.2], Noise(0.001, 0.001), cases=3), 0).winner == "trial 1"


@pytest.mark.parametrize(("folds", "seeds", "said"), [(1, 2, "1 fold and 2"), (2, 1, "1 seed;")])
def test_one_fold_or_one_seed_decides_nothing(folds, seeds, said):
    verdict = decide(searched(0, [0.2], folds=folds, seeds=seeds), 0)
    assert verdict == Verdict(comparisons=(), winner=None, reason=verdict.reason)
    assert said in verdict.reason


@pytest.mark.parametrize("where", [{"fold": "1", "seed": 1}, {"case": "fold 0 case 3"}])
def test_challenger_with_missing_scores_cannot_win(where):
    scores = without(searched(0, [0.2, 0.1]), "trial 1", **where)
    verdict = decide(scores, 0)
    assert verdict.winner == "trial 2"
    assert [row.candidate for row in verdict.comparisons] == ["trial 2"]
    alone = decide(without(scores, "trial 2"), 0)
    assert alone.winner is None
    assert "trial 1 lacks scores, unlike the plan as it is" in alone.reason


def test_missing_challenger_is_named_beside_one_that_did_not_win():
    scores = without(searched(0, [0.2, 0.0]), "trial 1", fold="1", seed=1)
    assert "Trial 1 lacks scores" in decide(scores, 0).reason


def test_training_that_the_incumbent_lacks_is_not_used():
    scores = searched(0, [0.02], seeds=3)
    fewer = without(scores, INCUMBENT, fold="1", seed=2)
    row = decide(fewer, 0).comparisons[0]
    assert row == decide(without(fewer, "trial 1", fold="1", seed=2), 0).comparisons[0]
    assert row.num_seeds == 2


def test_case_with_nothing_to_find_counts_only_where_something_was_found():
    scores = searched(0, [0.0], Noise(0.0, 0.0), cases=5)

    def with_dice(challenger, incumbent):
        dices = {"trial 1": challenger, INCUMBENT: incumbent}
        return decide(
            [
                item.revised(dice=dices[item.candidate]) if item.case == "fold 0 case 0" else item
                for item in scores
            ],
            0,
        ).comparisons[0]

    assert with_dice(None, None).num_cases == 9
    assert with_dice(None, 0.0).num_cases == 10
    assert with_dice(None, 0.0).difference == pytest.approx(0.1)
    assert with_dice(0.0, None).difference == pytest.approx(-0.1)


def test_nothing_to_find_anywhere_is_no_victory():
    verdict = decide(replaced(searched(0, [0.2]), dice=None), 0)
    assert verdict.winner is None
    assert verdict.comparisons[0].num_cases == 0


def test_fold_in_which_nothing_counts_is_no_second_fold():
    scores = searched(0, [0.2], Noise(0.001, 0.001))
    empty = [item.revised(dice=None) if item.fold == "1" else item for item in scores]
    verdict = decide(empty, 0)
    assert verdict.winner is None
    assert verdict.comparisons[0].num_folds == 1
    assert "only one fold has cases that count" in verdict.reason


def test_case_of_two_folds_counts_once_in_the_test():
    scores = [
        item.revised(case=item.case.removeprefix(f"fold {item.fold} "))
        for item in searched(0, [0.2], Noise(0.001, 0.001), cases=4)
    ]
    (row,) = decide(scores, 0).comparisons
    assert row.num_cases == 4
    assert row.p_value == pytest.approx(0.125)


def test_scores_that_cannot_be_are_refused():
    scores = searched(0, [0.1])
    with pytest.raises(ValueError, match="no scores of the incumbent"):
        decide([item for item in scores if item.candidate != INCUMBENT], 0)
    with pytest.raises(ValueError, match="two scores"):
        decide([*scores, scores[0]], 0)
    with pytest.raises(ValueError, match="lacks cases"):
        decide(scores[1:], 0)


def test_no_challenger_is_no_victory():
    verdict = decide(trained(INCUMBENT, stream(0, "scores"), Noise()), 0)
    assert verdict.winner is None
    assert "there is no challenger" in verdict.reason


def test_verdict_depends_on_the_seed_alone_and_survives_json():
    scores = searched(0, [0.02, 0.0])
    verdict = decide(scores, 1)
    assert decide(scores, 1) == verdict
    assert decide(scores, 2) != verdict
    assert Verdict.from_json(verdict.to_json(), "verdict") == verdict


STRUCTURES = {
    "trainings": {"noise": Noise(run=0.02, case=0.002)},
    "trainings with heavy tails": {"noise": Noise(run=0.02, case=0.002, degrees=3)},
    "cases": {"noise": Noise(run=0.0, case=0.02)},
    "cases with heavy tails": {"noise": Noise(run=0.005, case=0.02, degrees=3)},
    "4 cases": {"noise": Noise(0.01, 0.01), "cases": 2},
    "10 cases": {"noise": Noise(0.01, 0.01), "cases": 5},
    "40 cases": {"noise": Noise(0.01, 0.01), "cases": 20},
    "three seeds": {"noise": Noise(0.02, 0.002), "seeds": 3},
    "four folds": {"noise": Noise(0.02, 0.002), "folds": 4, "cases": 5},
}


@pytest.mark.slow
@pytest.mark.parametrize("structure", STRUCTURES)
def test_noise_alone_seldom_wins(structure):
    """1 to 3 challengers, 400 searches; 7.5 % lies above 5 % by 2.3 standard errors."""
    searches = [
        searched(seed, [0.0] * (1 + seed % 3), **STRUCTURES[structure]) for seed in range(400)
    ]
    wrong = sum(decide(scores, seed).winner is not None for seed, scores in enumerate(searches))
    assert wrong <= 0.075 * len(searches)


def test_trainings_noise_seldom_wins_where_cases_alone_would():
    searches = [searched(seed, [0.0], Noise(0.02, 0.002), cases=8) for seed in range(40)]
    rows = [decide(scores, 0) for scores in searches]
    assert sum(row.winner is not None for row in rows) <= 4
    assert sum(row.comparisons[0].p_holm < 0.05 for row in rows) >= 12

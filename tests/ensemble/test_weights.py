"""Several configurations replace the best one only where paired evidence says so."""

import numpy as np
import pytest

from autoseg.ensemble.choose import Candidate, choose_ensemble
from autoseg.ensemble.weights import choose_weights, class_dice

NUM_CASES = 6


def truth():
    labels = np.zeros((10, 12, 14), np.int8)
    labels[1:6, 1:7, 1:7], labels[6:8, 1:7, 1:7] = 1, 2
    return labels


def draw(seed, noise, sure=2.0):
    logits = sure * (truth() == np.arange(3)[:, None, None, None])
    return (logits + noise * np.random.default_rng(seed).normal(size=logits.shape)).astype("f4")


@pytest.fixture
def trained(plan, workspace, train, store):
    """Train both configurations; the noise of each is given, and whether they err alike."""

    def make(noise_2d, noise_3d, *, alike=False, stored=True):
        results = []
        for number, (name, noise) in enumerate({"2d": noise_2d, "3d_fullres": noise_3d}.items()):
            for fold in range(3):
                cases = {}
                for index in (2 * fold, 2 * fold + 1):
                    logits = draw(index if alike else index + 100 * number, noise)
                    cases[f"case {index}"] = truth(), logits.argmax(axis=0)
                    if stored:
                        store(name, str(fold), f"case {index}", logits)
                results.append(train(name, str(fold), cases))
        return choose_ensemble(plan, workspace, results)

    return make


@pytest.fixture
def own_patients(source):
    """Every case is of a patient of its own: six are just enough to prove something."""
    cases = tuple(case.revised(group=case.id) for case in source.dataset.cases)
    return type(source)(
        source.plan, source.dataset.revised(cases=cases), source.workspace, source.listeners
    )


def test_two_that_err_differently_are_better_together(trained, own_patients):
    ensemble = trained(1.4, 1.4)
    found = choose_weights(own_patients, ensemble)
    assert [item.weight for item in found.members] == [0.5, 0.5]
    (tried,) = found.tried
    assert tried.used
    assert tried.gain is not None
    assert tried.gain > 0.02
    assert tried.p_value == pytest.approx(2 / 2**NUM_CASES)
    assert "together are better" in found.reason


def test_a_configuration_that_has_stored_nothing_leaves_the_others_to_be_judged(
    trained, own_patients, train
):
    ensemble = trained(1.4, 1.4)
    train("older", "0", {"case 0": (truth(), truth())})
    older = Candidate(configuration="older", folds=("0",), num_cases=1, dice=0.5)
    ensemble = ensemble.revised(candidates=(*ensemble.candidates, older))
    found = choose_weights(own_patients, ensemble)
    assert [item.weight for item in found.members] == [0.5, 0.5]
    assert found.tried[0].num_cases == NUM_CASES


def test_two_that_err_alike_are_no_better(trained, own_patients):
    ensemble = trained(1.4, 1.4, alike=True)
    found = choose_weights(own_patients, ensemble)
    assert found.members == ensemble.members
    assert found.tried[0].reason.endswith("kept as planned.")


def test_few_patients_prove_nothing(trained, source):
    ensemble = trained(1.4, 1.4)  # of six cases, but three patients
    found = choose_weights(source, ensemble)
    assert found.members == ensemble.members
    assert not found.tried[0].used
    assert "Chance" in found.tried[0].reason


def test_a_workspace_without_stored_probabilities_keeps_the_best(trained, source):
    ensemble = trained(1.4, 1.2, stored=False)
    found = choose_weights(source, ensemble)
    assert found.members == ensemble.members
    assert "stored probabilities" in found.tried[0].reason


def test_a_lone_configuration_is_not_searched(plan, workspace, source, train):
    cases = {"case 0": (truth(), truth())}
    ensemble = choose_ensemble(plan, workspace, [train("2d", "0", cases)])
    assert choose_weights(source, ensemble) == ensemble


def test_classes_that_nobody_has_do_not_count():
    labels = np.array([0, 1, 1])
    assert np.isnan(class_dice(labels, labels, 3)).tolist() == [False, True]

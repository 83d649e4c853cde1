import numpy as np
import pytest

from autoseg.fingerprint.intensities import summarise


def test_equal_cases_give_numpys_figures():
    values = np.random.default_rng(0).normal(100, 20, (4, 5000)).astype(np.float32)
    found = summarise(list(values))
    assert found.mean == pytest.approx(values.mean(dtype=float))
    assert found.std == pytest.approx(values.std(dtype=float))
    assert found.median == pytest.approx(np.median(values), abs=0.05)
    assert found.percentile_00_5 == pytest.approx(np.percentile(values, 0.5), abs=0.2)
    assert found.percentile_99_5 == pytest.approx(np.percentile(values, 99.5), abs=0.2)
    assert (found.min, found.max) == (values.min(), values.max())


def test_a_large_case_counts_no_more_than_a_small_one():
    found = summarise([np.full(10, 1.0), np.full(100_000, 3.0), np.zeros(0)])
    assert found.mean == pytest.approx(2.0, rel=1e-4)
    assert found.std == pytest.approx(1.0, rel=1e-4)

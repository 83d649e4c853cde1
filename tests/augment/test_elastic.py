import math

import numpy as np
import pytest

from autoseg.augment.elastic import REFERENCE, UNIFORM_STD, Elastic
from autoseg.augment.spatial import draw_warp

SIZES = {1: (400,), 2: (256, 200), 3: (48, 60, 40)}


def field(elastic, sizes):
    return elastic.field(elastic.rows(sizes), sizes, slice(0, sizes[0]))


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_displacements_are_as_large_as_those_of_filtered_noise_scaled_to_the_patch(num_axes):
    sizes = SIZES[num_axes]
    fields = [field(Elastic(seed, sigma=12.0, alpha=300.0), sizes) for seed in range(12)]
    expected = 300 * UNIFORM_STD / (2 * math.sqrt(math.pi) * 12) / REFERENCE
    for axis, n in enumerate(sizes):
        found = np.std([values[axis] for values in fields])
        assert found == pytest.approx(expected * n, rel=0.2)


def test_displacement_is_as_smooth_as_a_gaussian_of_sigma_leaves_it():
    sizes, sigma = (512, 512), 15.0
    values = np.concatenate([field(Elastic(s, sigma, alpha=300.0), sizes)[0] for s in range(3)])
    lag = round(sigma)
    correlation = np.corrcoef(values[:, :-lag].ravel(), values[:, lag:].ravel())[0, 1]
    assert correlation == pytest.approx(math.exp(-(lag**2) / (4 * sigma**2)), abs=0.1)


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_no_displacement_is_beyond_the_reach(num_axes):
    elastic, sizes = Elastic(5, sigma=10.0, alpha=500.0), SIZES[num_axes]
    largest = np.abs(field(elastic, sizes)).reshape(num_axes, -1).max(axis=1)
    assert (largest <= elastic.reach(sizes)).all()


def test_slabs_of_the_field_fit_together():
    elastic, sizes = Elastic(5, sigma=10.0, alpha=500.0), (60, 50)
    rows = elastic.rows(sizes)
    parts = [elastic.field(rows, sizes, slice(a, a + 20)) for a in (0, 20, 40)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), field(elastic, sizes))


def test_deformation_alone_reads_around_the_patch(plan):
    bending = plan.revised(elastic_probability=1.0, rotation_probability=0.0, scale_probability=0.0)
    warp = draw_warp(np.random.default_rng(0), bending, (40, 40, 40))
    box = warp.source_box((10, 10, 10), (40, 40, 40))
    assert warp.elastic is not None
    assert all(low < 10 and high > 50 for low, high in box)
    assert all(low > 0 and high < 60 for low, high in box)


def test_a_plan_without_deformation_draws_as_before(plan):
    first, second = (np.random.default_rng(4) for _ in range(2))
    some = [draw_warp(first, plan, (9, 9, 9)) for _ in range(40)]
    other = plan.revised(elastic_sigma=(1.0, 2.0))
    assert some == [draw_warp(second, other, (9, 9, 9)) for _ in range(40)]

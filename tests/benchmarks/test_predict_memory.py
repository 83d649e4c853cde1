import numpy as np

from autoseg.runtime.geometry import Geometry, Image
from benchmarks.predict_memory import make_model, make_volume


def test_the_network_that_costs_nothing_decides_by_the_value_of_a_voxel(tmp_path):
    volume = make_volume((9, 20, 18)) % 5 + 1
    image = Image(volume, Geometry((1.0, 1.0, 1.0)))  # on the network's own grid
    labels = make_model(tmp_path, 5, (4, 8, 8)).predict_image(image).labels
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(5, 1, 1, 1)), rng.normal(size=(5, 1, 1, 1))
    np.testing.assert_array_equal(labels, (weights * volume + bias).argmax(axis=0))


def test_volumes_are_never_empty_at_the_border():
    assert make_volume((3, 40, 70)).shape == (1, 3, 40, 70)
    assert make_volume((3, 40, 70)).min() > 0

import pytest

from autoseg.plan.plan import AugmentationPlan

NNUNET = {
    "planar": False,
    "rotation": ((-0.52, 0.52),) * 3,
    "rotation_probability": 0.2,
    "scale": (0.7, 1.4),
    "scale_probability": 0.2,
    "noise_probability": 0.1,
    "noise_std": (0.0, 0.1),
    "blur_probability": 0.2,
    "blur_sigma": (0.5, 1.0),
    "brightness_probability": 0.15,
    "brightness": (0.75, 1.25),
    "contrast_probability": 0.15,
    "contrast": (0.75, 1.25),
    "low_resolution_probability": 0.25,
    "low_resolution": (0.5, 1.0),
    "gamma_probability": 0.3,
    "inverted_gamma_probability": 0.1,
    "gamma": (0.7, 1.5),
    "mirror_probability": 0.5,
}


@pytest.fixture
def plan():
    """nnU-Net's distribution for three equal axes."""
    return AugmentationPlan(**NNUNET)


@pytest.fixture
def always(plan):
    """Every change happens to every patch."""
    names = [name for name in NNUNET if name.endswith("_probability")]
    return plan.revised(**dict.fromkeys(names, 1.0))

"""What prepared arrays depend on besides the source: configurations with the same share them."""

import hashlib
import json
from dataclasses import asdict

from autoseg.plan.plan import Plan
from autoseg.runtime.recipe import Recipe

ARRAYS_VERSION = 1
"""Raised when the same plan leads to other arrays, so that old ones are not taken for current."""
LOCATIONS_PER_CLASS = 10_000
"""Voxels of each class that training may choose as centres of patches."""


def recipe_digest(recipe: Recipe, plan: Plan) -> str:
    """Return a SHA-256 of everything but the source that prepared arrays depend on."""
    content = {
        "version": ARRAYS_VERSION,
        "transpose": recipe.transpose,
        "spacing": recipe.spacing,
        "channels": [asdict(channel) for channel in recipe.channels],
        "order": recipe.order,
        "spline_order": recipe.spline_order,
        "coarse_ratio": recipe.coarse_ratio,
        "labels": asdict(plan.labels),
        "seed": plan.seed,
        "locations": LOCATIONS_PER_CLASS,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def prepared_as(plan: Plan, name: str) -> str:
    """Return the configuration in whose folder the prepared cases of another one lie.

    A second stage uses those of the configuration that it inherits from: they are not stored again,
    and neither do they take the disk nor the time twice. Its own where a user gave it others.
    """
    item = plan.configuration(name)
    other = item.inherits_from
    if other is None or all(other != known.name for known in plan.configurations):
        return name
    recipes = item.recipe, plan.configuration(other).recipe
    first, second = (recipe_digest(recipe, plan) for recipe in recipes)
    return other if first == second else name

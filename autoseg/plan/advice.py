"""What a rule answers."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Advice(Generic[T]):
    """A value, and why; `docs/planning.md` lists every rule with its constants and sources."""

    value: T
    reason: str
    """A sentence for the user."""

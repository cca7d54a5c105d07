"""A value or the reason why it is missing, an interval, and the checks of a result; each raises ValueError."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

ROUNDING = 1e-9  # sums of floating-point shares may miss by as much

Value = TypeVar("Value")


@dataclass(frozen=True)
class ValueOrReason(Generic[Value]):
    """A value, or the reason why it is not known: in the JSON `key` is then null and `key_reason` says why."""

    value: Value | None
    reason: str | None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"found the value {self.value!r} and the reason {self.reason!r}; expected one of the two")

    def to_json(self, key: str) -> dict[str, Any]:
        """The two entries of the report."""
        writer = getattr(self.value, "to_json", None)
        return {key: self.value if writer is None else writer(), f"{key}_reason": self.reason}


@dataclass(frozen=True)
class Interval:
    """The 95 % interval of a share."""

    low: float
    high: float

    def __post_init__(self) -> None:
        require_shares(low=self.low, high=self.high)
        require(self.low <= self.high, "interval", f"{self.low} to {self.high}", "the lower end first")

    @property
    def width(self) -> float:
        """The distance of the two ends."""
        return self.high - self.low

    def to_json(self) -> list[float]:
        """The two ends."""
        return [self.low, self.high]


def require(is_right: bool, name: str, found: object, expected: object) -> None:
    """Refuse a value that cannot be.

    Args:
        is_right: whether the value can be.
        name: of the value.
        found: the value, as the message shows it.
        expected: what it should be, as the message shows it.
    """
    if not is_right:
        raise ValueError(f"{name}: found {found}; expected {expected}")


def require_shares(**shares: float) -> None:
    """Refuse a number outside 0 to 1."""
    for name, share in shares.items():
        require(-ROUNDING <= share <= 1 + ROUNDING, name, share, "a share from 0 to 1")


def require_sum(name: str, counts: Iterable[int], expected: int) -> None:
    """Refuse counts that do not add up.

    Args:
        name: of the counts.
        counts: the parts.
        expected: their sum.
    """
    total = sum(counts)
    require(total == expected, name, f"a sum of {total}", expected)

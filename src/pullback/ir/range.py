"""`Range`: the numbers that a value can have, for what is known before any number is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Bound = tuple[float, bool]
"""A bound, and whether it is attained."""


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers between two bounds. A bound is attained unless it is `open`; `holed`: without 0.

    Floating numbers are meant: e^x attains 0, because it underflows. A hole counts only where 0
    lies between the bounds.
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    holed: bool = False

    def __post_init__(self) -> None:
        """A bound 0 that is left out is open, and has no sign."""
        object.__setattr__(self, "low", self.low + 0.0)
        object.__setattr__(self, "high", self.high + 0.0)
        if self.holed and self.low == 0:
            object.__setattr__(self, "open_low", True)
        if self.holed and self.high == 0:
            object.__setattr__(self, "open_high", True)

    # ---- questions ----

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known of the size: no bound on either side."""
        return self.low == -math.inf and self.high == math.inf and not self.holed

    @property
    def is_point(self) -> bool:
        return self.low == self.high

    def __contains__(self, x: float) -> bool:
        above = x > self.low or (x == self.low and not self.open_low)
        below = x < self.high or (x == self.high and not self.open_high)
        return above and below and not (self.holed and x == 0)

    def within(self, other: Range) -> bool:
        """Whether every number of this range lies in the other."""
        low = self.low > other.low or (self.low == other.low and self.open_low >= other.open_low)
        high = self.high < other.high or (
            self.high == other.high and self.open_high >= other.open_high
        )
        return low and high and not (other.holed and 0.0 in self)

    # ---- arithmetic ----

    def __add__(self, other: Range) -> Range:
        return Range(
            self.low + other.low if -math.inf not in (self.low, other.low) else -math.inf,
            self.high + other.high if math.inf not in (self.high, other.high) else math.inf,
            self.open_low or other.open_low,
            self.open_high or other.open_high,
        )

    def __neg__(self) -> Range:
        return Range(-self.high, -self.low, self.open_high, self.open_low, self.holed)

    def __sub__(self, other: Range) -> Range:
        return self + -other

    def __mul__(self, other: Range) -> Range:
        corners = [
            (_times(x, y), _attained(x, y, a, b)) for x, a in self.bounds for y, b in other.bounds
        ]
        holed = 0.0 not in self and 0.0 not in other
        return _hull(corners, holed)

    def inverted(self) -> Range:
        """1/x, also infinite where x may be 0."""
        if self.low < 0 < self.high:
            return Range(holed=True)
        corners = [(_inverse(x, self.low), attained) for x, attained in self.bounds]
        return _hull(corners, holed=True)

    def squared(self) -> Range:
        size = self.size()
        return Range(
            _times(size.low, size.low),
            _times(size.high, size.high),
            size.open_low,
            size.open_high,
            self.holed,
        )

    def size(self) -> Range:
        """|x|."""
        if self.low >= 0:
            return self
        if self.high <= 0:
            return -self
        return Range(0.0, max(-self.low, self.high), open_low=self.holed)

    def summed(self, count: int) -> Range:
        """The sum of `count` such numbers."""
        if count == 0:
            return Range(0.0, 0.0)
        return Range(
            _times(self.low, count), _times(self.high, count), self.open_low, self.open_high
        )

    def mapped(self, f: Callable[[float], float]) -> Range:
        """The range of an increasing function, which is attained where the operand is."""
        return Range(_at(f, self.low), _at(f, self.high), self.open_low, self.open_high)

    def joined(self, other: Range) -> Range:
        """The numbers of either, and those between."""
        low, open_low = min((self.low, self.open_low), (other.low, other.open_low))
        high, shut_high = max((self.high, not self.open_high), (other.high, not other.open_high))
        return Range(low, high, open_low, not shut_high, 0.0 not in self and 0.0 not in other)

    def met(self, other: Range) -> Range:
        """The numbers of both."""
        low, open_low = max((self.low, self.open_low), (other.low, other.open_low))
        high, shut_high = min((self.high, not self.open_high), (other.high, not other.open_high))
        return Range(low, high, open_low, not shut_high, self.holed or other.holed)

    def larger(self, other: Range) -> Range:
        """max(x, y)."""
        low, open_low = max((self.low, self.open_low), (other.low, other.open_low))
        high, shut_high = max((self.high, not self.open_high), (other.high, not other.open_high))
        return Range(low, high, open_low, not shut_high)

    def smaller(self, other: Range) -> Range:
        """min(x, y)."""
        return -((-self).larger(-other))

    @property
    def bounds(self) -> tuple[Bound, Bound]:
        return (self.low, not self.open_low), (self.high, not self.open_high)

    # ---- text ----

    def text(self, x: str = "x") -> str:
        """As a condition on `x`: `x > 0`, `-1 ≤ x ≤ 1`, `x ≠ 0`."""
        low = "<" if self.open_low else "≤"
        high = "<" if self.open_high else "≤"
        if self.low > -math.inf and self.high < math.inf:
            return f"{self.low:g} {low} {x} {high} {self.high:g}"
        if self.low > -math.inf:
            return f"{x} {'>' if self.open_low else '≥'} {self.low:g}"
        if self.high < math.inf:
            return f"{x} {high} {self.high:g}"
        return f"{x} ≠ 0" if self.holed else f"any {x}"

    def __str__(self) -> str:
        return self.text()


EVERYTHING = Range()
POSITIVE = Range(0.0, open_low=True)
NOT_NEGATIVE = Range(0.0)
NOT_ZERO = Range(holed=True)
INSIDE_UNIT = Range(-1.0, 1.0, open_low=True, open_high=True)
UNIT = Range(-1.0, 1.0)


def _times(x: float, y: float) -> float:
    return 0.0 if 0 in (x, y) else x * y


def _attained(x: float, y: float, x_attained: bool, y_attained: bool) -> bool:
    """A product of bounds is attained where both are; 0 times what exists is 0."""
    return (x_attained or (y == 0 and y_attained)) and (y_attained or (x == 0 and x_attained))


def _inverse(x: float, low: float) -> float:
    if x == 0:
        return math.inf if low >= 0 else -math.inf
    return 1.0 / x


def _hull(corners: list[Bound], holed: bool) -> Range:
    low = min(x for x, _ in corners)
    high = max(x for x, _ in corners)
    return Range(
        low,
        high,
        not any(attained for x, attained in corners if x == low),
        not any(attained for x, attained in corners if x == high),
        holed,
    )


def _at(f: Callable[[float], float], x: float) -> float:
    try:
        return f(x)
    except OverflowError:
        return math.inf
    except ValueError:  # the logarithm of 0
        return -math.inf


__all__ = [
    "EVERYTHING",
    "INSIDE_UNIT",
    "NOT_NEGATIVE",
    "NOT_ZERO",
    "POSITIVE",
    "UNIT",
    "Range",
]

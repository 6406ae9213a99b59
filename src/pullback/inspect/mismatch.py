"""One function of arrays, its values against its tangents against its cotangents, to any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pullback.inspect.differences import Comparison, Tolerance, compare
from pullback.ir.array import Array, concrete
from pullback.ir.types import Numbers
from pullback.transforms.derivatives import linearize, vjp

Flat = Callable[..., tuple[Array, ...]]
"""Floating arrays to floating arrays."""

Mode = Literal["fwd", "rev"]
RULE = {"fwd": "jvp", "rev": "vjp"}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A derivative that is not what it should be; `kink` when no derivative exists there."""

    rule: str
    order: int
    found: float
    expected: float
    place: str
    kink: bool = False
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    """The shape of a cotangent and that of its operand, where they differ."""
    raises: str = ""
    """The error of a rule that gives no derivative at all."""

    @property
    def relative(self) -> float:
        scale = max(abs(self.found), abs(self.expected))
        return abs(self.found - self.expected) / scale if scale else 0.0


def first_mismatch(
    f: Flat, primals: Sequence[Array], order: int, modes: Sequence[Mode], allowed: Tolerance
) -> Mismatch | None:
    """The first one up to `order`, a wrong derivative before a missing one."""
    worst = None
    for found in _mismatches(f, primals, order, modes, allowed, level=1):
        if not found.kink:
            return found
        worst = worst or found
    return worst


def _mismatches(
    f: Flat,
    primals: Sequence[Array],
    order: int,
    modes: Sequence[Mode],
    allowed: Tolerance,
    level: int,
) -> Iterator[Mismatch]:
    tangents = directions(primals, level)
    values = f(*primals)
    cotangents = directions(values, 50 + level)
    if not any(x.size for x in primals) or not any(y.size for y in values):
        return
    if "fwd" in modes:
        yield from _tangents_off(f, primals, tangents, allowed, level)
    if "rev" in modes:
        yield from _cotangents_off(f, primals, tangents, cotangents, modes, allowed, level)
    if level < order:
        for mode in modes:
            derived = _reverse(f, cotangents) if mode == "rev" else _forward(f, tangents)
            yield from _mismatches(derived, primals, order, modes, allowed, level + 1)


def _reverse(f: Flat, cotangents: Sequence[Array]) -> Flat:
    return lambda *xs: vjp(f, *xs)[1](tuple(cotangents))


def _forward(f: Flat, tangents: Sequence[Array]) -> Flat:
    return lambda *xs: linearize(f, *xs)[1](*tangents)


def directions(likes: Sequence[Array], seed: int) -> list[Array]:
    """A fixed random direction at each array, as large as its elements."""
    generator = np.random.default_rng(1000 + seed)
    return [
        concrete(
            (
                generator.choice([-1.0, 1.0], x.shape)
                * generator.uniform(0.5, 1.0, x.shape)
                * np.maximum(1.0, np.nan_to_num(np.abs(x.numpy().astype(np.float64)), posinf=1.0))
            ).astype(x.dtype)
        )
        for x in likes
    ]


def along(
    f: Flat, primals: Sequence[Array], tangents: Sequence[Array]
) -> Callable[[float], list[Numbers]]:
    """t ↦ f(x + t·v), as numbers."""

    def at(step: float) -> list[Numbers]:
        moved = [
            concrete((x.numpy() + step * v.numpy()).astype(x.dtype))
            for x, v in zip(primals, tangents, strict=True)
        ]
        return [y.numpy() for y in f(*moved)]

    return at


# ---- forward mode against values ------------------------------------------------------------


def _tangents_off(
    f: Flat, primals: Sequence[Array], tangents: Sequence[Array], allowed: Tolerance, level: int
) -> Iterator[Mismatch]:
    values, pushforward = linearize(f, *primals)
    pushed = pushforward(*tangents)
    for i, (y, dot) in enumerate(zip(values, pushed, strict=True)):
        if y.shape != dot.shape:
            yield Mismatch("jvp", level, np.nan, np.nan, f"output {i}", shapes=(dot.shape, y.shape))
            return
    rules = [dot.numpy() for dot in pushed]
    for i, found in enumerate(compare(rules, along(f, primals, tangents), allowed)):
        for kink, bad in ((False, found.wrong), (True, found.undefined)):
            if bad.any():
                yield _worst(found, bad, "jvp", level, f"tangent of output {i}", kink)


def _worst(
    found: Comparison, bad: Numbers, rule: str, level: int, what: str, kink: bool
) -> Mismatch:
    error = np.where(bad, np.nan_to_num(np.abs(found.rule - found.measured), nan=np.inf), -1.0)
    place = np.unravel_index(int(np.argmax(error)), error.shape)
    index = f" at index {tuple(map(int, place))}" if place else ""
    return Mismatch(
        rule, level, float(found.rule[place]), float(found.measured[place]), what + index, kink
    )


# ---- reverse mode against forward mode ------------------------------------------------------


def _cotangents_off(
    f: Flat,
    primals: Sequence[Array],
    tangents: Sequence[Array],
    cotangents: Sequence[Array],
    modes: Sequence[Mode],
    allowed: Tolerance,
    level: int,
) -> Iterator[Mismatch]:
    pulled = vjp(f, *primals)[1](tuple(cotangents))
    for i, (x, bar) in enumerate(zip(primals, pulled, strict=True)):
        if x.shape != bar.shape:
            yield Mismatch(
                "vjp", level, np.nan, np.nan, f"operand {i}", shapes=(bar.shape, x.shape)
            )
            return
    if "fwd" in modes:
        pushed = [y.numpy() for y in linearize(f, *primals)[1](*tangents)]
        smooth = [np.ones(y.shape, bool) for y in pushed]
        slack = allowed.adjoint
    else:
        measured = compare(
            [np.full(y.shape, np.nan) for y in cotangents], along(f, primals, tangents), allowed
        )
        pushed = [each.measured for each in measured]
        smooth = [~each.rough for each in measured]
        slack = 10 * allowed.rtol
        if not all(each.all() for each in smooth):
            kept = [concrete(u.numpy() * s) for u, s in zip(cotangents, smooth, strict=True)]
            cotangents = [
                concrete(u.numpy().astype(k.dtype)) for u, k in zip(kept, cotangents, strict=True)
            ]
            pulled = vjp(f, *primals)[1](tuple(cotangents))
    left, left_size = _inner(
        [np.where(s, y, 0) for y, s in zip(pushed, smooth, strict=True)], cotangents
    )
    right, right_size = _inner([bar.numpy() for bar in pulled], tangents)
    if not abs(left - right) <= allowed.atol + slack * (left_size + right_size):
        if not np.isfinite(left) and not np.isfinite(right):
            return
        yield Mismatch("vjp", level, right, left, "⟨v, Jᵀu⟩ and ⟨Jv, u⟩")


def _inner(xs: Sequence[Numbers], ys: Sequence[Array]) -> tuple[float, float]:
    """The inner product, and the same of absolute values."""
    with np.errstate(all="ignore"):
        products = [
            x.astype(np.float64) * y.numpy().astype(np.float64) for x, y in zip(xs, ys, strict=True)
        ]
        return sum(float(p.sum()) for p in products), sum(float(np.abs(p).sum()) for p in products)

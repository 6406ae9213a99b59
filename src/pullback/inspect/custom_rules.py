"""Derivative rules that a user wrote: each is tried alone, in float64, and told where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

import numpy as np

from pullback.errors import Frame, PullbackError, Site
from pullback.inspect.differences import tolerance
from pullback.inspect.localise import MANY, explain
from pullback.inspect.mismatch import Flat, Mismatch, along, directions, first_mismatch
from pullback.ir.array import Array, concrete
from pullback.ir.builder import building, quiet
from pullback.ir.graph import Node, every_node
from pullback.ir.types import Numbers, float64, is_float
from pullback.ops.custom import Custom, OwnRules

REACHES = (1.0, 4.0, 0.25)
"""A rule is tried at the numbers that it met, and at multiples of them: in its other branches."""


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """A user's rule that gives another derivative than its function has."""

    name: str
    site: Site
    """The line of the rule that makes what it returns."""
    mismatch: Mismatch
    guess: str | None
    is_meant: bool
    """Of a function with slope 1 or 0 everywhere nobody needs a rule but to change that: a
    gradient that is turned round or scaled, or goes straight through a rounding."""


def wrong_rules(nodes: Sequence[Node]) -> Iterator[Tried]:
    """The rules that the differences contradict, each function once; nodes have their numbers."""
    seen = set()
    for node in every_node(nodes):
        rules = node.op.rules if isinstance(node.op, Custom) else None
        if not isinstance(rules, OwnRules) or rules.origin in seen:
            continue
        seen.add(rules.origin)
        if all(x.has_numbers for x in node.inputs):
            found = _tried(node, rules)
            if found is not None:
                yield found


def _arguments(node: Node) -> Sequence[Array]:
    """Its operands without the values that the function found around it."""
    assert isinstance(node.op, Custom)
    return node.inputs[: len(node.inputs) - node.op.captured]


def _tried(node: Node, rules: OwnRules) -> Tried | None:
    held = [_wide(x) for x in _arguments(node)]
    places = [i for i, x in enumerate(held) if is_float(x.dtype)]
    allowed = tolerance([float64], None, None, None)

    def f(*xs: Array) -> tuple[Array, ...]:
        given = list(held)
        for place, x in zip(places, xs, strict=True):
            given[place] = x
        return tuple([y for y in rules.applied(given) if is_float(y.dtype)])

    for reach in REACHES:
        primals = [concrete(reach * held[i].numpy()) for i in places]
        try:
            with quiet(), np.errstate(all="ignore"):
                if not all(np.isfinite(y.numpy()).all() for y in f(*primals)):
                    continue
                found = first_mismatch(f, primals, 1, ("rev",), allowed)
                if found is not None and not found.kink:
                    site = _site(node, rules) or node.site
                    few = sum(x.size for x in primals) <= MANY or found.found * found.expected < 0
                    guess = explain(f, primals, found) if few else None
                    meant = _is_plain(f, primals)
                    return Tried(rules.name, site, found, guess, meant)
        except (PullbackError, ValueError, TypeError, IndexError):
            continue
    return None


def _wide(x: Array) -> Array:
    numbers = x.numpy()
    return concrete(numbers.astype(float64) if is_float(x.dtype) else numbers)


def _is_plain(f: Flat, primals: Sequence[Array]) -> bool:
    """Whether moving the operands moves the results by as much, or not at all."""
    ways = directions(primals, 7)
    step = 1e-6
    before, after = [along(f, primals, ways)(t) for t in (0.0, step)]
    slopes = [(b - a) / step for a, b in zip(before, after, strict=True)]
    if all(_share(np.abs(s) < 1e-6) > 0.99 for s in slopes):
        return True
    same = len(slopes) == len(primals) == 1 and slopes[0].shape == primals[0].shape
    return same and _share(np.abs(slopes[0] - ways[0].numpy()) < 1e-6) > 0.99


def _share(x: Numbers) -> float:
    return float(x.mean()) if x.size else 1.0


def _site(node: Node, rules: OwnRules) -> Site | None:
    """The line of the rule that made what it returns."""
    inputs = _arguments(node)
    with building(evaluating=True) as builder:
        values = [builder.input(concrete(x.numpy())) for x in inputs]
        ones = [concrete(np.ones(y.shape, y.dtype)) for y in (*node.outputs, *inputs)]
        floats = [builder.input(x) for x in ones if is_float(x.dtype)]
        count = sum(is_float(y.dtype) for y in node.outputs)
        if rules.has_reverse:
            made: Sequence[Any] = rules.backward(rules.forward(values), floats[:count])
        else:
            made = rules.push(values, floats[count:])
        new = {y: each for each in builder.nodes for y in each.outputs}
    for y in made:
        frames = _within(new[y].site.frames, rules.code) if y in new else ()
        if frames:
            return Site(frames)
    return None


def _within(frames: tuple[Frame, ...], code: CodeType | None) -> tuple[Frame, ...]:
    """The frames of a rule, without those of who called it."""
    for i, frame in enumerate(frames):
        if frame.code is code:
            return frames[: i + 1]
    return ()

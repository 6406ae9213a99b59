"""Every rewrite rule × every example × every element type: both sides are one function.

Exact rules give equal bits, on the extremes too. Approximate ones are never further from the true
value than what they replace, on numbers of every magnitude.
"""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest

from pullback.ir.graph import Graph, with_outputs
from pullback.ir.types import DTYPES, TensorType, bool_, float32, float64, is_bool, is_float
from pullback.passes.algebra import EXACT
from pullback.passes.check import evaluate, same_numbers, values
from pullback.passes.rewrite import Rewrites, sweep
from pullback.passes.stability import APPROXIMATE

FILLINGS = range(4)


def instances(rule):
    """The rule's examples, once for each element type it speaks of."""
    for example in rule.examples:
        for dtype in DTYPES if rule.generic != bool_ else (bool_,):
            typed = tuple(
                x.of(dtype) if isinstance(x, TensorType) and x.dtype == rule.generic else x
                for x in example
            )
            if rule.on(dtype):
                yield pytest.param(rule, typed, id=f"{rule.name}-{dtype}-{example[1:]}")


def cases(rules):
    return [case for rule in rules for case in instances(rule)]


def numbers(kind: TensorType, seed: int, filling: int) -> np.ndarray:
    """Random numbers, small ones, and the extremes of the type, in random order."""
    rng = np.random.default_rng((seed, filling, kind.size))
    if is_bool(kind.dtype):
        return np.asarray(rng.random(kind.shape) < 0.5)
    if is_float(kind.dtype):
        small = float(np.finfo(float32).tiny)
        extremes = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, small, -3 * small, 6e4, 1e38]
        chosen = rng.choice(np.array(extremes), kind.shape)
        normal = rng.standard_normal(kind.shape)
        with np.errstate(all="ignore"):
            return np.asarray(chosen if filling % 2 else normal).astype(kind.dtype)
    limits = np.iinfo(kind.dtype)
    edges = np.array([limits.min, limits.max, 0, 1], kind.dtype)
    small = rng.integers(0, 5, kind.shape).astype(kind.dtype)
    return np.asarray(rng.choice(edges, kind.shape) if filling % 2 else small)


def outputs(graph: Graph, inputs) -> list[np.ndarray]:
    found = values(graph, inputs)
    return [found[x] for x in graph.outputs]


def holds(rule, example) -> bool:
    return rule.when is None or bool(rule.when(*example))


@pytest.mark.parametrize(("rule", "example"), cases(EXACT))
def test_exact_rule_keeps_every_bit(rule, example):
    if not holds(rule, example):
        pytest.skip("the rule does not speak of this element type")
    graph = rule.sides(example)
    types = [x.type for x in graph.inputs]
    for filling in FILLINGS:
        inputs = [numbers(kind, i, filling) for i, kind in enumerate(types)]
        pattern, replacement = outputs(graph, inputs)
        replacement = np.broadcast_to(replacement, pattern.shape)
        assert same_numbers(pattern, replacement), (inputs, pattern, replacement)


@pytest.mark.parametrize(("rule", "example"), cases([*EXACT, *APPROXIMATE]))
def test_rule_finds_its_own_pattern(rule, example):
    if not holds(rule, example):
        pytest.skip("the rule does not speak of this element type")
    sides = rule.sides(example)
    before = with_outputs(sides, sides.outputs[:1])
    after = sweep(before, Rewrites(rule))
    assert after is not before
    assert after.outputs[0].type == before.outputs[0].type
    inputs = [numbers(x.type, i, 0) for i, x in enumerate(before.inputs)]
    if rule.exact:
        (expected,), (actual,) = outputs(before, inputs), outputs(after, inputs)
        assert same_numbers(expected, actual)
    assert sweep(after, Rewrites(rule)) is after


def test_names_are_distinct():
    names = [rule.name for rule in (*EXACT, *APPROXIMATE)]
    assert len(set(names)) == len(names)
    assert all(rule.exact for rule in EXACT)
    assert not any(rule.exact for rule in APPROXIMATE)


# ---- approximate rules against the truth ----------------------------------------------------

WIDE = [0.0, *(s * 10.0**e for s, e in itertools.product((1, -1), np.linspace(-9, 3, 41)))]


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("rule", APPROXIMATE, ids=lambda rule: rule.name)
def test_approximate_rule_is_never_less_accurate(rule, dtype):
    """The error is at most that of the pattern, or what a rounding of operands and result does."""
    points = [x for x in WIDE if rule.domain[0] < x < rule.domain[1]]
    rng = np.random.default_rng(0)
    for example in rule.examples:
        typed = tuple(x.of(dtype) if isinstance(x, TensorType) else x for x in example)
        graph = rule.sides(typed)
        for _ in range(40):
            inputs = [_arranged(rng, points, x.type) for x in graph.inputs]
            if rule.name == "log_of_quotient":
                inputs[1] = np.abs(inputs[1]) + np.asarray(1, dtype)
            pattern, replacement = outputs(graph, inputs)
            truth, rounding = _true(with_outputs(graph, graph.outputs[:1]), inputs, dtype)
            for place in np.ndindex(pattern.shape):
                before, after = (_error(x[place], truth[place]) for x in (pattern, replacement))
                floor = rule.magnitude * float(np.finfo(dtype).eps)
                allowed = max(before, rule.tolerance * (rounding[place] + floor))
                assert after <= allowed, (inputs, place, before, after)


def _arranged(rng, points, kind: TensorType) -> np.ndarray:
    """Numbers of one magnitude or of many; those of a row lie close together in half of them."""
    chosen = rng.choice(np.array(points), kind.shape)
    if rng.random() < 0.5 and kind.size:
        chosen = chosen.ravel()[0] + rng.standard_normal(kind.shape)
    low, high = min(points), max(points)
    return np.clip(chosen, low, high).astype(kind.dtype)


def _error(value, truth):
    """Infinite for a NaN, and for an infinity that is not the value rounded."""
    if math.isfinite(value) and mpmath.isfinite(truth):
        return abs(mpmath.mpf(float(value)) - truth)
    largest = float(np.finfo(value.dtype).max)
    agree = math.isinf(value) and value == np.sign(float(mpmath.sign(truth))) * math.inf
    return mpmath.mpf(0 if agree and abs(truth) > largest else "inf")


MEANINGS = {
    "exp": mpmath.exp,
    "log": lambda x: mpmath.log(x) if x > 0 else mpmath.mpf("-inf"),
    "log1p": lambda x: mpmath.log(1 + x),
    "negative": lambda x: -x,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "divide": lambda x, y: x / y,
}


def _true(graph: Graph, inputs, dtype):
    """The value, and how far it moves when operands and result are rounded once."""
    with mpmath.workdps(500):
        operands = [_precise(x) for x in inputs]
        truth = _evaluated(graph, operands)
        epsilon = mpmath.mpf(float(np.finfo(dtype).eps)) / 2
        smallest = mpmath.mpf(float(np.finfo(dtype).smallest_subnormal))
        up = _evaluated(graph, [x * (1 + epsilon) for x in operands])
        signs = [np.where(np.indices(x.shape).sum(axis=0) % 2, 1, -1) for x in inputs]
        apart = _evaluated(
            graph, [x * (1 + s * epsilon) for x, s in zip(operands, signs, strict=True)]
        )
        finite = np.vectorize(lambda x: x if mpmath.isfinite(x) else mpmath.mpf(0), otypes=[object])
        moved = abs(finite(up - truth)) + abs(finite(apart - truth))
        rounding = moved + abs(finite(truth)) * epsilon + smallest
        return np.asarray(truth, dtype=object), np.asarray(rounding, dtype=object)


def _precise(x: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda v: mpmath.mpf(float(v)), otypes=[object])(x)


def _evaluated(graph: Graph, operands) -> np.ndarray:
    env = dict(zip(graph.inputs, operands, strict=True))
    for node in graph.nodes:
        inputs = [env[x] for x in node.inputs]
        if node.op.name == "constant":
            result = np.array(mpmath.mpf(node.op.value), dtype=object)
        elif node.op.name == "sum":
            result = np.sum(inputs[0], axis=node.op.axes)
        elif node.op.name in MEANINGS:
            result = np.frompyfunc(MEANINGS[node.op.name], len(inputs), 1)(*inputs)
        else:
            result = node.op.reference(*inputs)
        env[node.outputs[0]] = np.asarray(result, dtype=object)
    return env[graph.outputs[0]]


def test_evaluation_does_not_depend_on_strides():
    rule = next(rule for rule in EXACT if rule.name == "transpose_of_transpose")
    graph = rule.sides(rule.examples[0])
    x = np.arange(24.0, dtype=float32).reshape(2, 3, 4)
    moved = np.asfortranarray(x)
    for left, right in zip(
        evaluate(graph.nodes[0], [x]), evaluate(graph.nodes[0], [moved]), strict=True
    ):
        assert same_numbers(left, right)

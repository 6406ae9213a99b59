"""Ranges: every op's result lies in what it says it can be, and domains are what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conformance.catalogue import every_op, every_sample
from pullback.ir.families import Elementwise
from pullback.ir.range import EVERYTHING, NOT_NEGATIVE, NOT_ZERO, POSITIVE, UNIT, Range
from pullback.ir.types import is_float


def speaks(sample):
    """Ranges speak of finite operands, and of ops of one result."""
    numbers = [x.astype(np.float64) for x in sample.inputs]
    one = len(sample.op.output_types(*sample.types)) == 1
    return one and all(x.size and np.isfinite(x).all() for x in numbers)


SAMPLES = {name: sample for name, sample in every_sample() if speaks(sample)}


def observed(x):
    numbers = x.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    return Range(float(finite.min()), float(finite.max())) if finite.size else EVERYTHING


@pytest.mark.parametrize("name", SAMPLES)
def test_the_result_lies_in_the_range(name):
    sample = SAMPLES[name]
    with np.errstate(all="ignore"):
        out = np.asarray(sample.op.reference(*sample.inputs)).astype(np.float64)
    said = sample.op.reach(*[observed(x) for x in sample.inputs])
    out = out[np.isfinite(out)]
    slack = 1e-5 * (1 + np.abs(out))
    assert (out >= said.low - slack).all(), said
    assert (out <= said.high + slack).all(), said


DOMAINS = sorted(
    {
        (sample.op.name, type(sample.op)): sample.op
        for sample in SAMPLES.values()
        if isinstance(sample.op, Elementwise) and (sample.op.finite_on() or sample.op.smooth_on())
    }.values(),
    key=lambda op: op.name,
)
POINTS = np.array([-3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0, 3.0])


@pytest.mark.parametrize("op", DOMAINS, ids=lambda op: op.name)
def test_an_op_is_finite_on_its_domain_and_has_a_remedy(op):
    assert op.remedy
    domains = op.finite_on() or (EVERYTHING,) * len(op.smooth_on())
    grids = np.meshgrid(*[POINTS] * len(domains), indexing="ij")
    flat = [g.ravel() for g in grids]
    inside = np.array(
        [all(x in d for x, d in zip(xs, domains, strict=True)) for xs in zip(*flat, strict=True)]
    )
    if op.name == "pow":
        inside &= ~((flat[0] == 0) & (flat[1] < 0))
    with np.errstate(all="ignore"):
        out = op.reference(*flat)
    assert np.isfinite(out[inside]).all()
    if len(domains) == 1 and op.finite_on() and op.name not in ("lgamma", "digamma"):
        assert not np.isfinite(out[~inside]).any()


def test_every_guarded_function_of_one_operand_says_where_it_is_smooth():
    """A rule with partials that may be infinite at a finite operand has a domain to say so."""
    silent = [
        op.name
        for op in every_op()
        for sample in list(op.samples())[:1]
        if isinstance(sample.op, Elementwise)
        and sample.op.guarded
        and len(sample.inputs) == 1
        and is_float(sample.inputs[0].dtype)
        and not (sample.op.finite_on() or sample.op.smooth_on())
    ]
    # these overflow, but at no finite operand have they a pole
    poles = {"exp", "exp2", "expm1", "sinh", "cosh", "square", "power"}
    assert set(silent) - poles == {"polygamma"} & set(silent)


def test_arithmetic():
    positive, unit = POSITIVE, UNIT
    assert (positive + Range(1.0, 1.0)).text() == "x > 1"
    assert (unit - unit).text() == "-2 ≤ x ≤ 2"
    assert (-positive).text() == "x < 0"
    assert (positive * Range(-2.0, -2.0)).text() == "x < 0"
    assert unit.squared().text() == "0 ≤ x ≤ 1"
    assert unit.size().text() == "0 ≤ x ≤ 1"
    assert positive.inverted().low == 0.0
    assert Range(2.0, 4.0).inverted().text() == "0.25 ≤ x ≤ 0.5"
    assert EVERYTHING.inverted().text() == "x ≠ 0"
    assert Range(1.0, 2.0).summed(3).text() == "3 ≤ x ≤ 6"
    assert NOT_NEGATIVE.met(NOT_ZERO).text() == "x > 0"
    assert NOT_NEGATIVE.met(NOT_ZERO).within(POSITIVE)
    assert not NOT_NEGATIVE.within(POSITIVE)
    assert POSITIVE.within(NOT_ZERO)
    assert not EVERYTHING.within(NOT_ZERO)
    assert EVERYTHING.is_unknown
    assert not NOT_ZERO.is_unknown
    assert EVERYTHING.larger(Range(1e-6, 1e-6)).text() == "x ≥ 1e-06"
    assert EVERYTHING.smaller(Range(2.0, 2.0)).text() == "x ≤ 2"
    assert EVERYTHING.mapped(math.exp).text() == "x ≥ 0"
    assert POSITIVE.joined(Range(1.0, 1.0)).within(POSITIVE)
    assert 0.0 not in POSITIVE
    assert 0.0 in NOT_NEGATIVE
    assert str(UNIT) == "-1 ≤ x ≤ 1"
    assert EVERYTHING.text("y") == "any y"
    assert Range(0.0, 0.0).is_point

"""Loops over sequences that a budget cuts in segments: the same bits, less memory."""

from functools import partial

import numpy as np
import pytest

import pullback as pb
from pullback import nn
from pullback.backend.program import Program
from pullback.passes.pipeline import forms
from pullback.schedule.fuse import fuse
from pullback.schedule.planner.driver import Planner
from pullback.transforms.tree import flatten

KEY = pb.random.key(3)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def require_same_bits(f, *args, count=1):
    """Every form of a function gives the bits of the function; how many parts each has."""
    lowered = pb.compile(f, threads=1).lower(*args)
    inputs = [np.asarray(x) for x in flatten(args)[0]]
    inputs += [np.asarray(x) for x in lowered.traced.captured]
    expected = Program(code=lowered.code)(inputs)
    found = []
    for text, graph in forms(lowered.graph):
        made = Program(fuse(graph), threads=1)(inputs)
        assert all(x.tobytes() == y.tobytes() for x, y in zip(expected, made, strict=True))
        found.append(text)
    assert len(found) == count, found
    return " ".join(found)


def gradient(layers, x, key=KEY):
    """Of the mean square of what layers give, with dropout between them."""

    def loss(layers):
        out = x
        for i, layer in enumerate(layers):
            out, _ = layer(out)
            out = nn.Dropout(0.2)(out, train=True, key=pb.random.fold_in(key, i))
        return pb.mean(out**2)

    return pb.value_and_grad(loss)(layers)


@pytest.mark.parametrize(
    ("kind", "steps", "parts"),
    [(nn.LSTM, 12, 3), (nn.GRU, 11, 3), (partial(nn.RNN, reverse=True), 9, 3)],
)
def test_layers_with_dropout(kind, steps, parts):
    layers = [kind(5, 6, key=KEY), kind(6, 6, key=pb.random.fold_in(KEY, 1))]
    text = require_same_bits(gradient, layers, normal(3, steps, 5))
    assert f"loops of {steps} steps in {parts} segments" in text


def cell(weight, state, row):
    h, c, k = state
    gates = pb.tanh(row + h @ weight)
    c = c * 0.5 + gates
    return (pb.sin(c) * gates, c, k + 1), (gates * k, c)


def scanned(weight, rows, body=cell):
    start = pb.zeros(rows.shape[1:]), pb.zeros(rows.shape[1:]), pb.asarray(0.0)
    (h, _, _), (ys, cs) = pb.scan(partial(body, weight), start, rows)
    return pb.sum(h**2) + pb.sum(ys * pb.cos(ys)) + pb.sum(cs[::2])


def test_carries_and_rows_that_others_use_too():
    require_same_bits(pb.grad(scanned, (0, 1)), normal(6, 6), normal(9, 4, 6))


def test_segments_that_are_not_equal():
    text = require_same_bits(pb.grad(scanned, (0, 1)), normal(6, 6), normal(13, 4, 6))
    assert "13 steps in 3 segments" in text


def test_one_sequence_without_a_batch():
    require_same_bits(pb.grad(scanned, (0, 1)), normal(6, 6), normal(9, 6))


def test_under_vmap_and_with_a_checkpoint_inside():
    rows = normal(3, 8, 2, 6)
    require_same_bits(pb.vmap(pb.grad(scanned, (0, 1)), (None, 0)), normal(6, 6), rows)
    body = pb.checkpoint(cell)
    require_same_bits(pb.grad(partial(scanned, body=body)), normal(6, 6), normal(16, 4, 6))


def test_a_loop_in_a_loop():
    def outer(weight, rows):
        def step(h, block):
            h, _ = pb.scan(lambda h, x: (pb.tanh(x + h @ weight), None), h, block)
            return h, h

        return pb.sum(pb.scan(step, pb.zeros((2, 4)), rows)[1] ** 2)

    require_same_bits(pb.grad(outer, (0, 1)), normal(4, 4), normal(6, 3, 2, 4))


def test_half_precision_and_wider_sums():
    def loss(weight, rows):
        body = partial(cell, weight.astype(pb.bfloat16))
        h = pb.zeros((4, 6), dtype=pb.bfloat16)
        rows = rows.astype(pb.bfloat16)
        (h, _, _), _ = pb.scan(body, (h, h, pb.zeros((), dtype=pb.bfloat16)), rows)
        return pb.sum(h.astype(pb.float32) ** 2)

    require_same_bits(pb.grad(loss, (0, 1)), normal(6, 6), normal(16, 4, 6))


def test_what_cannot_be_cut_is_left_alone():
    weight = normal(6, 6)
    require_same_bits(pb.grad(scanned), weight, normal(3, 4, 6), count=0)
    require_same_bits(scanned, weight, normal(16, 4, 6), count=0)  # nothing goes back


def test_what_a_budget_gains():
    layer = nn.LSTM(8, 32, key=KEY)
    x = normal(8, 64, 8)
    plan = pb.compile(gradient, threads=1).lower([layer], x).plan
    assert plan.lifetimes.workload.form is None
    alone = Planner(plan.lifetimes.workload)
    assert alone.least.peak_bytes > 0.95 * plan.peak_bytes
    least = plan.least_bytes
    assert least - plan.resident_bytes < 0.4 * plan.arena_bytes
    held = pb.compile(gradient, threads=1, memory=least)
    told = held.lower([layer], x).plan
    assert told.peak_bytes == least
    assert "form      2 loops of 64 steps in 8 segments" in str(told)
    assert 0 < told.slowdown < 0.6
    with pytest.raises(pb.errors.MemoryPlanError, match=f"{least:,} bytes"):
        pb.compile(gradient, threads=1, memory=plan.resident_bytes)([layer], x)

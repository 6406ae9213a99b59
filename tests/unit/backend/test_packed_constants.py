"""A matrix that is the same in each step of a loop is packed once: the bits stay."""

import numpy as np
import pytest

from pullback.backend import nested
from pullback.backend.program import Program
from pullback.functions.manipulation import matrix_transpose
from pullback.ir.builder import record
from pullback.ir.types import TensorType, bfloat16, float32, float64
from pullback.ops.scan import Scan
from pullback.schedule.fuse import fuse


def loop(rows, inner, columns, dtype, transposed, length=3):
    """h ← f(h w), y = h w with h of (rows, inner) and w of (inner, columns)."""
    shape = (columns, inner) if transposed else (inner, columns)
    kinds = [TensorType(s, dtype) for s in (shape, (rows, inner), (rows, inner))]

    def step(w, h, x):
        product = (h + x) @ (matrix_transpose(w) if transposed else w)
        return h * 0.5 + x, product + 1.0

    body = record(step, kinds)
    stacked = TensorType((length, rows, inner), dtype)
    graph = record(lambda *xs: Scan(body, 1, 1, length).outputs(*xs), [*kinds[:2], stacked])
    given = [
        np.random.default_rng(i).standard_normal(x.type.shape).astype(x.type.dtype)
        for i, x in enumerate(graph.inputs)
    ]
    return fuse(graph), given


def packings(program):
    return program.code.text.count("_packing(")


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [float32, float64, bfloat16])
@pytest.mark.parametrize("shape", [(32, 24, 48), (13, 5, 37), (20, 900, 50), (7, 1, 17)])
def test_the_bits_are_those_of_packing_in_each_step(shape, dtype, transposed, monkeypatch):
    schedule, given = loop(*shape, dtype, transposed)
    packed = Program(schedule, threads=2)
    found = packed(given)
    with monkeypatch.context() as patch:
        patch.setattr(nested, "_with_fixed", lambda kernel, buffers: kernel)
        plain = Program(schedule, threads=1)
    assert packings(plain) == 0
    assert (packings(packed) > 0) == (dtype != bfloat16)
    for x, y in zip(found, plain(given), strict=True):
        assert x.tobytes() == y.tobytes()


def test_a_large_matrix_is_not_held_twice():
    schedule, _ = loop(32, 1100, 1000, float32, False)
    assert packings(Program(schedule, threads=1)) == 0


def test_the_plan_knows_of_the_packed_matrix(monkeypatch):
    schedule, _ = loop(32, 64, 64, float32, False)
    packed = Program(schedule, threads=1).code.plan.arena_bytes
    monkeypatch.setattr(nested, "_with_fixed", lambda kernel, buffers: kernel)
    plain = Program(schedule, threads=1).code.plan.arena_bytes
    assert packed == plain + 64 * 64 * 4

"""The laws of compiled steps, on the models of the benchmark in small sizes.

Compiled = eager; fused = unfused, 1 thread = many (more than there are cores), one run = the next,
the text for one family of processors = that for another: to the bit.
"""

from __future__ import annotations

import collections
import dataclasses
import functools

import numpy as np
import optree
import pytest

import pullback as pb
from property.fuzz import alone
from pullback.backend.program import Program, write_code
from pullback.backend.target import Target
from pullback.bench.workloads import SMALL, Training, numbers
from pullback.errors import CompileError
from pullback.passes.loop_order import in_loop_order

EXACT = [name for name in SMALL if name != "gpt_bf16"]


@functools.cache
def arguments(name, floats):
    return tuple(optree.tree_map(pb.asarray, each) for each in numbers(SMALL[name], floats))


def compiled(name, floats, **options):
    """The results of one step as NumPy leaves."""
    try:
        result = pb.compile(SMALL[name].step, **options)(*arguments(name, floats))
    except CompileError as missing:
        if "no native kernel" not in str(missing):
            raise
        pytest.skip(str(missing).partition("\n")[0])
    return leaves(result)


def leaves(tree):
    return [np.asarray(x) for x in optree.tree_leaves(tree)]


@pytest.mark.parametrize("name", EXACT)
def test_compiled_is_eager(name):
    task, given = SMALL[name], arguments(name, np.float64)
    f = task.step
    if isinstance(task, Training):  # Adam's first step keeps little but the gradient's sign

        def f(state, *batch):
            return pb.value_and_grad(task.model.loss)(state["params"], *batch)

    try:
        found = leaves(pb.compile(f)(*given))
    except CompileError as missing:
        if "no native kernel" not in str(missing):
            raise
        pytest.skip(str(missing).partition("\n")[0])
    for x, y in zip(found, leaves(f(*given)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", SMALL)
def test_bits_do_not_depend_on_threads_nor_on_the_run(name):
    step = pb.compile(SMALL[name].step, threads=2)
    one = compiled(name, np.float32, threads=1)
    for found in (
        compiled(name, np.float32, threads=4),
        compiled(name, np.float32, threads=8),
        leaves(step(*arguments(name, np.float32))),
        leaves(step(*arguments(name, np.float32))),
    ):
        require_same_bits(found, one)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("target", ["avx2", "avx512"])
def test_bits_do_not_depend_on_the_registers_that_the_text_is_for(name, target, monkeypatch):
    """The text for another family of processors, run on this one."""
    host = Target.host()
    if not host.is_native or host.family.architecture != Target.named(target).family.architecture:
        pytest.skip("another architecture")
    given = arguments(name, np.float32)
    schedule = pb.compile(SMALL[name].step).lower(*given).schedule
    with monkeypatch.context() as patch:
        patch.setattr(Target, "chosen", lambda: Target.named(target))
        code = write_code(schedule, threads=8)
    program = Program(code=dataclasses.replace(code, target=host))
    require_same_bits(program(leaves(given)), compiled(name, np.float32, threads=1))


@pytest.mark.parametrize("name", SMALL)
def test_bits_do_not_depend_on_fusion(name):
    given = arguments(name, np.float32)
    one = compiled(name, np.float32, threads=1)
    # Of the graph that is compiled: formulas are made stable before derivatives are taken, and
    # sums over the steps of a loop follow the loop.
    graph = in_loop_order(pb.compile(SMALL[name].step).lower(*given).graph)
    values = alone(graph, leaves(given), collections.Counter())
    require_same_bits(one, [values[x] for x in graph.outputs])


def require_same_bits(found, wanted):
    for i, (x, y) in enumerate(zip(found, wanted, strict=True)):
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.tobytes() == np.ascontiguousarray(y).tobytes(), f"result {i}"

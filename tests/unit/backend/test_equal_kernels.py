"""Equal kernels are emitted once: the code of a network does not grow with its depth."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

import pullback as pb
from pullback._settings import override
from pullback.backend import program
from pullback.backend.main import write_kernels
from pullback.backend.program import Program
from pullback.backend.target import Target
from pullback.errors import Site
from pullback.ir.types import float32
from pullback.ops.pointwise import Add
from pullback.passes.pipeline import optimize
from pullback.schedule import aliasing, memory
from pullback.schedule.canonical import canonical, renumbered
from pullback.schedule.fuse import fuse
from pullback.schedule.kernels import Access, Apply, Extent, Literal, Load, Loops, Store
from pullback.schedule.planner import order
from pullback.transforms.trace import trace

random = np.random.default_rng(3)


def training_step(x, *parameters):
    def loss(*parameters):
        h = x
        for w, b in zip(parameters[::2], parameters[1::2], strict=True):
            h = pb.tanh(h @ w + b)
        return pb.mean(pb.sum(h * h, axis=-1))

    every = tuple(range(len(parameters)))
    value, slopes = pb.value_and_grad(loss, argnums=every)(*parameters)
    return (value, *[p - 0.1 * g for p, g in zip(parameters, slopes, strict=True)])


def network(depth):
    shapes = [(8, 24), *[(24, 24), (24,)] * depth]
    inputs = [random.normal(size=shape).astype(np.float32) / 4 for shape in shapes]
    return inputs, fuse(optimize(trace(training_step, *inputs)))


def test_a_deep_network_has_the_code_of_a_shallow_one():
    functions = [
        set(
            re.findall("define .*(@kernel[0-9]+)", str(write_kernels(schedule, Target.chosen())[0]))
        )
        for _, schedule in (network(3), network(12))
    ]
    assert len(functions[0]) == len(functions[1]) < 20


def test_shared_code_computes_each_layer_of_its_own():
    inputs, schedule = network(5)
    with override(cache="off"):
        results = Program(schedule, threads=2)(inputs)
    for actual, wanted in zip(results, training_step(*map(pb.asarray, inputs)), strict=True):
        np.testing.assert_allclose(actual, wanted.numpy(), rtol=2e-5, atol=2e-6)


def added(left, right, result, literal=0.0, site=None):
    """result = left + right + literal"""

    def access(buffer):
        return Access(buffer, 0, (1,), ())

    def apply(*arguments):
        return Apply(Add(), arguments, float32, Extent.FULL, site or Site())

    loads = [Load(access(b), float32, Extent.FULL) for b in (left, right)]
    steps = (*loads, apply(0, 1), Literal(literal, float32), apply(2, 3))
    return Loops((50,), (), steps, (Store(4, access(result)),))


def test_the_key_is_all_but_buffers_and_lines():
    here = Site((), "layers[3]")
    first = canonical(added(4, 7, 9))
    assert first.buffers == (4, 7, 9)
    assert canonical(added(1, 2, 3, site=here)).key == first.key
    assert canonical(added(2, 1, 3)).key == first.key
    assert canonical(added(4, 4, 9)).key != first.key
    assert canonical(added(4, 7, 9, literal=-0.0)).key != first.key
    assert canonical(added(4, 7, 9, literal=False)).key != first.key
    assert canonical(replace(added(4, 7, 9), outer=(51,))).key != first.key


def test_the_general_form_has_the_numbers_of_first_use():
    kernel = added(4, 7, 9)
    numbers = {buffer: i for i, buffer in enumerate(canonical(kernel).buffers)}
    assert renumbered(kernel, numbers) == added(0, 1, 2)


def test_what_a_kernel_uses_is_worked_out_once_for_equal_ones(monkeypatch):
    asked = []
    plain = aliasing.in_place
    monkeypatch.setattr(aliasing, "in_place", lambda kernel: asked.append(kernel) or plain(kernel))
    _, schedule = network(12)
    kernels = write_kernels(schedule, Target.chosen())[1]
    assert len(asked) == len({kernel.name for kernel in kernels}) < len(kernels) / 2
    for kernel, written in zip(schedule.kernels, kernels, strict=True):
        assert written.use == aliasing.Use.of(kernel)


def test_lifetimes_are_worked_out_once_for_each_order(monkeypatch):
    orders = []

    def counted(workload, schedule=None):
        orders.append(schedule)
        return memory.lifetimes(workload, schedule)

    for module in (program, order):
        monkeypatch.setattr(module, "lifetimes", counted)
    inputs, schedule = network(12)
    pairs = {1 + i: 1 + i for i in range(len(inputs) - 1)}  # a parameter is updated in place
    program.write_code(schedule, pairs=pairs)
    assert len(orders) <= 2
    assert orders[0] is None

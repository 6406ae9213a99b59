"""Laws of the transforms on 200 random programs."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from property.programs import Program, numbers, total
from pullback.ir.array import Array, concrete
from pullback.ir.graph import verify
from pullback.ir.interpret import interpret
from pullback.ir.parse import parse_graph
from pullback.ir.text import print_graph
from pullback.ir.types import is_float
from pullback.transforms.graphs import TRANSFORMS
from thorough import sampled

SEEDS = range(200)
EXAMPLES = 3

pytestmark = pytest.mark.parametrize("program", sampled(map(Program, SEEDS), 4), ids=str)


def test_text_and_interpreter_keep_the_meaning(program):
    inputs = program.inputs()
    graph = pb.trace(program, *inputs)
    verify(graph)
    text = print_graph(graph)
    parsed = parse_graph(text)
    verify(parsed)
    assert print_graph(parsed) == text
    expected = numbers(program(*inputs))
    for reading in (graph, parsed):
        for value, right in zip(interpret(reading, numbers(inputs)), expected, strict=True):
            np.testing.assert_array_equal(value, right)


def test_gradient_is_the_finite_difference(program):
    inputs = program.inputs()
    directions = _directions(inputs, 5)
    gradients = pb.grad(program.loss, argnums=(0, 1, 2))(*inputs)
    slope = sum(float(np.sum(g.numpy() * v)) for g, v in zip(gradients, directions, strict=True))

    def central(step: float) -> float:
        moved = [
            [concrete(x.numpy() + sign * step * v) for x, v in zip(inputs, directions, strict=True)]
            for sign in (1, -1)
        ]
        return float(program.loss(*moved[0]) - program.loss(*moved[1])) / (2 * step)

    richardson = (4 * central(5e-4) - central(1e-3)) / 3
    assert slope == pytest.approx(richardson, rel=1e-6, abs=1e-6)


def test_forward_and_reverse_are_adjoint(program):
    inputs = program.inputs()
    dots = [concrete(v) for v in _directions(inputs, 6)]
    outputs, pushed = pb.jvp(program, tuple(inputs), tuple(dots))
    bars = tuple(concrete(u) for u in _directions(outputs, 7))
    pulled = pb.vjp(program, *inputs)[1](bars)
    assert [x.type for x in pulled] == [x.type for x in inputs]
    assert [x.type for x in pushed] == [x.type for x in outputs]
    assert _inner(pushed, bars) == pytest.approx(_inner(dots, pulled), rel=1e-10, abs=1e-10)


def test_hessian_product_is_symmetric(program):
    """⟨H v, w⟩ = ⟨H w, v⟩, forward over reverse."""
    inputs = program.inputs()
    first, second = ([concrete(v) for v in _directions(inputs, seed)] for seed in (8, 9))
    left = _inner(pb.hvp(program.loss, tuple(inputs), tuple(first)), second)
    right = _inner(pb.hvp(program.loss, tuple(inputs), tuple(second)), first)
    assert left == pytest.approx(right, rel=1e-9, abs=1e-9)


def test_vmap_is_the_stack(program):
    examples = [program.inputs(k) for k in range(EXAMPLES)]
    stacked = [_stack(column) for column in zip(*examples, strict=True)]
    for function in (program, pb.grad(program.loss, argnums=(0, 1, 2))):
        together = pb.vmap(function)(*stacked)
        single = [function(*example) for example in examples]
        for i, result in enumerate(together):
            expected = np.stack([each[i].numpy() for each in single])
            np.testing.assert_allclose(result.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_every_transform_gives_a_valid_graph(program):
    inputs = program.inputs()
    dots = [concrete(v) for v in _directions(inputs, 10)]
    stacked = [_stack([x] * EXAMPLES) for x in inputs]
    gradient = pb.grad(program.loss, argnums=(0, 1, 2))
    traced = {
        "grad": (gradient, inputs),
        "jvp": (lambda *a: pb.jvp(program, a[:3], a[3:]), [*inputs, *dots]),
        "hvp": (lambda *a: pb.hvp(program.loss, a[:3], a[3:]), [*inputs, *dots]),
        "vmap of grad": (pb.vmap(gradient), stacked),
        "grad of grad": (pb.grad(lambda *a: sum(total(g) for g in gradient(*a))), inputs),
    }
    for name, (function, arguments) in traced.items():
        graph = pb.trace(function, *arguments)
        verify(graph)
        assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph), name
        expected = _leaves(function(*arguments))
        for value, right in zip(interpret(graph, numbers(arguments)), expected, strict=True):
            np.testing.assert_array_equal(value, right, err_msg=name)


def test_graph_transforms_agree_with_the_functions(program):
    inputs = program.inputs()
    graph = pb.trace(program, *inputs)
    outputs = program(*inputs)
    bars = [concrete(u) for u in _directions(outputs, 11)]
    forward, backward = TRANSFORMS.vjp(graph, range(len(inputs)))
    verify(forward)
    verify(backward)
    results = interpret(forward, numbers(inputs))
    residuals = results[len(outputs) :]
    pulled = interpret(backward, [*residuals, *numbers(bars)])
    for value, right in zip(pulled, pb.vjp(program, *inputs)[1](tuple(bars)), strict=True):
        np.testing.assert_array_equal(value, right.numpy())
    tangents = TRANSFORMS.jvp(graph, [True] * len(inputs))
    verify(tangents)
    assert [x.type for x in tangents.outputs] == [x.type for x in graph.outputs] * 2
    batched, flags = TRANSFORMS.batch(graph, EXAMPLES, [True] * len(inputs), [True] * 2)
    verify(batched)
    assert flags == (True, True)
    assert all(is_float(x.dtype) for x in batched.outputs)


def _directions(arrays, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.uniform(-1, 1, x.shape)) for x in arrays]


def _inner(xs, ys) -> float:
    return sum(float(np.sum(x.numpy() * y.numpy())) for x, y in zip(xs, ys, strict=True))


def _stack(arrays) -> Array:
    return concrete(np.stack([x.numpy() for x in arrays]))


def _leaves(result) -> list[np.ndarray]:
    if isinstance(result, Array):
        return [result.numpy()]
    return [leaf for each in result for leaf in _leaves(each)]

"""What derivatives cost, by counted floating-point operations, evaluations and bytes."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from typing import ClassVar

import numpy as np
import pytest

import pullback as pb
from laws.models import MODELS
from pullback.ir.families import Elementwise
from pullback.ir.graph import graph_flops, with_outputs

WIDTHS = (8, 32, 96)

every_model = pytest.mark.parametrize("name", MODELS)
every_width = pytest.mark.parametrize("width", WIDTHS)


def flops(f, *args) -> int:
    """Operations that the results of `f` need; nodes that lead to none are not counted."""
    graph = pb.trace(f, *args)
    return graph_flops(with_outputs(graph, graph.outputs))


# ---- operations -----------------------------------------------------------------------------


@every_model
@every_width
def test_one_reverse_pass_gives_every_gradient_at_four_forward_passes(name, width):
    model = MODELS[name](width)
    forward = flops(model.loss, model.parameters)
    both = flops(pb.value_and_grad(model.loss), model.parameters)
    assert both <= 4 * forward


@every_model
def test_the_ratio_does_not_grow_with_the_number_of_parameters(name):
    ratios = []
    for width in WIDTHS:
        model = MODELS[name](width)
        both = flops(pb.value_and_grad(model.loss), model.parameters)
        ratios.append(both / flops(model.loss, model.parameters))
    assert max(ratios) <= 3.5
    assert ratios[-1] <= 3.1  # contractions dominate: one forward, two backward


@every_model
@every_width
def test_a_hessian_product_costs_three_gradients(name, width):
    model = MODELS[name](width)
    product = flops(lambda p, v: pb.hvp(model.loss, (p,), (v,)), model.parameters, model.parameters)
    assert product <= 3 * flops(pb.grad(model.loss), model.parameters)


def test_a_hessian_product_of_affine_layers_costs_eight_thirds():
    """A chain of affine layers, differentiated in its input: no product has two moving factors."""
    weights = [pb.asarray(np.random.default_rng(i).standard_normal((64, 64))) for i in range(6)]

    def loss(x):
        for w in weights:
            x = pb.relu(x @ w)
        return pb.sum(x * x)

    x = pb.asarray(np.ones((8, 64)))
    product = flops(lambda x, v: pb.hvp(loss, (x,), (v,)), x, x)
    assert product <= 8 / 3 * flops(pb.grad(loss), x)


@every_model
@every_width
def test_forward_mode_costs_three_forward_passes(name, width):
    model = MODELS[name](width)
    forward = flops(model.loss, model.parameters)
    pushed = flops(lambda p, v: pb.jvp(model.loss, (p,), (v,)), model.parameters, model.parameters)
    # 3 where products dominate; small networks also pay for pointwise derivatives (1 / cosh²).
    assert pushed <= 3.25 * forward


# ---- dense Jacobians ------------------------------------------------------------------------


def _map(inputs: int, outputs: int):
    """A nonlinear map whose own cost hardly depends on its numbers of inputs and outputs."""
    rng = np.random.default_rng(0)
    sizes = ((inputs, 64), (64, 64), (64, outputs))
    w1, w2, w3 = (pb.asarray(rng.standard_normal(size)) for size in sizes)
    return (lambda x: pb.tanh(pb.tanh(x @ w1) @ w2) @ w3), pb.asarray(np.ones(inputs))


def test_jacfwd_grows_with_the_inputs_and_not_with_the_outputs():
    few, many = _map(4, 8), _map(16, 8)
    assert flops(pb.jacfwd(many[0]), many[1]) == pytest.approx(
        4 * flops(pb.jacfwd(few[0]), few[1]), rel=0.25
    )
    wide = _map(4, 32)
    assert flops(pb.jacfwd(wide[0]), wide[1]) < 2 * flops(pb.jacfwd(few[0]), few[1])


def test_jacrev_grows_with_the_outputs_and_not_with_the_inputs():
    few, many = _map(8, 4), _map(8, 16)
    assert flops(pb.jacrev(many[0]), many[1]) == pytest.approx(
        4 * flops(pb.jacrev(few[0]), few[1]), rel=0.25
    )
    wide = _map(32, 4)
    assert flops(pb.jacrev(wide[0]), wide[1]) < 2 * flops(pb.jacrev(few[0]), few[1])


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 20), (20, 2)])
def test_jacobian_takes_the_cheaper_mode(inputs, outputs):
    f, x = _map(inputs, outputs)
    costs = [flops(method(f), x) for method in (pb.jacfwd, pb.jacrev, pb.jacobian)]
    assert costs[2] == min(costs)
    assert max(costs) > 3 * min(costs)


# ---- evaluations ----------------------------------------------------------------------------


class Counted(Elementwise):
    """tanh that counts its evaluations."""

    name = "counted"
    evaluations: ClassVar[int] = 0

    def reference(self, x):
        Counted.evaluations += 1
        return np.tanh(x)

    def partials(self, out, x):
        return (1.0 - out * out,)


def counted(x):
    return Counted()(x)


def _scalar(x):
    return counted(x * 2.0)


def _vector(x):
    return pb.sum(counted(x * x))


X, XS = pb.asarray(0.3), pb.asarray(np.linspace(-1.0, 1.0, 5))
NESTINGS = {
    "value": (_vector, XS),
    "grad": (pb.grad(_vector), XS),
    "grad of grad": (pb.grad(pb.grad(_scalar)), X),
    "third derivative": (pb.grad(pb.grad(pb.grad(_scalar))), X),
    "jvp": (lambda x: pb.jvp(_vector, (x,), (x,)), XS),
    "jvp of jvp": (lambda x: pb.jvp(lambda y: pb.jvp(_vector, (y,), (y,))[1], (x,), (x,)), XS),
    "hvp": (lambda x: pb.hvp(_vector, (x,), (x,)), XS),
    "grad of jvp": (pb.grad(lambda x: pb.jvp(_vector, (x,), (x,))[1]), XS),
    "vjp": (lambda x: pb.vjp(counted, x)[1](x), XS),
    "jacrev": (pb.jacrev(lambda x: counted(x * x)), XS),
    "jacfwd": (pb.jacfwd(lambda x: counted(x * x)), XS),
    "hessian": (pb.hessian(_vector), XS),
    "vmap of grad": (pb.vmap(pb.grad(_scalar)), XS),
    "grad of vmap": (pb.grad(lambda x: pb.sum(pb.vmap(_scalar)(x))), XS),
    "grad of vmap of grad": (pb.grad(lambda x: pb.sum(pb.vmap(pb.grad(_scalar))(x))), XS),
    "vmap of grad of vmap": (
        pb.vmap(pb.grad(lambda x: pb.sum(pb.vmap(_scalar)(x)))),
        pb.asarray(np.ones((3, 5))),
    ),
}


@pytest.mark.parametrize("name", NESTINGS)
def test_each_node_is_evaluated_once(name):
    function, argument = NESTINGS[name]
    Counted.evaluations = 0
    function(argument)
    assert Counted.evaluations == 1


# ---- memory ---------------------------------------------------------------------------------

TRANSFORMED = {
    "grad": lambda f, x: pb.grad(f)(x),
    "value_and_grad": lambda f, x: pb.value_and_grad(f)(x),
    "grad of grad": lambda f, x: pb.grad(lambda y: pb.sum(pb.grad(f)(y)))(x),
    "jvp": lambda f, x: pb.jvp(f, (x,), (x,)),
    "hvp": lambda f, x: pb.hvp(f, (x,), (x,)),
    "vmap": lambda f, x: pb.vmap(f)(pb.asarray(np.ones((2, 5)))),
    "vmap of grad": lambda f, x: pb.vmap(pb.grad(f))(pb.asarray(np.ones((2, 5)))),
    "hessian": lambda f, x: pb.hessian(f)(x),
    "trace": pb.trace,
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_no_reference_cycle_holds_an_array(name):
    """With the collector off, every array made inside dies with the results."""
    alive = []

    def f(x):
        for _ in range(3):
            x = pb.tanh(x * x + 1.0)
            alive.append(weakref.ref(x))
        return pb.sum(x)

    x = pb.asarray(np.linspace(0.1, 0.5, 5))
    TRANSFORMED[name](f, x)  # once before, so that caches are filled
    alive.clear()
    gc.collect()
    gc.disable()
    try:
        before = _live_arrays()
        result = TRANSFORMED[name](f, x)
        del result
        assert [ref for ref in alive if ref() is not None] == []
        assert _live_arrays() <= before
    finally:
        gc.enable()


def _live_arrays() -> int:
    return sum(issubclass(type(each), pb.Array) for each in gc.get_objects())


def test_a_gradient_keeps_the_activations_and_little_more():
    """Peak bytes of an eager gradient ≤ the forward values, plus a few arrays."""
    layers, size = 20, 50_000
    x = pb.asarray(np.linspace(0.1, 0.5, size))

    def loss(x):
        for _ in range(layers):
            x = pb.sin(x * 0.5)
        return pb.sum(x)

    gradient = pb.grad(loss)
    gradient(x)
    activations = sum(v.nbytes for node in pb.trace(loss, x).nodes for v in node.outputs)
    tracemalloc.start()
    try:
        gradient(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= activations + 5 * x.nbytes


def test_arrays_die_when_nobody_needs_them():
    """Outside a transform a long computation holds two arrays at a time."""
    x = pb.asarray(np.ones(50_000))
    tracemalloc.start()
    try:
        y = x
        for _ in range(20):
            y = pb.sin(y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 3 * x.nbytes

"""Odd but legitimate calls, and calls that must be refused by name."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.errors import (
    ArgumentError,
    GradientError,
    ShapeError,
    StructureError,
    TracedValueError,
)

X = np.arange(6.0).reshape(2, 3) - 2.5


@pytest.mark.parametrize("transform", [pb.grad, pb.value_and_grad, pb.jacobian, pb.hessian])
def test_an_argument_named_twice_is_refused(transform):
    for argnums in ((0, 0), (1, -1)):
        with pytest.raises(StructureError, match="names an argument twice"):
            transform(lambda x, y: pb.sum(x * y), argnums=argnums)(X, X)


@pytest.mark.parametrize("transform", [pb.grad, pb.jacobian])
def test_argnums_are_positions(transform):
    with pytest.raises(StructureError, match="argnums names argument 5"):
        transform(pb.sum, argnums=5)(X)
    with pytest.raises(StructureError, match="argnums is an int or a tuple of ints"):
        transform(pb.sum, argnums=1.0)(X)


def test_jvp_wants_tuples():
    for call in (lambda: pb.jvp(pb.sin, X, X), lambda: pb.hvp(pb.sum, X, X)):
        with pytest.raises(StructureError, match="primals is a tuple"):
            call()


def test_none_is_an_empty_subtree_of_arguments_and_results():
    def f(x, nothing):
        assert nothing is None
        return {"y": 2.0 * x, "none": None}

    batched = pb.vmap(f)(X, None)
    assert batched["none"] is None
    np.testing.assert_array_equal(batched["y"], 2.0 * X)
    dense, nothing = pb.jacobian(lambda x: (x * x, None))(X[0])
    assert nothing is None
    np.testing.assert_array_equal(dense, np.diag(2.0 * X[0]))


def test_an_error_in_a_traced_library_function_names_the_users_line():
    for transform in (pb.grad, pb.vmap):
        with pytest.raises(ShapeError, match=r"test_odd_calls\.py"):
            transform(pb.linalg.det)(np.ones((2, 2, 3)))


# ---- NumPy ----------------------------------------------------------------------------------

REDUCTIONS = [np.sum, np.prod, np.mean, np.std, np.var, np.max, np.min, np.all, np.any, np.argmax]


@pytest.mark.parametrize("function", [*REDUCTIONS, np.cumsum, np.ravel, np.sort, np.linalg.norm])
def test_numpy_functions_take_an_array(function):
    result = function(pb.asarray(X))
    assert not isinstance(result, pb.Array)
    np.testing.assert_array_equal(result, function(X))


def test_numpy_functions_take_arrays_in_containers():
    x = pb.asarray(X)
    np.testing.assert_array_equal(np.stack([x, x], axis=1), np.stack([X, X], axis=1))
    np.testing.assert_array_equal(np.where(X > 0, x, 0.0), np.where(X > 0, X, 0.0))


@pytest.mark.parametrize("function", REDUCTIONS)
@pytest.mark.parametrize("transform", [pb.grad, pb.vmap])
def test_numpy_functions_refuse_a_traced_value(function, transform):
    with pytest.raises(TracedValueError, match="a NumPy function was called"):
        transform(lambda x: pb.asarray(function(x)))(X)


def test_shapes_may_be_asked_of_a_traced_value():
    seen = []
    pb.vmap(lambda x: (seen.append((np.shape(x), np.ndim(x), np.size(x))), x)[1])(X)
    assert seen == [((3,), 1, 3)]


def test_the_numbers_of_an_array_stay_read_only():
    x = pb.asarray(X)
    for view in (x.numpy(), np.asarray(x)):
        assert np.shares_memory(view, x.numpy())
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.setflags(write=True)


# ---- containers -----------------------------------------------------------------------------


def test_stop_gradient_cuts_a_container():
    def loss(params):
        held = pb.stop_gradient(params)
        assert held["none"] is None
        return pb.sum(held["layers"][0] * params["layers"][0])

    gradient = pb.grad(loss)({"layers": [X], "none": None})
    np.testing.assert_array_equal(gradient["layers"][0], X)


def test_a_very_deep_container_is_refused_by_its_depth():
    deep = X
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(StructureError, match="nested too deep"):
        pb.grad(lambda tree: 1.0)(deep)


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_huber_wants_a_positive_delta(delta):
    with pytest.raises(ArgumentError, match="delta is a positive number"):
        pb.nn.huber(X, X, delta=delta)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: float(pb.sum(x)) ** 2,
        lambda x: pb.sum(x).item(),
        lambda x: np.mean(x.numpy() ** 2),
        lambda x: 0.0,
    ],
)
def test_a_loss_that_is_no_array_is_refused(loss):
    with pytest.raises(GradientError, match="to which no gradient flows"):
        pb.grad(loss)(X)
    with pytest.raises(GradientError, match="to which no gradient flows"):
        pb.grad(lambda x: (loss(x), "extra"), has_aux=True)(X)
    np.testing.assert_array_equal(pb.grad(lambda x: pb.asarray(0.0))(X), np.zeros_like(X))

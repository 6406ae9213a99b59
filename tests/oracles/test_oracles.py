"""Values and gradients against torch and JAX, in float64, to 1e-9 relative."""

from __future__ import annotations

import os

import numpy as np
import pytest

import pullback as pb
from oracles import contraction_cases, layout_cases, network_cases, pointwise_cases, reduction_cases
from oracles.case import Case, is_float

TABLES = (pointwise_cases, reduction_cases, layout_cases, contraction_cases, network_cases)
CASES = [case for table in TABLES for case in table.CASES]
SMOOTH = [case for case in CASES if case.values_only is None]
SECOND = SMOOTH[::6]
"""Every sixth case is compared in second order and batched, too; both reuse the same rules."""


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch")
    module.set_num_threads(1)
    return module


@pytest.fixture(scope="module")
def jax():
    # The programs are small and run once: what takes time is compiling them.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    module = pytest.importorskip("jax")
    module.config.update("jax_enable_x64", True)
    return module


def by_name(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def test_the_table_is_long_and_its_names_are_distinct():
    names = [case.name for case in CASES]
    assert len(names) >= 150
    assert len(set(names)) == len(names)
    assert all(
        callable(c.torch) or c.torch is None or callable(c.jax) or c.jax is None for c in CASES
    )


@by_name(CASES)
def test_torch(case, torch):
    function = case.in_torch(torch)
    if function is None:
        pytest.skip(case.torch)
    arguments = [torch.tensor(x) if isinstance(x, np.ndarray) else x for x in case.arguments]
    places = _places(case)
    for i in places:
        arguments[i].requires_grad_()
    value = function(*arguments)
    expected = value.detach().numpy()
    if case.values_only is not None:
        _same(case, np.asarray(case.ours()(*case.arguments)), expected)
        return
    bar = _weights(expected.shape)
    bars = torch.autograd.grad(
        value, [arguments[i] for i in places], torch.tensor(bar), allow_unused=True
    )
    _compare(case, expected, [None if x is None else x.numpy() for x in bars], bar)


@by_name(CASES)
def test_jax(case, jax):
    function = case.in_jax(jax)
    if function is None:
        pytest.skip(case.jax)
    arguments = [jax.numpy.asarray(x) for x in case.arguments]
    if case.values_only is not None:
        expected = np.asarray(function(*arguments))
        _same(case, np.asarray(case.ours()(*case.arguments)), expected)
        return
    places = _places(case)
    f = _in_floats(function, arguments, places)
    floats = [arguments[i] for i in places]
    bar = _weights(jax.eval_shape(f, *floats).shape)

    def value_and_cotangents(bar, *xs):  # compiled as a whole: compiling op by op takes longer
        value, pullback = jax.vjp(f, *xs)
        return value, pullback(bar)

    value, bars = jax.jit(value_and_cotangents)(bar, *floats)
    _compare(case, np.asarray(value), list(map(np.asarray, bars)), bar)


@by_name(SECOND)
def test_jax_forward_and_second_order(case, jax):
    function = case.in_jax(jax)
    if function is None:
        pytest.skip(case.jax)
    places = _places(case)
    theirs = [jax.numpy.asarray(x) for x in case.arguments]
    ours = [pb.asarray(x) for x in case.arguments]
    dots = [_direction(case.arguments[i], i) for i in places]
    f = _in_floats(case.ours(), ours, places)
    g = _in_floats(function, theirs, places)
    value, dot = pb.jvp(f, tuple(ours[i] for i in places), tuple(map(pb.asarray, dots)))
    expected, expected_dot = jax.jvp(
        g, tuple(theirs[i] for i in places), tuple(map(jax.numpy.asarray, dots))
    )
    _close(value, expected)
    _close(dot, expected_dot)
    bar = _weights(expected.shape)
    product = pb.hvp(
        lambda *xs: pb.sum(pb.sigmoid(f(*xs)) * pb.asarray(bar)),
        tuple(ours[i] for i in places),
        tuple(map(pb.asarray, dots)),
    )
    loss = lambda *xs: jax.numpy.sum(jax.nn.sigmoid(g(*xs)) * bar)
    gradient = jax.grad(loss, argnums=tuple(range(len(places))))
    _, expected_product = jax.jit(lambda xs, vs: jax.jvp(gradient, xs, vs))(
        tuple(theirs[i] for i in places), tuple(map(jax.numpy.asarray, dots))
    )
    for result, right in zip(
        product if len(places) > 1 else (product,), expected_product, strict=True
    ):
        _close(result, right)


@by_name(SECOND)
def test_jax_gradients_of_examples(case, jax):
    """vmap(grad) over three variations of the floating-point arguments."""
    function = case.in_jax(jax)
    if function is None:
        pytest.skip(case.jax)
    places = _places(case)
    theirs = [jax.numpy.asarray(x) for x in case.arguments]
    ours = [pb.asarray(x) for x in case.arguments]
    stacks = [np.stack([case.arguments[i] * (1 + 0.1 * k) for k in range(3)]) for i in places]
    f, g = _in_floats(case.ours(), ours, places), _in_floats(function, theirs, places)
    argnums = tuple(range(len(places)))
    mine = pb.vmap(pb.grad(lambda *xs: pb.sum(pb.sigmoid(f(*xs))), argnums=argnums))
    loss = lambda *xs: jax.numpy.sum(jax.nn.sigmoid(g(*xs)))
    other = jax.jit(jax.vmap(jax.grad(loss, argnums=argnums)))
    results = zip(
        mine(*map(pb.asarray, stacks)), other(*map(jax.numpy.asarray, stacks)), strict=True
    )
    for result, right in results:
        _close(result, right)


# ---- comparison -----------------------------------------------------------------------------


def _compare(case: Case, expected: np.ndarray, expected_bars, bar: np.ndarray) -> None:
    places = _places(case)
    ours = [pb.asarray(x) for x in case.arguments]
    value, pullback = pb.vjp(_in_floats(case.ours(), ours, places), *[ours[i] for i in places])
    _close(value, expected)
    for result, right in zip(pullback(pb.asarray(bar)), expected_bars, strict=True):
        _close(result, np.zeros(result.shape) if right is None else right)


def _places(case: Case) -> list[int]:
    return [i for i, x in enumerate(case.arguments) if is_float(x)]


def _in_floats(function, arguments, places):
    """The function of its floating-point arguments alone."""

    def of_floats(*floats):
        complete = list(arguments)
        for i, x in zip(places, floats, strict=True):
            complete[i] = x
        return function(*complete)

    return of_floats


def _same(case: Case, value: np.ndarray, expected: np.ndarray) -> None:
    assert value.shape == expected.shape
    np.testing.assert_array_equal(value, expected)


def _close(value, expected) -> None:
    expected = np.asarray(expected)
    assert value.dtype == np.float64
    assert value.shape == expected.shape
    size = np.abs(expected[np.isfinite(expected)]).max(initial=1.0)
    np.testing.assert_allclose(np.asarray(value), expected, rtol=1e-9, atol=1e-12 * size)


def _weights(shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.random.default_rng(1).uniform(0.5, 1.5, shape))


def _direction(x: np.ndarray, seed: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).uniform(-1, 1, x.shape))

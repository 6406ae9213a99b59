"""What a call takes besides x: train=, a key, a state; and what containers make of it."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.transforms.tree import flatten

nn = pb.nn
KEY = pb.random.key(6)
X = np.random.default_rng(2).standard_normal((6, 4, 3))


# ---- dropout --------------------------------------------------------------------------------


def test_dropout_keeps_the_mean():
    x = np.ones((300, 300), np.float32)
    y = nn.Dropout(0.2)(x, train=True, key=KEY).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1.25)}
    assert abs((y == 0).mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / x.size)
    np.testing.assert_array_equal(nn.Dropout(0.2)(x, train=False).numpy(), x)
    np.testing.assert_array_equal(nn.Dropout(0.0)(x).numpy(), x)


def test_each_layer_of_a_container_draws_for_itself():
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    x = np.ones((100, 100), np.float32)
    y = model(x, train=True, key=KEY).numpy()
    assert abs((y != 0).mean() - 0.25) < 0.02
    np.testing.assert_array_equal(y, model(x, train=True, key=KEY).numpy())
    nested = nn.Sequential(nn.Sequential(nn.Dropout(0.5)), nn.Dropout(0.5))
    assert not np.array_equal(nested(x, train=True, key=KEY).numpy(), y)


def test_a_dropped_element_has_no_gradient():
    x = np.ones(50)
    f = lambda x: nn.Dropout(0.5)(x, train=True, key=KEY)
    np.testing.assert_array_equal(pb.grad(lambda x: pb.sum(f(x)))(x).numpy(), f(x).numpy())


# ---- batch norm -----------------------------------------------------------------------------


def test_running_statistics():
    norm, moments = nn.BatchNorm(4, momentum=0.25, dtype="float64"), [np.zeros(4), np.ones(4)]
    state = norm.initial_state()
    for i in range(5):
        x = X * (i + 1) + i
        y, state = norm(x, state, train=True)
        np.testing.assert_allclose(y.numpy().mean((0, 2)), 0, atol=1e-12)
        np.testing.assert_allclose(y.numpy().var((0, 2)), 1, rtol=1e-4)
        batch = x.mean((0, 2)), x.var((0, 2), ddof=1)
        moments = [0.75 * old + 0.25 * new for old, new in zip(moments, batch, strict=True)]
    for running, expected in zip(state, moments, strict=True):
        np.testing.assert_allclose(running.numpy(), expected, rtol=1e-12)
    y, after = norm(X, state, train=False)
    assert after is state
    mean, variance = (m[:, None] for m in moments)
    np.testing.assert_allclose(y.numpy(), (X - mean) / np.sqrt(variance + 1e-5), rtol=1e-10)


def test_a_state_keeps_its_types():
    """The step that returns it is not compiled again."""
    for dtype in (pb.float64, pb.float32, pb.bfloat16, pb.float16):
        norm = nn.BatchNorm(4, dtype=dtype)
        state = norm.initial_state()
        assert state.mean.dtype == (pb.float64 if dtype == pb.float64 else pb.float32)
        step = pb.compile(lambda norm, x, state: norm(x, state, train=True), donate="state")
        for _ in range(3):
            y, state = step(norm, X.astype(dtype), state)
            assert y.dtype == dtype
        assert len(step._programs) == 1


def test_in_use_examples_do_not_meet():
    norm = nn.BatchNorm(4, dtype="float64")
    state = norm(X, norm.initial_state(), train=True)[1]
    alone, _ = norm(X[:1], state, train=False)
    np.testing.assert_array_equal(norm(X, state, train=False)[0].numpy()[:1], alone.numpy())


# ---- containers -----------------------------------------------------------------------------


def residual(dtype="float64"):
    how = {"key": KEY, "dtype": dtype}
    body = nn.Sequential(
        nn.Conv1d(4, 8, 3, padding=1, use_bias=False, **how),
        nn.BatchNorm(8, dtype=dtype),
        nn.relu,
        nn.Dropout(0.5),
    )
    shortcut = nn.Sequential(nn.Conv1d(4, 8, 1, **how), nn.BatchNorm(8, dtype=dtype))
    return nn.ResidualBlock(body, shortcut, nn.relu)


def test_a_container_passes_on_what_its_layers_take():
    block = residual()
    model = nn.Sequential(block, pb.nn.tanh)
    assert (model.takes_train, model.is_stateful) == (True, True)
    state = model.initial_state()
    assert len(flatten(state)[0]) == 4
    assert state[1] is None
    y, after = model(X, state, train=True, key=KEY)
    assert flatten(after)[1] == flatten(state)[1]

    k0 = pb.random.fold_in(KEY, 0)
    body, shortcut = block.body.layers, block.shortcut.layers
    h, inner = body[1](body[0](X), state[0][0][1], train=True)
    h = body[3](nn.relu(h), train=True, key=pb.random.fold_in(pb.random.fold_in(k0, 0), 3))
    s, outer = shortcut[1](shortcut[0](X), state[0][1][1], train=True)
    np.testing.assert_allclose(y.numpy(), np.tanh(nn.relu(s + h).numpy()), rtol=1e-12)
    for left, right in zip(flatten(after)[0], [*inner, *outer], strict=True):
        np.testing.assert_array_equal(left.numpy(), right.numpy())


def test_a_plain_container_takes_and_gives_arrays_alone():
    layers = [nn.Linear(3, 3, key=KEY, dtype="float64"), pb.nn.gelu]
    model = nn.Sequential(layers)
    assert (model.takes_train, model.is_stateful) == (False, False)
    assert model.initial_state() is None
    assert len(model) == 2
    assert model[0] is layers[0]
    np.testing.assert_array_equal(model(X).numpy(), nn.gelu(layers[0](X)).numpy())
    np.testing.assert_array_equal(model(X, train=True, key=KEY).numpy(), model(X).numpy())
    np.testing.assert_array_equal(
        nn.ResidualBlock(layers[0])(X).numpy(), (X + layers[0](X)).numpy()
    )


def test_training_with_state_and_dropout_in_one_program():
    model = nn.Sequential(residual("float32"), lambda x: pb.mean(x, axis=(1, 2)))
    optimizer = pb.optim.adam(0.01)
    target = X.mean(axis=(1, 2)).astype(np.float32)

    def loss(model, state, key):
        y, state = model(X.astype(np.float32), state, train=True, key=key)
        return nn.mse(y, target), state

    @pb.compile
    def step(model, state, optimizer_state, key, i):
        (value, state), grads = pb.value_and_grad(loss, has_aux=True)(
            model, state, pb.random.fold_in(key, i)
        )
        updates, optimizer_state = optimizer.update(grads, optimizer_state, model)
        return pb.optim.apply_updates(model, updates), state, optimizer_state, value

    state, optimizer_state, values = model.initial_state(), optimizer.init(model), []
    for i in range(60):
        model, state, optimizer_state, value = step(
            model, state, optimizer_state, KEY, pb.asarray(i)
        )
        values.append(value.item())
    assert len(step._programs) == 1
    assert np.mean(values[-10:]) < 0.3 * np.mean(values[:5])
    assert model(X.astype(np.float32), state, train=False)[0].shape == (6,)


# ---- recurrent ------------------------------------------------------------------------------

KINDS = pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])


@KINDS
def test_a_state_carries_a_sequence_on(kind):
    layer, x = kind(3, 5, key=KEY, dtype="float64"), X
    whole, end = layer(x)
    first, state = layer(x[:, :2])
    second, last = layer(x[:, 2:], state)
    np.testing.assert_allclose(
        np.concatenate([first.numpy(), second.numpy()], 1), whole.numpy(), rtol=1e-12
    )
    for a, b in zip(flatten(end)[0], flatten(last)[0], strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)
    np.testing.assert_array_equal(flatten(end)[0][0].numpy(), whole.numpy()[:, -1])


@KINDS
def test_reverse_reads_from_the_end(kind):
    ahead, back = (kind(3, 5, reverse=r, key=KEY, dtype="float64") for r in (False, True))
    y, end = ahead(X[:, ::-1])
    reversed_y, reversed_end = back(X)
    np.testing.assert_allclose(reversed_y.numpy()[:, ::-1], y.numpy(), rtol=1e-12)
    for a, b in zip(flatten(end)[0], flatten(reversed_end)[0], strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


@KINDS
def test_leading_axes_and_none_of_them(kind):
    layer = kind(3, 5, use_bias=False, key=KEY, dtype="float64")
    assert layer.bias is None
    one, _ = layer(X[0])
    np.testing.assert_allclose(one.numpy(), layer(X)[0].numpy()[0], rtol=1e-12)
    many, _ = layer(X.reshape(2, 3, 4, 3))
    np.testing.assert_allclose(many.numpy().reshape(6, 4, 5), layer(X)[0].numpy(), rtol=1e-12)
    assert layer(X[:, :0])[0].shape == (6, 0, 5)


@KINDS
def test_the_input_product_stands_before_the_loop(kind):
    graph = pb.trace(kind(3, 5, key=KEY), X.astype(np.float32))
    inside = [node.op for node in graph.nodes if node.op.name == "scan"]
    (loop,) = inside
    products = [n for n in loop.body.nodes if n.op.name in ("matmul", "contract")]
    assert len(products) == 1
    outside = [n for n in graph.nodes if n.op.name in ("matmul", "contract")]
    assert len(outside) == 1

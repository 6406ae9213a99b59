"""Initial weights keep the scale of signals, in real layers with real activations."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

import pullback as pb
from pullback.errors import ArgumentError
from pullback.nn import init
from pullback.transforms.tree import flatten

nn = pb.nn
KEY = pb.random.key(8)
DEPTH, WIDTH = 10, 400
ACTIVATIONS = [nn.relu, nn.tanh, nn.gelu, nn.selu, nn.silu, nn.sigmoid, nn.mish]
FOUR = ACTIVATIONS[:4]
every = pytest.mark.parametrize("f", ACTIVATIONS, ids=lambda f: f.__name__)


def scales(layers, activation, x):
    """The root mean square of what each layer gives, before the activation."""
    found = []
    for layer in layers:
        x = layer(x)
        found.append(math.sqrt(np.mean(x.numpy().astype(np.float64) ** 2)))
        x = activation(x)
    return np.array(found)


@every
def test_an_mlp_keeps_the_scale(f):
    """Mean squares stay within a factor of 2 of that of the inputs, through 10 layers."""
    model = nn.MLP(WIDTH, WIDTH, WIDTH, DEPTH - 1, f, key=KEY)
    x = pb.random.normal(pb.random.key(1), (100, WIDTH))
    squares = scales(model.layers, f, x) ** 2
    assert len(squares) == DEPTH
    assert np.all((squares > 0.5) & (squares < 2)), squares


@pytest.mark.parametrize("f", FOUR, ids=lambda f: f.__name__)
def test_the_gradient_keeps_its_scale(f):
    """The gradient in the inputs is within a factor of 8 of the one of a linear network."""
    model = nn.MLP(WIDTH, WIDTH, WIDTH, DEPTH - 1, f, key=KEY)
    x = pb.random.normal(pb.random.key(1), (50, WIDTH))
    bar = pb.random.normal(pb.random.key(2), (50, WIDTH))
    pulled = pb.vjp(model, x)[1](bar)[0].numpy()
    assert 1 / 8 < np.mean(pulled**2) < 8


@pytest.mark.parametrize("f", FOUR, ids=lambda f: f.__name__)
def test_convolutions_keep_the_scale(f):
    how = {"padding": 1, "initializer": init.variance_preserving(f)}
    first = nn.Conv2d(64, 64, 3, padding=1, key=KEY, initializer=init.lecun_normal)
    rest = [nn.Conv2d(64, 64, 3, key=pb.random.fold_in(KEY, i), **how) for i in range(DEPTH - 1)]
    # A torus has no border, at which zeros would take part.
    wrap = lambda x: pb.concat([x[..., -1:], x, x[..., :1]], axis=-1)
    around = lambda layer: lambda x: layer(wrap(wrap(x).mT).mT)[..., 1:-1, 1:-1]
    x = pb.random.normal(pb.random.key(1), (8, 64, 8, 8))
    squares = scales([around(layer) for layer in [first, *rest]], f, x) ** 2
    assert np.all((squares > 0.4) & (squares < 2.5)), squares


def test_defaults_fit_relu():
    x = pb.random.normal(pb.random.key(1), (4, 64, 24, 24))
    for layer in (
        nn.Conv2d(64, 64, 3, key=KEY),
        nn.Conv2d(64, 64, 3, groups=4, key=KEY),
        nn.ConvTranspose2d(64, 64, 4, 2, key=KEY),
        nn.ConvTranspose2d(64, 64, 3, 1, key=KEY),
        nn.ConvTranspose2d(64, 64, 4, (4, 1), key=KEY),
    ):
        inner = layer(nn.relu(x)).numpy()[..., 6:-6, 6:-6]
        assert 0.8 < np.mean(inner**2) < 1.25, layer
    sequence = pb.random.normal(pb.random.key(1), (4, 64, 50))
    inner = nn.Conv1d(64, 64, 5, key=KEY)(nn.relu(sequence)).numpy()
    assert 0.8 < np.mean(inner**2) < 1.25


def test_attention_blocks_keep_the_scale():
    """Each half of a block adds a branch of mean square at most about 1."""
    x = pb.random.normal(pb.random.key(1), (4, 32, 128))
    for i in range(DEPTH):
        x = nn.TransformerBlock(128, 4, causal=True, key=pb.random.fold_in(KEY, i))(x)
    assert DEPTH / 2 < np.mean(x.numpy() ** 2) < 2.5 * DEPTH


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_states_neither_die_nor_burst(kind):
    x = pb.random.normal(pb.random.key(1), (4, 30, 64))
    y = kind(64, 64, key=KEY)(x)[0].numpy()
    assert 0.02 < np.mean(y[:, -1] ** 2) < 1


def test_recurrent_weights_are_drawn_gate_by_gate():
    layer = nn.LSTM(6, 5, key=KEY, dtype="float64")
    for gate in range(4):
        part = layer.weight_hidden.numpy()[5 * gate : 5 * (gate + 1)]
        np.testing.assert_allclose(part @ part.T, np.eye(5), atol=1e-12)
    assert layer.bias.tolist() == [0] * 5 + [1] * 5 + [0] * 10
    wide = nn.GRU(200, 100, key=KEY)
    assert math.isclose(wide.weight_input.numpy().var(), 2 / 300, rel_tol=0.05)
    assert wide.bias.shape == (300,)


# ---- gains ----------------------------------------------------------------------------------


def test_known_gains():
    assert math.isclose(init.gain(nn.relu), math.sqrt(2), rel_tol=1e-6)
    assert math.isclose(init.gain(lambda x: x), 1, rel_tol=1e-9)
    assert math.isclose(init.gain(nn.selu), 1, rel_tol=1e-6)
    slope = 0.2
    expected = math.sqrt(2 / (1 + slope**2))
    assert math.isclose(
        init.gain(partial(nn.leaky_relu, negative_slope=slope)), expected, rel_tol=1e-6
    )


@every
def test_a_gain_is_that_of_samples(f):
    z = np.random.default_rng(0).standard_normal(400_000)
    expected = 1 / math.sqrt(np.mean(f(z).numpy() ** 2))
    assert math.isclose(init.gain(f), expected, rel_tol=0.01)


def test_gains_that_are_none():
    learned = pb.asarray(0.1)
    for f in (lambda x: x * 0, lambda x: pb.exp(x * x)):
        with pytest.raises(ArgumentError, match="no gain"):
            init.gain(f)

    def with_a_parameter(x):
        return pb.vmap(lambda w: pb.sum(init.gain(lambda z: z * w) * w))(x)

    with pytest.raises(ArgumentError, match="depends on a traced value"):
        with_a_parameter(np.ones(2))
    assert init.gain(lambda x: pb.maximum(x, learned * x)) > 1


def test_layers_are_made_inside_transforms():
    """`vmap` over keys makes an ensemble, `compile` makes a model natively."""
    keys = pb.random.split(KEY, 3)
    make = lambda key: nn.MLP(4, 2, 8, 2, nn.gelu, key=key)
    ensemble = pb.vmap(make)(keys)
    native = pb.compile(make)(keys[1])
    for stacked, one, ours in zip(
        *(flatten(tree)[0] for tree in (ensemble, native, make(keys[1]))), strict=True
    ):
        np.testing.assert_allclose(stacked.numpy()[1], ours.numpy(), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(one.numpy(), ours.numpy(), rtol=1e-5, atol=1e-7)


def test_a_given_initializer_is_used_everywhere():
    ones = init.ones
    for layer in (
        nn.MLP(4, 2, 3, 1, key=KEY, initializer=ones),
        nn.Conv2d(2, 2, 3, key=KEY, initializer=ones),
        nn.ConvTranspose2d(2, 2, 3, 2, key=KEY, initializer=ones),
        nn.Embedding(3, 2, key=KEY, initializer=ones),
        nn.MultiHeadAttention(4, 2, key=KEY, initializer=ones),
        nn.TransformerBlock(4, 2, key=KEY, initializer=ones),
        nn.LSTM(4, 2, key=KEY, initializer=ones, hidden_initializer=ones),
    ):
        weights = [x.numpy() for x in flatten(layer)[0] if x.ndim > 1]
        assert all(np.array_equal(w, np.ones_like(w)) for w in weights)
    zero = nn.TransformerBlock(4, 2, key=KEY, output_initializer=init.zeros)
    x = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(zero(x).numpy(), x)

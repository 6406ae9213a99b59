"""Targets among the inputs, keys that are constants, layers without an activation."""

import itertools

import numpy as np
import pytest

import pullback as pb
from pullback import nn


def ids(report):
    return [x.id for x in report.alarms]


def classes(model, x, y):
    return nn.cross_entropy(model(x), y)


def squares(model, x, y):
    return nn.mse(model(x), y)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_column_that_is_a_function_of_the_class(rng):
    x, y = rng.normal(size=(64, 5)).astype(np.float32), rng.integers(0, 3, 64)
    model = nn.MLP(5, 3, 16, 1, key=pb.random.key(0))
    assert "DAT06" not in ids(pb.preflight(model, classes, (x, y)))
    x[:, 2] = 3.0 - 2.0 * y
    (finding,) = pb.preflight(model, classes, (x, y)).alarms
    assert (finding.id, finding.numbers["columns"]) == ("DAT06", [2])


def test_a_column_that_is_the_target_in_other_units(rng):
    x, y = rng.normal(size=(64, 4)).astype(np.float32), rng.normal(size=(64, 1)).astype(np.float32)
    model = nn.MLP(4, 1, 16, 1, pb.tanh, key=pb.random.key(0))
    assert "DAT06" not in ids(pb.preflight(model, squares, (x, y)))
    x[:, 3] = 1.8 * y[:, 0] + 32
    assert "DAT06" in ids(pb.preflight(model, squares, (x, y)))


@pytest.mark.parametrize("causal", [True, False])
def test_the_next_word_is_seen(causal, rng):
    words = rng.integers(0, 7, (16, 9))
    keys = pb.random.split(pb.random.key(0), 3)
    model = nn.Sequential(
        nn.Embedding(7, 8, key=keys[0]),
        nn.MultiHeadAttention(8, 2, causal=causal, key=keys[1]),
        nn.Linear(8, 7, key=keys[2]),
    )
    report = pb.preflight(model, classes, (words[:, :-1], words[:, 1:]))
    assert ("DAT06" in ids(report)) != causal
    if not causal:
        assert report.alarms[0].module == "layers[1]"


def test_a_constant_key(rng):
    x, y = rng.normal(size=(32, 4)).astype(np.float32), rng.integers(0, 3, 32)
    layers = [nn.MLP(4, 16, 16, 1, key=pb.random.key(0)), nn.Dropout(0.5)]
    model = nn.Sequential(*layers, nn.Linear(16, 3, key=pb.random.key(1)))
    key = pb.random.key(2)

    def fixed(model, x, y):
        return nn.cross_entropy(model(x, train=True, key=key), y)

    def drawn(model, x, y, key):
        return nn.cross_entropy(model(x, train=True, key=key), y)

    (finding,) = [x for x in pb.preflight(model, fixed, (x, y)).alarms if x.id == "LOOP04"]
    assert any("key=key" in x.source for x in finding.site.frames)
    assert "LOOP04" not in ids(pb.preflight(model, drawn, (x, y), key=key))


@pytest.mark.parametrize(
    ("sizes", "between", "alarm"),
    [((6, 16, 3), None, True), ((6, 16, 3), nn.relu, False), ((6, 2, 3), None, False)],
    ids=["affine", "relu", "narrow"],
)
def test_layers_without_an_activation(sizes, between, alarm, rng):
    x, y = rng.normal(size=(32, 6)).astype(np.float32), rng.integers(0, 3, 32)
    first, second = [
        nn.Linear(a, b, key=pb.random.key(i)) for i, (a, b) in enumerate(itertools.pairwise(sizes))
    ]
    model = nn.Sequential(*[x for x in (first, between, second) if x is not None])
    assert ("SIG09" in ids(pb.preflight(model, classes, (x, y)))) == alarm


def handed(steps, wrong):
    """A loop of one's own whose gradients go through `wrong(grads, grads of the first model)`."""
    rng = np.random.default_rng(0)
    first = model = nn.MLP(4, 3, 16, 1, key=pb.random.key(0))
    optimizer = pb.optim.sgd(0.05)
    memory, doctor = optimizer.init(model), pb.inspect.Doctor(remedies=False)
    doctor.begin(classes, model, optimizer)
    for _ in range(steps):
        x, y = rng.normal(size=(32, 4)).astype(np.float32), rng.integers(0, 3, 32)
        loss, grads = pb.value_and_grad(classes)(model, x, y)
        grads = wrong(grads, pb.grad(classes)(first, x, y))
        updates, memory = optimizer.update(grads, memory, model)
        model = pb.optim.apply_updates(model, updates)
        doctor.see(model, (x, y), loss=loss, grads=grads)
    return doctor.report()


def test_gradients_of_parts_that_are_never_averaged():
    def times(grads, _):
        return pb.transforms.tree.map_leaves(lambda g: 4 * g, grads)

    (finding,) = [x for x in handed(4, times).alarms if x.id == "LOOP01"]
    assert finding.numbers["factor"] == 4


def test_gradients_of_the_first_model():
    assert "LOOP03" in ids(handed(4, lambda _, first: first))
    assert not ids(handed(4, lambda grads, _: grads))


def test_a_gradient_that_is_not_finite_before_the_first_step(rng):
    x, y = rng.normal(size=(32, 4)).astype(np.float32), np.zeros((32, 1), np.float32)
    model = nn.Linear(4, 1, key=pb.random.key(0), initializer=nn.init.zeros)

    def distance(model, x, y):
        return pb.mean(pb.sqrt((model(x) - y) ** 2))

    assert ids(pb.preflight(model, distance, (x, y)))[0] == "NUM02"

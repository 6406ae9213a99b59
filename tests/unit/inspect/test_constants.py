"""The loss asked of outputs that are made by hand, and of weights that are used many times."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback import nn
from pullback.inspect.answers import answers
from pullback.inspect.baseline import Baseline
from pullback.inspect.outputs import Rest, ends
from pullback.inspect.probe import Probe
from pullback.inspect.recurrence import recurrences

RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 5)).astype("float32")
RARE = (RNG.random((64, 1)) < 0.2).astype("float32")


def _model(width: int = 1) -> nn.MLP:
    return nn.MLP(5, width, 8, 1, nn.tanh, key=pb.random.key(0))


@pytest.mark.parametrize(("weight", "is_known"), [(1.0, True), (8.0, False)])
def test_the_entropy_of_labels_is_no_baseline_of_a_loss_that_weighs_them(weight, is_known):
    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(model(x) * 3.0, y, positive_weight=weight)

    assert (Baseline.of(Probe(loss, (_model(), X, RARE))) is not None) == is_known


def test_the_scale_of_an_error_is_that_of_a_constant_output():
    weights = np.linspace(0.2, 1.8, 64, dtype="float32")[:, None]
    y = (1 + RNG.standard_normal((64, 1))).astype("float32")

    def loss(model, x, y):
        return pb.mean(weights * (model(x) - y) ** 2)

    found = Baseline.of(Probe(loss, (_model(), X, y)))
    assert found is not None
    want = float((weights * (y - y.mean()) ** 2).mean())
    assert found.loss([(X, y)]) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(("sign", "is_wrong"), [(1.0, False), (-1.0, True)])
def test_a_loss_of_the_logarithm_of_a_rate_does_not_reward_what_is_wrong(sign, is_wrong):
    y = RNG.poisson(160, (64, 1)).astype("float32")

    def loss(model, x, y):
        f = pb.minimum(model(x), 9.0)
        return sign * pb.mean(pb.exp(f) - y * f)

    (found,) = answers(Probe(loss, (_model(), X, y)))
    assert found.prefers_wrong == is_wrong


def test_a_network_that_draws_gives_the_mean_of_many_draws():
    def loss(model, x, y):
        kept = pb.random.bernoulli(pb.random.key(3), 0.5, x.shape)
        return nn.mse(model["out"](x * kept * 2.0), y)

    model = {"out": nn.Linear(5, 1, key=pb.random.key(0))}
    probe = Probe(loss, (model, X, RARE))
    outs = ends(probe)
    (given,) = Rest(probe, outs).given(model, (X, RARE))
    once, sure = probe.numbers(outs[0]), np.asarray(model["out"](X))
    assert np.std(given - sure) < np.std(once - sure) / 3


@pytest.mark.parametrize(("squash", "vanishes"), [(nn.tanh, False), (nn.sigmoid, True)])
def test_a_gradient_is_followed_over_time(squash, vanishes):
    start = nn.init.orthogonal
    cell = nn.RNN(5, 16, activation=squash, key=pb.random.key(0), hidden_initializer=start)
    model = {"cell": cell, "out": nn.Linear(16, 1, key=pb.random.key(1))}
    x = RNG.standard_normal((8, 12, 5)).astype("float32")

    def loss(model, x, y):
        return nn.mse(model["out"](model["cell"](x)[1]), y)

    (found,) = recurrences(Probe(loss, (model, x, RARE[:8])))
    assert found.steps == 11
    assert (found.total < 1e-3) == vanishes


def test_rows_of_a_parameter_are_a_layer_each():
    model = {"stack": pb.random.normal(pb.random.key(0), (20, 5, 5)) * 0.5, "out": _model()}

    def loss(model, x, y):
        h, _ = pb.scan(lambda h, w: (nn.relu(h @ w), None), x, model["stack"])
        return nn.mse(model["out"](h), y)

    def by_hand(model, x, y):
        h = x
        for i in range(20):
            h = nn.relu(h @ model["stack"][i])
        return nn.mse(model["out"](h), y)

    for each in (loss, by_hand):
        assert Probe(each, (model, pb.asarray(X), RARE)).depth == 22

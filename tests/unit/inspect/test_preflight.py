"""Preflight: healthy networks are left in peace, planted faults are named with line or layer."""

import numpy as np
import pytest

import pullback as pb
from pullback import nn
from pullback.bench.models import GPT, ResNet
from pullback.errors import ArgumentError, ShapeError
from pullback.inspect.moments import Moments
from pullback.inspect.probe import Probe
from pullback.inspect.trials import step_along
from pullback.transforms.tree import map_leaves

RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 32)).astype(np.float32)
Y = RNG.integers(0, 10, 64)


def loss(model, x, y):
    return nn.cross_entropy(model(x), y)


def mlp(seed=0, **options):
    return nn.MLP(32, 10, 64, 2, key=pb.random.key(seed), **options)


class Deep(nn.Module):
    """Dense layers in a row."""

    layers: list[nn.Linear]
    head: nn.Linear
    activation: object
    scale: float

    def __init__(self, depth, width, activation, initializer, scale=0.0, out=10):
        keys = pb.random.split(pb.random.key(1), depth + 1)
        self.layers = [
            nn.Linear(width, width, key=keys[i], initializer=initializer) for i in range(depth)
        ]
        self.head = nn.Linear(width, out, key=keys[depth])
        self.activation = activation
        self.scale = scale

    def __call__(self, x):
        for layer in self.layers:
            h = self.activation(layer(x))
            x = x + self.scale * h if self.scale else h
        return self.head(x)


# ---- healthy --------------------------------------------------------------------------------


class Convolutional(nn.Module):
    first: nn.Conv2d
    second: nn.Conv2d
    head: nn.Linear

    def __init__(self, key):
        a, b, c = pb.random.split(key, 3)
        self.first = nn.Conv2d(1, 8, 3, padding=1, key=a)
        self.second = nn.Conv2d(8, 8, 3, padding=1, key=b)
        self.head = nn.Linear(8, 10, key=c)

    def __call__(self, x):
        x = nn.relu(self.second(nn.relu(self.first(x))))
        return self.head(pb.mean(x, axis=(2, 3)))


class Recurrent(nn.Module):
    cell: nn.LSTM
    head: nn.Linear

    def __init__(self, key):
        a, b = pb.random.split(key)
        self.cell = nn.LSTM(8, 16, key=a)
        self.head = nn.Linear(16, 10, key=b)

    def __call__(self, x):
        out, _ = self.cell(x, self.cell.initial_state((x.shape[0],)))
        return self.head(out[:, -1])


def healthy():
    images = RNG.standard_normal((32, 1, 8, 8)).astype(np.float32)
    rows = RNG.standard_normal((32, 6, 8)).astype(np.float32)
    key = pb.random.key(3)
    yield pytest.param(mlp(), X, Y, id="mlp")
    yield pytest.param(mlp(activation=nn.tanh), X, Y, id="tanh")
    yield pytest.param(Convolutional(key), images, Y[:32], id="cnn")
    yield pytest.param(Recurrent(key), rows, Y[:32], id="lstm")
    yield pytest.param(Deep(6, 32, nn.relu, nn.init.he_normal, 0.3), X, Y, id="resnet")


@pytest.mark.parametrize(("model", "x", "y"), list(healthy()))
def test_healthy(model, x, y):
    report = pb.preflight(model, loss, (x, y), optimizer=pb.optim.adam(3e-3))
    assert not report.alarms, str(report)
    assert "checks" in str(report)


@pytest.mark.parametrize(
    "network",
    [GPT(2, 32, 2, 16, 20, batch=8), ResNet(1, (8, 16, 16), side=8, batch=16)],
    ids=["GPT", "conv ResNet"],
)
def test_healthy_benchmark_networks(network):
    rng = np.random.default_rng(0)
    params = map_leaves(lambda x: x.astype(np.float32), network.parameters(rng))
    batch = map_leaves(
        lambda x: x.astype(np.float32) if x.dtype.kind == "f" else x, network.examples(rng)
    )
    report = pb.preflight(params, network.loss, batch, optimizer=pb.optim.adam(3e-3))
    assert not report.alarms, str(report)


# ---- planted faults -------------------------------------------------------------------------


def found(report, rule):
    assert rule in report.ids, str(report)
    return next(x for x in report.findings if x.id == rule)


def test_cut():
    def cut(model, x, y):
        h = pb.stop_gradient(nn.relu(model.layers[0](x)))
        return nn.cross_entropy(model.head(h), y)

    report = pb.preflight(Deep(1, 32, nn.relu, nn.init.he_normal), cut, (X, Y))
    finding = report.findings[0]
    assert finding.id == "CUT01"
    assert "stop_gradient" in finding.frame.source
    assert "2 of 4 parameters can never learn" in finding.what


def test_a_loss_that_ignores_the_model():
    def ignores(model, x, y):
        return pb.mean(pb.asarray(x) ** 2)

    finding = pb.preflight(mlp(), ignores, (X, Y)).findings[0]
    assert finding.id == "CUT01"
    assert "ignores the model" in finding.what


def test_wrong_initial_loss():
    model = mlp()

    def loud(model, x, y):
        return nn.cross_entropy(30 * model(x), y)

    finding = found(pb.preflight(model, loud, (X, Y)), "OBJ04")
    assert "ln 10" in finding.what


def test_sum_in_place_of_mean():
    def summed(model, x, y):
        return nn.cross_entropy(model(x), y, reduction="sum")

    assert "a sum over 64" in found(pb.preflight(mlp(), summed, (X, Y)), "OBJ06").what


def test_inputs_not_scaled():
    finding = found(pb.preflight(mlp(), loss, (1000 + 255 * X, Y)), "DAT01")
    assert finding.what.startswith("x has mean")


def test_leak_between_samples():
    def leaks(model, x, y):
        h = pb.reshape(pb.reshape(x, (64, 32)).T, (64, 32))
        return nn.cross_entropy(model(h), y)

    finding = found(pb.preflight(mlp(), leaks, (X, Y)), "DAT04")
    assert "reshape" in finding.frame.source


def test_samples_are_mixed_by_statistics_that_are_no_batch_normalisation():
    def asked(mix):
        def loss(model, x, y):
            return pb.nn.cross_entropy(model(mix(x)), y)

        return "DAT04" in pb.preflight(mlp(), loss, (X, Y)).ids

    sound = [
        lambda x: (x - pb.mean(x, axis=0)) / (pb.std(x, axis=0) + 1e-3),
        lambda x: x / pb.sqrt(pb.mean(x * x, axis=0) + 1e-3),
        lambda x: pb.eye(len(x)) @ x,
    ]
    mixed = [
        lambda x: x / pb.sum(x, axis=0),
        lambda x: x / pb.max(x),
        lambda x: (x - pb.mean(x)) / pb.std(x),
        lambda x: pb.einsum("bi,cj->bj", x, x) / len(x),
    ]
    assert [asked(x) for x in sound] == [False] * len(sound)
    assert [asked(x) for x in mixed] == [True] * len(mixed)


def test_batch_statistics_are_no_leak():
    def normed(model, x, y):
        h = model.layers[0](x)
        h = (h - pb.mean(h, axis=0)) / (pb.std(h, axis=0) + 1e-3)
        return nn.cross_entropy(model.head(nn.relu(h)), y)

    report = pb.preflight(Deep(1, 32, nn.relu, nn.init.he_normal), normed, (X, Y))
    assert "DAT04" not in report.ids


def test_vanishing_sigmoid():
    model = Deep(20, 32, nn.sigmoid, nn.init.xavier_normal)
    report = pb.preflight(model, loss, (X, Y))
    finding = found(report, "SIG01")
    assert finding in report.alarms
    assert finding.numbers["factor"] < 0.3


def test_exploding():
    model = Deep(8, 32, nn.tanh, lambda *a, **k: 20 * nn.init.he_normal(*a, **k))
    report = pb.preflight(model, loss, (X, Y))
    assert "SIG04" in report.ids, str(report)
    relus = Deep(12, 32, nn.relu, lambda *a, **k: 4 * nn.init.he_normal(*a, **k))
    report = pb.preflight(relus, loss, (X, Y))
    assert "SIG02" in report.ids
    finding = found(report, "SIG07")
    assert "he_normal: 0.25" in finding.why
    assert finding.numbers["layer"].startswith("layers[")


def test_dead_units():
    model = mlp()
    first = model.layers[0]
    dead = model.replace(layers=(first.replace(bias=first.bias - 100), *model.layers[1:]))
    report = pb.preflight(dead, loss, (X, Y))
    finding = found(report, "SIG03")
    assert finding in report.alarms
    assert "layers[0].weight" in finding.what


def test_symmetric_weights():
    model = Deep(2, 32, nn.tanh, lambda key, shape, dtype=pb.float32: pb.full(shape, 0.1))
    finding = found(pb.preflight(model, loss, (X, Y)), "SIG06")
    assert "31 of the 32 units" in finding.what


def test_a_head_of_zeros_is_no_fault():
    model = mlp()
    head = model.layers[-1]
    model = model.replace(layers=(*model.layers[:-1], head.replace(weight=0 * head.weight)))
    report = pb.preflight(model, loss, (X, Y))
    assert not report.alarms, str(report)


def test_wrong_rule():
    @pb.custom_derivative
    def twice(x):
        return x * x

    twice.defvjp(lambda x: (x * x, x), lambda x, bar: (bar * x,))

    def wrong(model, x, y):
        return pb.mean(twice(model(x) - pb.one_hot(y, 10)))

    report = pb.preflight(mlp(), wrong, (X, Y))
    assert found(report, "VER02") in report.errors


def test_learning_rate_too_high():
    report = pb.preflight(mlp(), loss, (X, Y), optimizer=pb.optim.sgd(20.0))
    finding = found(report, "OPT01")
    assert finding in report.alarms
    assert finding.numbers["factor"] > 1


def test_learning_rate_too_low():
    report = pb.preflight(mlp(), loss, (X, Y), optimizer=pb.optim.sgd(1e-7))
    assert found(report, "OPT02") in report.alarms


def test_one_batch_cannot_be_learnt():
    def blind(model, x, y):
        return nn.cross_entropy(model(0 * pb.asarray(x)), y)

    labels = np.arange(60) % 10
    report = pb.preflight(mlp(), blind, (X[:60], labels))
    assert "VER01" in report.ids


def test_not_finite():
    def logged(model, x, y):
        return pb.mean(pb.log(model(x)))

    report = pb.preflight(mlp(), logged, (X, Y))
    assert report.findings[0].id == "NUM01"
    assert "pb.log" in report.findings[0].frame.source


def weighted(model, x, y):
    z = model(x)
    return nn.cross_entropy(z, y) * pb.stop_gradient(pb.mean(z * z)) + pb.mean(z * z)


def quantised(model, x, y):
    h = nn.relu(model.layers[0](x))
    h = pb.straight_through(pb.round(4 * h) / 4, h)
    return nn.cross_entropy(model.layers[-1](nn.relu(model.layers[1](h))), y)


def remembered(model, x, y):
    def turn(h, row):
        h = nn.tanh(row + pb.stop_gradient(h) * h)
        return h, h

    return pb.mean(pb.scan(turn, pb.zeros(10), model(x))[1] ** 2)


@pytest.mark.parametrize("cut", [weighted, quantised, remembered])
def test_a_cut_that_is_meant_is_no_wrong_derivative(cut):
    """Finite differences see through stop_gradient; the rules, rightly, do not."""
    assert "VER02" not in pb.preflight(mlp(), cut, (X, Y)).ids


def test_a_large_batch_is_evaluated_once(monkeypatch):
    """What has to be evaluated again is evaluated on a part of the batch."""
    monkeypatch.setattr("pullback.inspect.seen.VALUES", 10_000)
    sizes = []

    def counted(model, x, y):
        sizes.append(x.shape[0])
        return nn.cross_entropy(model(x), y)

    report = pb.preflight(mlp(), counted, (X, Y))
    assert not report.alarms, str(report)
    assert sizes.count(64) == 1
    assert len(sizes) > 3

    def rigid(model, x, y):
        return nn.cross_entropy(pb.reshape(model(x), (64, 10)), y)

    assert not pb.preflight(mlp(), rigid, (X, Y)).alarms


# ---- theory ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "initializer", "scale"),
    [
        pytest.param(nn.sigmoid, nn.init.xavier_normal, 0.0, id="sigmoid"),
        pytest.param(nn.tanh, nn.init.lecun_normal, 0.0, id="tanh"),
        pytest.param(nn.relu, nn.init.he_normal, 0.0, id="relu"),
        pytest.param(nn.tanh, nn.init.lecun_normal, 0.3, id="residual"),
    ],
)
def test_moments_agree_with_theory(activation, initializer, scale):
    """Over 20 layers, as a factor a layer: one net strays from the mean over nets with 1/width."""
    model = Deep(20, 256, activation, initializer, scale)
    x = RNG.standard_normal((32, 256)).astype(np.float32)
    signals = Moments(Probe(loss, (model, x, Y[:32]))).signals()
    hidden = signals[:-1]
    assert len(hidden) == 20
    forward = [s.forward_predicted / s.forward for s in hidden]
    backward = [s.backward_predicted / s.backward for s in hidden]
    gains = [a / b for a, b in zip(forward[1:], forward[:-1], strict=True)]
    assert 0.8 < np.exp(np.mean(np.log(gains))) < 1.2
    assert 0.8 < np.exp(np.mean(np.log(forward))) < 1.25 or activation is nn.relu
    assert 0.95 < backward[0] ** (1 / 20) < 1.05
    if activation is nn.tanh:
        assert all(0.8 < ratio < 1.2 for ratio in forward)


@pytest.mark.parametrize(
    ("curvature", "rate"), [(226.864, 0.01), (37.42, 0.1), (3284.2, 0.5)], ids=str
)
def test_the_step_of_a_quadratic(curvature, rate):
    """eta* is 2/(rate lambda) along the top eigenvector, and never less in another direction."""
    scales = np.array([curvature, 1.0, 0.3])

    def quadratic(w):
        return 0.5 * pb.sum(scales * w * w)

    for start, top in ((np.array([1.0, 0.0, 0.0]), True), (np.array([0.01, 1.0, 1.0]), False)):
        step = step_along(quadratic, start, pb.asarray(scales * start), -rate * scales * start)
        stable = 2 / (rate * curvature)
        assert step.eta >= stable * (1 - 1e-9)
        if top:
            assert step.eta == pytest.approx(stable)
            assert step.factor == pytest.approx(rate * curvature / 2)


# ---- what it leaves, and what it refuses ----------------------------------------------------


def test_nothing_changes():
    model, x, y = mlp(), X.copy(), Y.copy()
    before = [w.numpy().copy() for w in (model.layers[0].weight, model.layers[-1].bias)]
    pb.preflight(model, loss, (x, y), optimizer=pb.optim.adam(1e-2))
    after = [w.numpy() for w in (model.layers[0].weight, model.layers[-1].bias)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert np.array_equal(x, X)
    assert x.flags.writeable
    assert y.flags.writeable


def test_a_batch_of_one():
    report = pb.preflight(mlp(), loss, (X[:1], Y[:1]))
    assert not report.alarms, str(report)
    assert "a batch of one" in str(report)


def test_refusals():
    with pytest.raises(ArgumentError, match="no parameters"):
        pb.preflight({"n": np.arange(3)}, loss, (X, Y))
    with pytest.raises(ShapeError, match="one scalar"):
        pb.preflight(mlp(), lambda model, x, y: model(x), (X, Y))
    with pytest.raises(ArgumentError, match="no rule"):
        pb.preflight(mlp(), loss, (X, Y), intended=("SIG99",))
    with pytest.raises(pb.errors.PullbackError, match="10"):
        pb.preflight(mlp(), loss, (X, Y + 5))


def test_declared():
    def summed(model, x, y):
        return nn.cross_entropy(model(x), y, reduction="sum")

    report = pb.preflight(mlp(), summed, (X, Y), intended=("OBJ06",))
    assert "OBJ06" not in report.ids
    assert [x.id for x in report.declared] == ["OBJ06"]


def test_a_deep_chain_and_a_near_miss_are_notes():
    def steep(model, x, y):
        return loss(model, x, y) + pb.mean(pb.exp(pb.tanh(model(x)) + 81.0)) * 0.0

    deep = nn.MLP(32, 10, 16, 14, nn.sigmoid, key=pb.random.key(0))
    for model, f, rule in ((deep, loss, "SIG08"), (mlp(), steep, "NUM03")):
        assert found(pb.preflight(model, f, (X, Y)), rule).severity.value == "INFO"
        assert not [x for x in pb.preflight(mlp(), loss, (X, Y)).findings if x.id == rule]


def test_a_parameter_that_differences_cancel_is_a_note():
    """Two towers that share a last layer: the distance does not depend on its bias."""
    rng = np.random.default_rng(0)
    model = nn.Linear(6, 3, key=pb.random.key(0))
    left, right, target = (rng.normal(size=(16, n)).astype(np.float32) for n in (6, 6, 3))

    def loss(model, left, right, target):
        return pb.mean((model(left) - model(right) - target) ** 2)

    found = {x.id: x for x in pb.preflight(model, loss, (left, right, target)).findings}
    assert found["CUT04"].severity.value == "INFO"
    assert "contributions cancel" in found["CUT04"].why


def test_a_loss_below_zero_is_learnt_by_heart():
    """Nine tenths of its size lower is not what it begins with."""
    rng = np.random.default_rng(0)
    model = nn.Linear(6, 4, key=pb.random.key(0))
    x, y = rng.normal(size=(16, 6)).astype(np.float32), rng.integers(0, 4, 16)

    def loss(model, x, y):
        return nn.cross_entropy(model(x), y) - 9.0

    report = pb.preflight(model, loss, (x, y), optimizer=pb.optim.adam(3e-2))
    assert "VER01" not in [x.id for x in report.findings]


def test_what_ended_the_trial_is_named_and_was_foretold():
    """A softmax by hand whose powers overflow soon: no matter of the rate."""

    def loss(model, x):
        logits = pb.stack([80 * model["w"] * x, 85 + 0 * x], axis=1)
        likely = pb.exp(logits)
        p = likely / (pb.sum(likely, axis=1, keepdims=True) + 1e-8)
        return 1000 - pb.mean(pb.log(p[:, 0] + 1e-8))

    x = np.random.default_rng(0).uniform(0.9, 1.0, 32).astype(np.float32)
    report = pb.preflight({"w": pb.ones(())}, loss, x, optimizer=pb.optim.adam(1e-2))
    told = report.alarms[0]
    assert told.id == "NUM01"
    assert told.what.startswith("exp(")
    assert told.why.startswith("in step ")
    assert "a softmax by hand" in told.why

"""Faults of what is written: the loss, its sign, what is added to it, a rule, a mask, the depth."""

import numpy as np
import pytest

import pullback as pb
from pullback import nn
from pullback.inspect.answers import answers, falls_both_ways, loss_scale, partners_apart
from pullback.inspect.custom_rules import wrong_rules
from pullback.inspect.edits import edited, skipped
from pullback.inspect.pairing import collapsed
from pullback.inspect.probe import Probe
from pullback.inspect.response import Exam
from pullback.inspect.rules.objective import OBJ01, OBJ03, OBJ07
from pullback.inspect.terms import added

RNG = np.random.default_rng(0)
X = RNG.standard_normal((32, 12)).astype(np.float32)
Y = RNG.integers(0, 5, 32)
MODEL = nn.MLP(12, 5, 16, 1, nn.tanh, key=pb.random.key(0))


def probe(loss, *batch, model=MODEL):
    return Probe(loss, (model, *batch))


def only(found):
    (each,) = found
    return each


# ---- rules of one's own ---------------------------------------------------------------------


def ruled(f, backward):
    own = pb.custom_derivative(f)
    own.defvjp(lambda z: (f(z), z), backward)
    return lambda model, x, y: nn.cross_entropy(own(model(x)), y)


def test_a_rule_that_is_wrong_in_one_branch_is_told_at_its_line():
    def leaky(z):
        return pb.where(z > 0, z, 0.3 * z)

    def backward(z, bar):
        slope = pb.where(z > 0, 1.0, -0.3)
        return (slope * bar,)

    found = only(wrong_rules(probe(ruled(leaky, backward), X, Y).nodes))
    assert not found.is_meant
    assert found.site.frame.source == "return (slope * bar,)"


@pytest.mark.parametrize(
    ("f", "backward", "meant"),
    [
        (lambda z: pb.maximum(z, 0.0), lambda z, bar: (pb.where(z > 0, bar, 0.0),), None),
        (lambda z: z, lambda z, bar: (-bar,), True),
        (pb.round, lambda z, bar: (bar,), True),
        (lambda z: z * z, lambda z, bar: (z * bar,), False),
    ],
    ids=["right", "turned round on purpose", "straight through", "wrong"],
)
def test_what_a_rule_is_taken_for(f, backward, meant):
    found = [x.is_meant for x in wrong_rules(probe(ruled(f, backward), X, Y).nodes)]
    assert found == ([] if meant is None else [meant])


# ---- the end of the network -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (nn.tanh, True),
        (nn.relu, True),
        (lambda z: 30 * nn.tanh(z / 30), False),
        (lambda z: -(z**2), False),
        (lambda z: z, False),
    ],
    ids=["tanh", "relu", "a wide tanh", "negative distances", "nothing"],
)
def test_bounded_logits(end, told):
    found = list(OBJ01.find(probe(lambda m, x, y: nn.cross_entropy(end(m(x)), y), X, Y)))
    assert [x.id for x in found] == ["OBJ01"] * told


def test_a_softmax_along_another_axis_than_the_targets():
    rows = X.reshape(32, 3, 4)
    model = nn.Linear(4, 5, key=pb.random.key(0))

    def loss(model, x, y, axis):
        p = pb.log_softmax(model(x), axis=axis)
        return -pb.mean(pb.sum(p * pb.one_hot(y, 5)[:, None, :] * pb.ones((1, 3, 1)), axis=-1))

    places = RNG.integers(0, 5, (32, 3))

    def by_place(model, x, y, axis):
        return -pb.mean(pb.log_softmax(model(x), axis=axis) * pb.one_hot(y, 5))

    for axis, told in ((1, ["OBJ01"]), (2, [])):
        f = lambda m, x, y: by_place(m, x, y, axis)  # noqa: B023
        assert [x.id for x in OBJ01.find(probe(f, rows, places, model=model))] == told


def test_labels_of_minus_one():
    loss = lambda m, x, y: nn.binary_cross_entropy_with_logits(m(x)[:, :1], y)
    y = RNG.integers(0, 2, (32, 1)).astype(np.float32)
    assert not list(OBJ03.find(probe(loss, X, y)))
    assert only(OBJ03.find(probe(loss, X, 2 * y - 1))).id == "OBJ03"


def test_a_bounded_output_before_a_huber_loss_with_a_penalty():
    def loss(m, x, y):
        return nn.huber(nn.sigmoid(m(x)), y) + 1e-4 * pb.sum(m.layers[0].weight ** 2)

    targets = 3 * RNG.standard_normal((32, 5)).astype(np.float32)
    assert only(OBJ03.find(probe(loss, X, targets))).id == "OBJ03"


# ---- outputs that are made by hand ----------------------------------------------------------


REWARD = RNG.uniform(0, 1, 32).astype(np.float32)


def policy(model, x, action, reward):
    return -pb.mean(pb.sum(pb.log_softmax(model(x)) * pb.one_hot(action, 5), axis=1) * reward)


LOSSES = {
    "classes": (lambda m, x, y: nn.cross_entropy(m(x), y), (X, Y)),
    "smoothed": (lambda m, x, y: nn.cross_entropy(m(x), y, label_smoothing=0.2), (X, Y)),
    "numbers": (lambda m, x, y: nn.mse(m(x), y), (X, 2 * X[:, :5])),
    "yes and no": (
        lambda m, x, y: nn.binary_cross_entropy_with_logits(m(x), y),
        (X, (X[:, :5] > 0).astype(np.float32)),
    ),
    "reward": (policy, (X, Y, REWARD)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_rewards_what_is_wrong(name):
    loss, batch = LOSSES[name]
    assert not [x for x in answers(probe(loss, *batch)) if x.prefers_wrong or x.prefers_none]

    def turned(model, x, y, reward=None):
        return -loss(model, x, y) if reward is None else -loss(model, x, y, reward)

    assert any(x.prefers_wrong for x in answers(probe(turned, *batch)))


def test_targets_of_others():
    words = RNG.integers(0, 5, (32, 6))
    rows = RNG.standard_normal((32, 6, 4)).astype(np.float32)
    model = nn.Linear(4, 5, key=pb.random.key(0))

    def loss(model, x, y):
        return nn.cross_entropy(model(x).reshape(-1, 5), pb.permute_dims(y, (1, 0)).reshape(-1))

    report = pb.preflight(model, loss, (rows, words), seconds=0.1)
    finding = next(x for x in report.alarms if x.id == "DAT03")
    assert "permute_dims" in finding.frame.source


def test_inputs_that_a_mask_takes_away():
    kept = np.zeros((32, 12), np.float32)

    def predict(m, x, mask):
        return m(x * mask)

    lost = collapsed(probe(lambda m, x, y: nn.cross_entropy(predict(m, x, kept), y), X, Y))
    assert lost is not None
    assert "x * mask" in lost.node.site.frame.source
    assert collapsed(probe(lambda m, x, y: nn.cross_entropy(m(x), y), X, Y)) is None


# ---- edits ----------------------------------------------------------------------------------


def test_a_loss_without_changes_is_the_loss_and_what_is_added_can_be_taken_out():
    def plain(m, x, y):
        return nn.cross_entropy(m(x), y)

    def with_penalty(m, x, y):
        sizes = pb.mean(pb.abs(m.layers[0].weight))
        return 0.5 * (plain(m, x, y) + 3.0 * sizes)

    seen = probe(with_penalty, X, Y)
    part = only(added(seen))
    assert float(edited(seen, {})(MODEL, X, Y)) == seen.loss
    rest = edited(seen, {part.node: part.taken_out()})
    assert float(rest(MODEL, X, Y)) == pytest.approx(0.5 * float(plain(MODEL, X, Y)), rel=1e-6)
    assert added(probe(plain, X, Y)) == []


def test_a_part_of_a_likelihood_is_nothing_added():
    def likelihood(m, x, y):
        mean, log = m(x)[:, 0], m(x)[:, 1]
        return pb.mean((y - mean) ** 2 * pb.exp(-log) + log)

    assert added(probe(likelihood, X, X[:, 0])) == []


def test_a_penalty_that_costs_what_could_be_learnt():
    def loss(m, x, y, factor):
        return nn.cross_entropy(m(x), y) + factor * sum(pb.sum(z.weight**2) for z in m.layers)

    labels = (X[:, :5] * 3).argmax(axis=1)
    rows = [(X[i : i + 8], labels[i : i + 8]) for i in range(0, 32, 8)]
    for factor, told in ((1.0, True), (1e-4, False)):
        f = lambda m, x, y: loss(m, x, y, factor)  # noqa: B023
        report = pb.inspect.watch(MODEL, f, rows, pb.optim.adam(1e-2), steps=60)
        assert ("OBJ08" in [x.id for x in report.alarms]) is told


def test_skips_around_the_layers_of_a_chain():
    deep = nn.MLP(12, 5, 16, 24, nn.sigmoid, key=pb.random.key(0))
    seen = probe(LOSSES["classes"][0], X, Y, model=deep)
    changed = edited(seen, skipped(seen))
    assert len(skipped(seen)) == 24
    both = LOSSES["classes"][0], changed
    first = [pb.grad(f)(deep, X, Y).layers[0].weight.numpy() for f in both]
    assert np.linalg.norm(first[1]) > 1e3 * np.linalg.norm(first[0])


# ---- losses written by hand -----------------------------------------------------------------

ROWS = np.arange(len(X))
SIGNS = (2.0 * (X[:, :1] > 0) - 1).astype(np.float32)
ONE = nn.MLP(12, 1, 16, 1, nn.tanh, key=pb.random.key(0))


def picked(z, y, axis=-1):
    return pb.mean(pb.logsumexp(z, axis=axis)) - pb.mean(z[ROWS, y])


@pytest.mark.parametrize(
    ("loss", "what"),
    [
        (lambda m, x, y: picked(pb.softmax(m(x)), y), "a softmax of a softmax"),
        (lambda m, x, y: picked(m(x), y, axis=0), "a softmax over axis 0"),
        (lambda m, x, y: -pb.mean((m(x) - pb.logsumexp(m(x)))[ROWS, y]), "a softmax over all"),
    ],
)
def test_a_log_sum_of_exponentials_less_a_logit_is_a_loss_of_classes(loss, what):
    assert only(OBJ01.find(probe(loss, X, Y))).what.startswith(what)
    assert not list(OBJ01.find(probe(lambda m, x, y: picked(m(x), y), X, Y)))


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, y: pb.mean(pb.log1p(pb.exp(-y * z))),
        lambda z, y: pb.mean(pb.log(1 + pb.exp(-y * z))),
        lambda z, y: -pb.mean(pb.log(1 / (1 + pb.exp(-y * z)) + 1e-7)),
    ],
)
def test_a_logistic_loss_by_hand_of_what_is_bounded(loss):
    bounded = probe(lambda m, x, y: loss(pb.sigmoid(m(x)), y), X, SIGNS, model=ONE)
    assert "sigmoid" in only(OBJ01.find(bounded)).what
    assert not list(OBJ01.find(probe(lambda m, x, y: loss(m(x), y), X, SIGNS, model=ONE)))


def test_labels_of_another_range_than_the_loss_wants():
    def entropy(m, x, y):
        p = pb.sigmoid(m(x))
        return -pb.mean(y * pb.log(p + 1e-7) + (1 - y) * pb.log(1 - p + 1e-7))

    def hinge(m, x, y):
        return pb.mean(nn.relu(1 - y * m(x)))

    zeros = (SIGNS + 1) / 2
    assert "go from -1 to 1" in only(OBJ03.find(probe(entropy, X, SIGNS, model=ONE))).what
    assert "labels of 0" in only(OBJ03.find(probe(hinge, X, zeros, model=ONE))).what
    for loss, y in ((entropy, zeros), (hinge, SIGNS)):
        assert not list(OBJ03.find(probe(loss, X, y, model=ONE)))


def test_a_broadcast_within_where():
    def loss(m, x, y):
        return pb.mean(pb.where(y > 0, nn.softplus(-m(x)), nn.softplus(m(x))))

    assert only(OBJ07.find(probe(loss, X, SIGNS[:, 0], model=ONE))).frame.line
    assert not list(OBJ07.find(probe(loss, X, SIGNS, model=ONE)))


def test_partners_that_are_pushed_apart():
    def paired(sign):
        def loss(m, x, other):
            apart = pb.sum((m(x)[:, None] - m(other)[None]) ** 2, axis=2)
            return nn.cross_entropy(sign * apart, ROWS)

        return probe(loss, X, X + 0.1)

    assert partners_apart(paired(1.0)) is not None
    assert partners_apart(paired(-1.0)) is None


def test_logits_that_are_distances():
    def asked(change):
        def loss(m, x, y):
            far = pb.sum((m["net"](x)[:, None] - m["centres"]) ** 2, axis=2)
            return nn.cross_entropy(change(far), y)

        model = {"net": MODEL, "centres": pb.asarray(X[:5, :5])}
        seen = probe(loss, X, Y, model=model)
        return seen.is_distance(seen.class_logits)

    assert asked(lambda far: far)
    assert asked(lambda far: pb.sqrt(far + 1e-6) / 0.5)
    assert not asked(lambda far: -far)
    assert not asked(lambda far: 1 / far)


def test_a_likelihood_of_parameters_alone():
    def density(m, x, sign=1.0):
        far = pb.sum((x[:, None] - m["means"]) ** 2, axis=2)
        return sign * pb.mean(pb.logsumexp(-far / 2, axis=1))

    model = {"means": pb.asarray(X[:3])}
    assert falls_both_ways(probe(density, X, model=model)) is not None
    turned = probe(lambda m, x: density(m, x, -1.0), X, model=model)
    assert falls_both_ways(turned) is None


def test_what_a_loss_is_of_a_mean_and_what_decides_a_step():
    twice = probe(lambda m, x, y: nn.cross_entropy(m(x), y) / len(x), X, Y)
    assert loss_scale(list(answers(twice))) == pytest.approx(1 / len(X))
    grads = [1e-4 * np.ones(x.shape, np.float32) for x in twice.replay.parameters]
    exams = [
        Exam(x, MODEL, grads) for x in (pb.optim.adam(1e-2, weight_decay=1.0), pb.optim.adamw(1e-2))
    ]
    assert [x.pull[0] > 0.7 for x in exams] == [True, False]
    assert [Exam(x, MODEL, grads).passes_scale for x in (pb.optim.sgd(0.1), pb.optim.adam())] == [
        True,
        False,
    ]

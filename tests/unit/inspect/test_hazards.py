"""`hazards`: what can be read off a loss before anything goes wrong, and what is left in peace."""

from __future__ import annotations

import json

import numpy as np
import pytest

import layers
import pullback as pb
from pullback.errors import ArgumentError
from pullback.inspect import Severity, hazards

rng = np.random.default_rng(0)
W, X = rng.normal(size=(3, 4)), rng.normal(size=(8, 3))
LABELS, REAL = rng.integers(0, 4, 8), rng.normal(size=8)
nn = pb.nn


def found(f, *args, **options):
    return hazards(f, *(args or (W, X, LABELS)), **options)


# ---- partial functions ----------------------------------------------------------------------


def log_relu(w, x, y):
    return pb.sum(pb.log(nn.relu(x @ w)))


def root_of_squares(w, x, y):
    return pb.sum(pb.sqrt(pb.sum((x @ w) ** 2, axis=1)))


def divided_by_relu(w, x, y):
    return pb.sum(1.0 / nn.relu(x @ w))


def power(w, x, y):
    return pb.sum(nn.relu(x @ w) ** 0.3)


def reciprocal_root(w, x, y):
    return pb.sum(pb.rsqrt(pb.sum((x @ w) ** 2, axis=1)))


def angle(w, x, y):
    return pb.sum(pb.acos(pb.tanh(x @ w)))


def inverse_power(w, x, y):
    return pb.sum(pb.sum((x @ w) ** 2, axis=1) ** -2)


@pytest.mark.parametrize(
    "f",
    [log_relu, root_of_squares, divided_by_relu, power, reciprocal_root, angle, inverse_power],
)
def test_a_bound_that_is_touched_is_a_warning(f):
    finding = found(f).alarms[0]
    assert finding.id == "NUM04"
    assert finding.severity is Severity.WARN
    assert finding.frame.function == f.__name__
    assert finding.fix


@pytest.mark.parametrize(
    "f",
    [
        lambda w, x, y: pb.sum(pb.log(x @ w)),
        lambda w, x, y: pb.sum(pb.sqrt(x @ w)),
        lambda w, x, y: pb.sum(1.0 / (x @ w)),
    ],
)
def test_an_operand_of_which_nothing_is_known_is_a_note(f):
    report = found(f)
    assert report.ids == ["NUM04"]
    assert not report.alarms
    assert "nothing is known of" in report.findings[0].why


GUARDED = {
    "1 + x²": lambda w, x, y: pb.sum(pb.log(1.0 + (x @ w) ** 2)),
    "eps": lambda w, x, y: pb.sum(pb.sqrt(pb.sum((x @ w) ** 2, axis=1) + 1e-6)),
    "clip": lambda w, x, y: pb.sum(pb.log(pb.clip(x @ w, 1e-6, None))),
    "maximum": lambda w, x, y: pb.sum(1.0 / pb.maximum(pb.abs(x @ w), 1e-6)),
    "exp + 1": lambda w, x, y: pb.sum(1.0 / (1.0 + pb.exp(x @ w))),
    "double where": lambda w, x, y: pb.sum(
        pb.where(x @ w > 0, pb.log(pb.where(x @ w > 0, x @ w, 1.0)), 0.0)
    ),
    "where not zero": lambda w, x, y: pb.sum(
        1.0 / pb.where(pb.sum(w) == 0.0, 1.0, pb.sum(w)) * x[0, 0]
    ),
    "norm": lambda w, x, y: pb.linalg.vector_norm(x @ w),
    "std": lambda w, x, y: pb.std(x @ w),
    "logsumexp": lambda w, x, y: pb.sum(pb.logsumexp(x @ w, axis=1)),
    "cosh": lambda w, x, y: pb.sum(pb.log(pb.cosh(x @ w))),
    "data alone": lambda w, x, y: pb.sum(pb.log(x * x) @ w),
    "divided by data": lambda w, x, y: pb.sum((x @ w) / (1.0 + y[:, None])),
    "layer norm": lambda w, x, y: pb.sum(nn.layer_norm(x @ w) ** 2),
}


@pytest.mark.parametrize("name", GUARDED)
def test_a_guard_is_understood(name):
    def f(w, x, y):
        return GUARDED[name](w, x, y)

    report = found(f)
    assert not report.findings, str(report)
    assert "found nothing" in str(report)


def test_a_shared_condition_is_understood():
    def f(w, x, y):
        h = x @ w
        ok = h > 0.0
        return pb.sum(pb.where(ok, pb.log(pb.where(ok, h, 1.0)), 0.0))

    assert not found(f).findings


# ---- where ----------------------------------------------------------------------------------


def test_where_after_a_partial_function():
    def protected(w, x, y):
        h = x @ w
        return pb.sum(pb.where(h > 0, pb.log(h), 0.0))

    def trap(w, x, y):
        h = x @ w
        return pb.sum(pb.where(h > 0, pb.tanh(pb.log(h)), 0.0))

    report = found(protected)
    assert report.ids == ["NUM05"]
    assert not report.alarms
    finding = found(trap).alarms[0]
    assert finding.id == "NUM05"
    assert "through tanh" in finding.what
    assert finding.frame.expression == "pb.log(h)"
    # what the rule says of the two is what happens
    w, x = np.array([[1.0]]), np.array([[-1.0], [2.0]])
    assert np.isfinite(pb.grad(protected)(w, x, None).numpy()).all()
    assert np.isnan(pb.grad(trap)(w, x, None).numpy()).all()


# ---- logarithms of probabilities ------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "of"),
    [
        (lambda w, x, y: -pb.mean(pb.log(pb.softmax(x @ w))[:, 0]), "softmax"),
        (lambda w, x, y: -pb.mean(pb.log(pb.softmax(x @ w)[:, 0])), "softmax"),
        (lambda w, x, y: -pb.mean(pb.log(pb.sigmoid(x @ w))), "sigmoid"),
        (
            lambda w, x, y: (
                -pb.mean(pb.log(pb.exp(x @ w) / pb.sum(pb.exp(x @ w), axis=1, keepdims=True)))
            ),
            "softmax",
        ),
    ],
)
def test_log_of_a_probability(f, of):
    finding = next(x for x in found(f).alarms if x.id == "NUM06")
    assert of in finding.what
    assert "log_softmax" in finding.fix


def test_log_of_a_bounded_probability_is_a_note():
    report = found(lambda w, x, y: -pb.mean(pb.log(pb.softmax(x @ w) + 1e-9)))
    assert report.ids == ["NUM06"]
    assert not report.alarms


# ---- the output and the loss ----------------------------------------------------------------


MISFITS = {
    "softmax twice": lambda w, x, y: nn.cross_entropy(pb.softmax(x @ w), y),
    "softmax twice by hand": lambda w, x, y: pb.sum(pb.softmax(pb.softmax(x @ w)) ** 2),
    "sigmoid twice": lambda w, x, y: nn.binary_cross_entropy_with_logits(
        pb.sigmoid(x @ w), 1.0 * (pb.asarray(rng.normal(size=(8, 4))) > 0)
    ),
    "softmax of one": lambda w, x, y: pb.sum(pb.softmax(x @ w[:, :1]) ** 2),
    "cross entropy of one class": lambda w, x, y: nn.cross_entropy(x @ w[:, :1], y * 0),
}


@pytest.mark.parametrize("name", MISFITS)
def test_the_activation_does_not_fit(name):
    def f(w, x, y):
        return MISFITS[name](w, x, y)

    report = found(f)
    assert report.ids == ["OBJ01"], str(report)
    assert len(report.errors) == 1
    assert report.exit_code == 1


def test_a_softmax_over_the_batch():
    finding = found(lambda w, x, y: pb.sum(pb.softmax(x @ w, axis=0) ** 2)).alarms[0]
    assert finding.id == "OBJ01"
    assert "the batch" in finding.what


REACH = {
    "sigmoid": (pb.sigmoid, 3.0),
    "tanh": (pb.tanh, -1.5),
    "relu": (nn.relu, -0.1),
    "softmax": (pb.softmax, 2.0),
    "scaled tanh": (lambda h: 2.0 * pb.tanh(h) + 1.0, 3.5),
}


@pytest.mark.parametrize("name", REACH)
@pytest.mark.parametrize(
    "loss",
    [
        nn.mse,
        nn.mae,
        lambda p, y: pb.mean((p - y) ** 2),
        lambda p, y: pb.sum(pb.square(y - p)) / 3.0,
    ],
    ids=["mse", "mae", "by hand", "turned"],
)
def test_targets_out_of_reach(name, loss):
    activation, target = REACH[name]
    y = np.full((8, 4), 0.5)

    def f(w, x, y):
        return loss(activation(x @ w), y)

    assert "OBJ03" not in found(f, W, X, y).ids
    y[3, 2] = target
    assert not found(f, W, X, y).errors  # an outlier is a note
    y[3] = target
    finding = found(f, W, X, y).errors[0]
    assert finding.id == "OBJ03"
    assert finding.numbers["share"] == 1 / 8


def test_the_activation_is_named_where_a_layer_was_given_it():
    parts = [nn.Linear(3, 4, key=pb.random.key(0)), nn.tanh]
    parts += [nn.Linear(4, 1, key=pb.random.key(1)), nn.tanh]
    model = nn.Sequential(parts)
    finding = found(lambda m, x, y: nn.mse(m(x), y), model, X, np.full((8, 1), 2.0)).errors[0]
    assert (finding.id, finding.module) == ("OBJ03", "layers[3]")
    assert finding.frame.source.startswith("parts += [")
    assert [x.function for x in finding.site.frames].count("<lambda>") == 1


def test_a_scaled_activation_is_named_where_it_is_called():
    def f(w, x, y):
        h = nn.sigmoid(x @ w)
        h = 2 * h - 1
        return nn.mse(h, y)

    finding = found(f, W, X, np.full((8, 4), 2.0)).errors[0]
    assert (finding.id, finding.frame.source) == ("OBJ03", "h = nn.sigmoid(x @ w)")


def test_an_accidental_broadcast():
    def f(w, x, y):
        return pb.mean((x @ w - y) ** 2)

    finding = found(f, W[:, :1], X, REAL).errors[0]
    assert finding.id == "OBJ07"
    assert finding.what == "float64[8,1] and float64[8] are broadcast to float64[8,8]"
    assert finding.frame.expression == "x @ w - y"


@pytest.mark.parametrize(
    "f",
    [
        lambda w, x, y: pb.mean(((x @ w)[:, 0] - y) ** 2),
        lambda w, x, y: pb.mean((x @ w - y[:, None]) ** 2),
        lambda w, x, y: pb.mean(((x @ w)[:, 0][:, None] - y) ** 2),
        lambda w, x, y: pb.mean((x @ w + pb.asarray(np.ones(8))) ** 2),
        lambda w, x, y: pb.mean((x @ w - pb.mean(y)) ** 2),
    ],
    ids=["squeezed", "spread", "on purpose", "no target", "a mean"],
)
def test_a_broadcast_on_purpose(f):
    assert "OBJ07" not in found(f, W[:, :1], X, REAL).ids


# ---- declared intent ------------------------------------------------------------------------


def test_intent_is_declared_on_the_line_or_in_the_call():
    def f(w, x, y):
        return pb.mean((x @ w - y) ** 2)  # intended: OBJ07 all pairs

    report = found(f, W[:, :1], X, REAL)
    assert not report.findings
    assert [x.id for x in report.declared] == ["OBJ07"]
    assert report.exit_code == 0
    assert "meant OBJ07" in str(report)
    assert report.to_sarif()["runs"][0]["results"][0]["suppressions"]

    def g(w, x, y):
        return pb.mean((x @ w - y) ** 2)

    assert found(g, W[:, :1], X, REAL).errors
    assert not found(g, W[:, :1], X, REAL, intended=("OBJ07",)).errors
    with pytest.raises(ArgumentError, match="no rule has the id"):
        found(g, W[:, :1], X, REAL, intended=("OBJ77",))
    with pytest.raises(ArgumentError, match="no rule of hazards"):
        found(g, W[:, :1], X, REAL, intended=("NUM01",))


# ---- peace ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", layers.SAMPLES, ids=lambda x: x.name)
def test_every_layer_is_left_in_peace(sample):
    layer = sample.make(pb.random.key(0), np.dtype(np.float32))
    x = np.asarray(sample.x)
    x = x.astype(np.float32) if x.dtype.kind == "f" else x

    def loss(layer, x):
        out = sample.call(layer, x)
        parts = pb.inspect.tape.flatten(out)[0]
        return sum(pb.mean(1.0 * p) for p in parts if p.dtype == np.float32)

    report = hazards(loss, layer, x)
    assert not report.findings, str(report)


LOSSES = {
    "cross_entropy": lambda p, y, z: nn.cross_entropy(p, y),
    "smoothed": lambda p, y, z: nn.cross_entropy(p, y, label_smoothing=0.1, ignore_index=2),
    "soft": lambda p, y, z: nn.cross_entropy(p, pb.softmax(z)),
    "bce": lambda p, y, z: nn.binary_cross_entropy_with_logits(p, pb.sigmoid(z)),
    "focal": lambda p, y, z: nn.focal(p, pb.sigmoid(z)),
    "kl": lambda p, y, z: nn.kl_divergence(p, pb.softmax(z)),
    "mse": lambda p, y, z: nn.mse(p, z),
    "mae": lambda p, y, z: nn.mae(p, z),
    "huber": lambda p, y, z: nn.huber(p, z),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_loss_is_left_in_peace(name, dtype):
    z = rng.normal(size=(8, 4)).astype(np.float32)

    def f(w, x, y):
        return LOSSES[name]((x @ w).astype(dtype), y, pb.asarray(z).astype(dtype))

    report = found(f, W.astype(np.float32), X.astype(np.float32), LABELS)
    assert not report.alarms, str(report)


@pytest.mark.parametrize(
    "activation",
    [nn.relu, nn.gelu, nn.silu, nn.elu, nn.selu, nn.mish, nn.softplus, nn.leaky_relu, nn.tanh],
)
def test_every_activation_is_left_in_peace(activation):
    assert not found(lambda w, x, y: pb.mean(activation(x @ w) ** 2)).findings


def test_a_small_transformer_is_left_in_peace():
    block = nn.TransformerBlock(8, 2, key=pb.random.key(1))
    tokens = rng.normal(size=(2, 5, 8)).astype(np.float32)
    labels = rng.integers(0, 8, (2, 5))

    def loss(block, x, y):
        return nn.cross_entropy(block(x), y)

    report = hazards(loss, block, tokens, labels)
    assert not report.findings, str(report)


def test_the_forms_of_the_report():
    report = found(root_of_squares)
    json.dumps(report.to_dict())
    json.dumps(report.to_sarif())
    assert max(map(len, str(report).splitlines())) <= 80
    assert hazards(pb.compile(root_of_squares), W, X, LABELS).ids == report.ids


# ---- inside loops and branches --------------------------------------------------------------


ZERO = np.zeros(())


def rooted(w, x):
    """The hazard: √ of a relu, whose slope is infinite at 0."""
    return pb.sqrt(nn.relu(x @ w))


def in_a_scan(w, x, y):
    return pb.sum(pb.scan(lambda h, row: (h + pb.sum(rooted(w, row)), h), ZERO, x)[0])


def in_a_branch(w, x, y):
    return pb.cond(pb.sum(x * x) > 0, lambda w: pb.sum(rooted(w, x)), pb.sum, pb.asarray(w))


def in_a_while(w, x, y):
    def body(state):
        i, total = state
        return i + 1, total + pb.sum(rooted(w, x))

    return pb.while_loop(
        lambda s: s[0] < 3, body, (pb.asarray(0), pb.asarray(0.0, dtype=pb.float64)), max_steps=4
    )[1]


def in_a_loop_of_a_checkpoint(w, x, y):
    def inner(w):
        return pb.scan(lambda h, row: (h + pb.sum(rooted(w, row)), None), ZERO, x)[0]

    return pb.checkpoint(inner)(pb.asarray(w))


@pytest.mark.parametrize(
    "f", [in_a_scan, in_a_branch, in_a_while, in_a_loop_of_a_checkpoint], ids=lambda f: f.__name__
)
def test_inside_loops_and_branches(f):
    compiled = found(pb.compile(f))
    for report in (found(f), compiled):
        named = [x for x in report.findings if x.id == "NUM04" and x.severity is Severity.WARN]
        assert [x.frame.function for x in named] == ["rooted"], str(report)


def test_a_guard_outside_a_loop_is_seen_inside():
    def f(w, x, y):
        scale = 1.0 + w * w
        return pb.sum(pb.scan(lambda h, row: (h + pb.sum(pb.log(scale)), h), ZERO, x)[0])

    assert not found(f).findings

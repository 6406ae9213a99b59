"""`explain`: why a gradient is missing, zero, small or large."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import pullback as pb
from pullback.errors import ArgumentError, ShapeError
from pullback.ir.samples import normal

F32 = np.float32
rng = np.random.default_rng(1)


def f32(*shape):
    return rng.normal(size=shape).astype(F32)


def only(explanation):
    assert explanation.findings, str(explanation)
    return explanation.findings[0]


# ---- missing --------------------------------------------------------------------------------

W, X = f32(4, 3), f32(5, 4)
CUTS = {
    "stop_gradient": (lambda w, x: pb.sum(pb.stop_gradient(x @ w)), "stop_gradient"),
    "integer cast": (lambda w, x: pb.sum((x @ w).astype("int32").astype("float32")), "cast"),
    "comparison": (lambda w, x: pb.sum(pb.where(x @ w > 0, 1.0, 2.0)), "less"),
    "argmax": (lambda w, x: pb.sum(pb.take(X[:, 0], pb.argmax(x @ w, axis=1))), "argmax"),
    "round": (lambda w, x: pb.mean(pb.round(x @ w)), "round"),
    "floor": (lambda w, x: pb.mean(pb.floor(x @ w)), "floor"),
    "sign": (lambda w, x: pb.mean(pb.sign(x @ w)), "sign"),
    "accuracy": (lambda w, x: pb.mean((pb.argmax(x @ w, axis=1) == 0).astype("float32")), "argmax"),
    "indices of a sort": (lambda w, x: pb.sum(pb.argsort(w[:, 0]).astype("float32")), "sort"),
    "floor division": (lambda w, x: pb.sum((x @ w) // 2.0), "floor_divide"),
}


@pytest.mark.parametrize("name", CUTS)
def test_a_cut_names_operation_and_line(name):
    f, op = CUTS[name]
    finding = only(pb.explain(f, W, X, wrt="w"))
    assert finding.id == "CUT01"
    assert finding.what == f"w gets no gradient: cut by {op}"
    assert finding.file.endswith("test_explain.py")
    assert name in finding.frame.source
    assert pb.explain(f, W, X)["w"].status == "missing"


def test_a_detour_through_numpy():
    def f(w, x):
        scale = np.linalg.norm(w.numpy())
        return pb.sum(x * scale)

    finding = only(pb.explain(f, W, X))
    assert finding.id == "CUT01"
    assert "detour" in finding.what
    assert finding.frame.source == "scale = np.linalg.norm(w.numpy())"


def test_a_detour_through_an_array_and_through_a_number():
    def f(p, x):
        mask = (p["a"].numpy() * 3.0).astype(F32)
        factor = float(pb.sum(p["b"]))
        return pb.sum(x * mask) * factor

    explained = pb.explain(f, {"a": f32(4), "b": f32(3)}, X)
    assert [x.numbers["cuts"] for x in explained.findings] == [["numpy"], ["numpy"]]
    assert explained.findings[0].frame.source.startswith("mask = ")


def test_never_used():
    def f(p, x):
        thrown_away = pb.exp(p["late"])
        assert thrown_away.shape == (2,)
        return pb.sum(x @ p["w"])

    explained = pb.explain(f, {"w": W, "unused": f32(2), "late": f32(2)}, X)
    told = {x.numbers["parameter"]: x for x in explained.findings}
    assert told.keys() == {"p['unused']", "p['late']"}
    assert told["p['unused']"].line is None
    assert told["p['late']"].frame.expression == 'pb.exp(p["late"])'


def test_two_cuts_in_series_are_both_listed():
    def f(w, x):
        hidden = pb.stop_gradient(x @ w)
        codes = pb.round(hidden)
        return pb.sum(codes * codes)

    finding = only(pb.explain(f, W, X))
    assert finding.numbers["cuts"] == ["stop_gradient", "round"]
    assert finding.frame.expression == "pb.stop_gradient(x @ w)"
    assert "cut again behind it: round" in finding.notes[0]


def test_two_cuts_side_by_side_are_both_listed():
    def f(w, x):
        return pb.sum(pb.floor(x @ w)) + pb.sum(pb.ceil(x @ w))

    finding = only(pb.explain(f, W, X))
    assert finding.numbers["cuts"] == ["floor", "ceil"]
    assert "cut beside it: ceil" in finding.notes[0]


def test_the_cut_inside_a_softmax_is_none():
    def f(w, x):
        return pb.sum(pb.round(pb.softmax(x @ w)))

    assert only(pb.explain(f, W, X)).numbers["cuts"] == ["round"]


def test_a_rule_that_takes_an_operand_as_a_constant():
    def f(w, x):
        return pb.sum(pb.straight_through(pb.sum(x @ w), pb.asarray(1.0)))

    finding = only(pb.explain(f, W, X))
    assert finding.what == "w gets no gradient: straight_through has none for it"


def test_one_open_way_is_enough():
    def f(w, x):
        return pb.sum(pb.stop_gradient(x @ w)) + pb.sum(x @ w)

    explained = pb.explain(f, W, X)
    assert not explained.findings
    assert explained["w"].status == "flows"


def test_frozen_and_declared_parameters_are_left_in_peace():
    model = pb.nn.MLP(4, 3, 5, 1, key=pb.random.key(0))

    def f(m, x):
        return pb.sum(m.layers[1](pb.stop_gradient(m.layers[0](x))))  # intended: CUT01 probing

    explained = pb.explain(f, model, X)
    assert not explained.findings
    assert len(explained.declared) == 2
    assert "meant CUT01" in str(explained)

    def told(m, x):
        hidden = pb.stop_gradient(m.layers[0](x), why="a probe of fixed features")
        return pb.sum(m.layers[1](hidden))

    explained = pb.explain(told, model, X)
    assert not explained.findings
    assert explained.declared[0].declared == "a probe of fixed features"
    assert pb.explain(pb.compile(told), model, X)["layers[0].weight"].status == "missing"
    assert float(pb.compile(told)(model, X)) == pytest.approx(float(told(model, X)), rel=1e-5)

    def g(m, x):
        return pb.sum(m.layers[1](pb.stop_gradient(m.layers[0](x))))

    assert len(pb.explain(g, model, X).findings) == 2
    explained = pb.explain(g, pb.nn.freeze(model, "layers[0]"), X)
    assert not explained.findings
    assert explained["layers[0].weight"].status == "frozen"


# ---- zero -----------------------------------------------------------------------------------


def dead_relu(w, x):
    return pb.sum(pb.relu(x @ w - 100.0))


def masked(w, x):
    return pb.sum(pb.where(x[:, :3] > 1e9, x[:, :3], 0.0) * 1.0 + 0.0 * 1.0) + pb.sum(
        pb.where(pb.asarray(np.zeros((5, 3), bool)), x @ w, 0.0)
    )


def one_softmax(w, x):
    return pb.sum(pb.softmax(x @ w[:, :1], axis=-1) ** 2)


def saturated(w, x):
    return pb.sum(pb.tanh(x @ w + 1000.0))


def saturated_sigmoid(w, x):
    return pb.sum(pb.sigmoid(x @ w + 1000.0))


def zero_head(w, x):
    return pb.sum((x @ w) @ pb.zeros((3, 2))) + 1.0


def clipped(w, x):
    return pb.sum(pb.minimum(x @ w, -1e6))


def underflowing(w, x):
    return pb.sum((x @ w) * F32(1e-30) * F32(1e-30))


def cancelling(w, x):
    hidden = x @ w
    return pb.sum(hidden) - pb.sum(hidden)


def beaten(w, x):
    return pb.max(pb.concat([pb.reshape(x @ w, (-1,)), pb.asarray(np.full(2, 1e6, F32))]))


ZEROS = [
    (dead_relu, "relu", "dead: all 15 inputs", "nn.gelu"),
    (masked, "select", "the mask never chooses", "how often the mask is true"),
    (one_softmax, "softmax", "over an axis of length 1 a softmax is 1", "nn.sigmoid"),
    (saturated, "tanh", "saturated", "smaller inputs"),
    (saturated_sigmoid, "sigmoid", "saturated", "smaller inputs"),
    (zero_head, "contract", "weights that start at 0", "random numbers"),
    (clipped, "minimum", "the other operand wins", "a penalty in the loss"),
    (underflowing, "multiply", "underflow", "the logarithm"),
    (cancelling, "sum", "cancel", "per cause"),
    (beaten, "max", "nothing back to any of the 15 elements", "pb.logsumexp"),
]


@pytest.mark.parametrize(("f", "op", "reason", "fix"), ZEROS, ids=[f.__name__ for f, *_ in ZEROS])
def test_where_a_gradient_dies(f, op, reason, fix):
    explained = pb.explain(f, W, X, wrt="w")
    assert explained["w"].status == "zero"
    finding = only(explained)
    assert finding.id == "CUT04"
    assert op in finding.numbers["operations"], finding.numbers
    assert fix in finding.fix
    assert reason in finding.why or any(reason in note for note in finding.notes)
    assert finding.frame.function == f.__name__


def test_the_first_death_from_the_loss_on_is_told():
    def f(w, x):
        hidden = pb.relu(x @ w - 100.0)
        return pb.sum(pb.relu(hidden + 1.0))

    finding = only(pb.explain(f, W, X))
    assert finding.frame.source == "hidden = pb.relu(x @ w - 100.0)"


# ---- the dominant path ----------------------------------------------------------------------


def deep(depth, activation, width=32, gain=1.0, residual=None, seed=0):
    """A loss of `depth` layers with weights of variance gain²/width."""
    draw = np.random.default_rng(seed)
    weights = [(draw.normal(size=(width, width)) * gain / math.sqrt(width)) for _ in range(depth)]

    def loss(ws, x):
        for w in ws:
            branch = activation(x @ w)
            x = branch if residual is None else x + residual * branch
        return pb.mean(x * x)

    return loss, weights, draw.normal(size=(64, width))


@pytest.mark.parametrize("name", ["layers", "dict"])
def test_the_product_of_the_factors_is_the_norm(name):
    loss, ws, x = deep(6, pb.tanh)
    explained = pb.explain(loss, ws, x)
    for account, slope in zip(explained.accounts, pb.grad(loss)(ws, x), strict=True):
        expected = np.linalg.norm(slope.numpy())
        assert math.prod(step.factor for step in account.path) == pytest.approx(expected, rel=1e-6)
        assert account.norm == pytest.approx(expected, rel=1e-12)


def test_along_a_chain_the_gains_alone_multiply_to_it():
    loss, ws, x = deep(8, pb.tanh)
    path = pb.explain(loss, ws, x, wrt="[0]").accounts[0].path
    chain = [step for step in path if not step.shares]
    assert all(step.merge == pytest.approx(1.0, rel=1e-12) for step in chain)


def gains(account, op):
    return [step.gain for step in account.path if step.node.op.name == op]


def test_twenty_sigmoid_layers_lose_a_factor_of_four_each():
    """σ′ ≤ ¼, and near ¼ where the inputs are small: 20 layers cost at least 4^20."""
    loss, ws, x = deep(20, pb.nn.sigmoid)
    account = pb.explain(loss, ws, x, wrt="[0]").accounts[0]
    slopes = gains(account, "sigmoid")
    assert len(slopes) == 20
    assert max(slopes) <= 0.25
    assert min(slopes) > 0.15
    assert math.prod(slopes) <= 0.25**20
    assert "sigmoid" in str(account)


def test_twenty_tanh_layers_at_the_edge_of_chaos_keep_most():
    """tanh′ ≤ 1, and nearly 1 for small inputs; an orthogonal layer keeps the norm."""
    draw = np.random.default_rng(3)
    ws = [np.linalg.qr(draw.normal(size=(32, 32)))[0] for _ in range(20)]

    def loss(ws, x):
        for w in ws:
            x = pb.tanh(x @ w)
        return pb.mean(x * x)

    account = pb.explain(loss, ws, 0.1 * draw.normal(size=(64, 32)), wrt="[0]").accounts[0]
    assert len(gains(account, "tanh")) == 20
    assert all(0.97 < g <= 1.0 for g in gains(account, "tanh"))
    assert gains(account, "contract")[:-1] == pytest.approx([1.0] * 19, rel=1e-6)


def test_twenty_relu_layers_with_he_weights_have_gains_near_one():
    """Half of the units pass: ‖ȳ ⊙ mask‖/‖ȳ‖ ≈ √½, and √2 comes back from the weights."""
    loss, ws, x = deep(20, pb.nn.relu, width=128, gain=math.sqrt(2))
    account = pb.explain(loss, ws, x, wrt="[0]").accounts[0]
    passed = gains(account, "relu")
    back = gains(account, "contract")[:-1]
    assert len(passed) == 20
    assert np.mean(passed) == pytest.approx(math.sqrt(0.5), rel=0.15)
    assert np.mean(back) == pytest.approx(math.sqrt(2), rel=0.15)
    total = math.prod(passed[1:]) * math.prod(back)
    assert total ** (1 / 19) == pytest.approx(1.0, abs=0.12)


def test_residual_blocks_send_the_gradient_through_the_identity():
    loss, ws, x = deep(20, pb.tanh, residual=0.1)
    account = pb.explain(loss, ws, x, wrt="[0]").accounts[0]
    merges = [step for step in account.path if step.shares and len(step.shares) == 2]
    identity = [max(x.share for x in step.shares) for step in merges if step.node.op.name == "add"]
    assert len(identity) >= 18
    assert min(identity) > 0.85
    for step in account.path:
        assert not step.shares or sum(x.share for x in step.shares) == pytest.approx(1.0)
    assert 0.5 < math.prod(step.factor for step in merges) < 4.0


def test_a_large_gradient_names_the_layers_that_make_it():
    loss, ws, x = deep(10, lambda h: h, gain=4.0)
    account = pb.explain(loss, ws, x, wrt="[0]").accounts[0]
    assert all(g > 2 for g in gains(account, "contract"))
    assert account.norm > 1e6
    assert max(factor for _, factor, _ in account.layers()) > 2


def test_the_operation_that_makes_a_gradient_large_is_named_with_a_remedy():
    def loss(w, x):
        return pb.mean(pb.exp(10.0 + x @ w) * 1e-3)

    text = str(pb.explain(loss, W, X))
    assert "grows most in exp, x " in text
    assert "fix: subtract the largest exponent first" in text
    assert max(map(len, text.splitlines())) <= 80


def test_contributions_that_cancel_up_to_rounding():
    def loss(w, x):
        return pb.mean(pb.softmax(x @ w, axis=-1))  # always 1/3

    explained = pb.explain(loss, W, X)
    assert 0 < explained["w"].norm < 1e-7
    assert "nothing but rounding is left: the contributions of 2 uses" in str(explained)


# ---- asking ---------------------------------------------------------------------------------


def test_paths_of_a_model_and_the_text():
    model = pb.nn.MLP(4, 3, 5, 2, key=pb.random.key(0))

    def loss(model, x):
        return pb.mean(model(x) ** 2)

    explained = pb.explain(loss, model, X, wrt="layers[2].weight")
    assert explained.accounts[0].name == "model.layers[2].weight"
    text = str(explained)
    assert max(map(len, text.splitlines())) <= 80
    assert "layers[2]" in text
    assert "1 of 1 gradients flow" in text
    json.dumps(explained.to_dict())
    assert "<div" in explained._repr_html_()
    assert "gradient of" in str(pb.explain(loss, model, X))
    with pytest.raises(ArgumentError, match="no parameter is called 'nothing'"):
        pb.explain(loss, model, X, wrt="nothing")
    with pytest.raises(ArgumentError, match="is the end of 3 paths"):
        pb.explain(loss, model, X, wrt="weight")


def test_a_compiled_loss():
    assert pb.explain(pb.compile(dead_relu), W, X)["w"].status == "zero"


def test_not_finite():
    report = pb.explain(lambda w: pb.sum(pb.sqrt(w)), np.zeros(2))
    assert report["w"].status == "not finite"
    assert [x.id for x in report.findings] == ["NUM02"]
    assert report.findings[0].what == "the derivative of √(0) is inf in element 0"


def test_a_loss_that_is_not_finite_is_explained_by_its_birth():
    def loss(w, x):
        return -pb.mean(pb.log(pb.softmax(x @ w)[:, 0]))

    report = pb.explain(loss, np.diag([0.0, 900.0, 0.0]), np.eye(3))
    assert report.findings[0].id == "NUM01"
    assert "its logit is 900 below the largest" in report.findings[0].why


def test_bad_questions():
    with pytest.raises(ShapeError, match="needs one scalar loss"):
        pb.explain(lambda w: w * 2.0, W)
    with pytest.raises(ArgumentError, match="no floating array"):
        pb.explain(lambda n: pb.sum(n) * 1.0, np.arange(3))
    assert normal(2).shape == (2,)


def test_a_mask_of_zeros_is_told_where_it_is_made():
    def f(w, x):
        mask = (x[:, :1] > 100.0).astype("float32")
        return pb.sum((x @ w) * mask)

    finding = only(pb.explain(f, W, X, wrt="w"))
    assert [x.source[:6] for x in finding.site.frames][:2] == ["return", "mask ="]

"""What is seen agrees with theory: shares, path lengths, Jacobians, moments; figures show it."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest

import pullback as pb
from pullback import nn
from pullback.bench.models import GPT, ResNet
from pullback.errors import ArgumentError, ShapeError
from pullback.inspect.seeing.figures import Curves, Dots, HeatMap, Series, Shares
from pullback.inspect.seeing.views import View, page_of

RNG = np.random.default_rng(0)
DEPTH, WIDTH = 20, 64
X = RNG.standard_normal((16, WIDTH))
R = RNG.standard_normal((16, WIDTH))


def stack(weights, x, activation, scale=0.0):
    """A plain net, with a scale a residual one; the loss is a random projection of its output."""
    for w in weights:
        h = activation(x @ w)
        x = x + scale * h if scale else h
    return pb.sum(x * R[: x.shape[0], : x.shape[1]])


def weights(gain, width=WIDTH, depth=DEPTH, seed=0):
    rng = np.random.default_rng(seed)
    return [gain * rng.standard_normal((width, width)) / math.sqrt(width) for _ in range(depth)]


# ---- twenty layers and theory ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "gain", "low", "high"),
    [
        pytest.param(nn.sigmoid, 1.0, 0.0, 0.25, id="sigmoid"),
        pytest.param(nn.tanh, 1.0, 0.6, 1.0, id="tanh"),
        pytest.param(nn.relu, math.sqrt(2), 0.6, 0.85, id="relu"),
    ],
)
def test_the_slopes_of_twenty_layers(activation, gain, low, high):
    """σ′ ≤ 1/4; of tanh with LeCun's weights 0.68 (E[z²] = 1) and more; of relu about √½."""
    ws = weights(gain)
    account = pb.explain(lambda ws, x: stack(ws, x, activation), ws, X, wrt="[0]").accounts[0]
    slopes = [x.gain for x in account.path if x.node.op.name == activation.__name__]
    assert len(slopes) == DEPTH
    assert all(low <= x <= high for x in slopes)
    assert np.prod([x.factor for x in account.path]) == pytest.approx(account.norm, rel=1e-6)
    jacobians = pb.inspect.layer_jacobians(lambda ws, x: stack(ws, x, activation), ws, X).layers
    assert len(jacobians) == DEPTH
    if activation is nn.sigmoid:
        assert all(x.rms <= 0.26 and x.largest <= 0.5 for x in jacobians[:-1])
    else:
        assert all(0.6 <= x.rms <= 1.25 for x in jacobians[:-1])


def test_the_identity_carries_a_residual_net():
    """Of x + s·tanh(Wx) the branch brings s²·E[φ′²] beside 1, so the identity 1/(1 + s²·E[φ′²])."""
    scale = 0.3
    seen = pb.inspect.path_shares(lambda ws, x: stack(ws, x, nn.tanh, scale), weights(1.0), X)
    residual = seen.residual
    assert len(residual) == DEPTH - 1  # nothing asks for the gradient of the data
    for merge in residual:
        identity, branch = merge.ways
        assert identity.is_identity
        assert identity.share + branch.share == pytest.approx(1, abs=1e-12)
        assert 1 / (1 + scale**2) - 0.03 < identity.share < 1.0
    jacobians = pb.inspect.layer_jacobians(
        lambda ws, x: stack(ws, x, nn.tanh, scale), weights(1.0), X
    )
    assert all(0.95 < x.rms < 1.1 for x in jacobians.layers)


def test_finite_width_explains_what_theory_misses():
    """Over networks log(measured/predicted) spreads as √(d/n): four times the width, half of it."""
    deviations = {}
    for width in (16, 64):
        found, spreads = [], []
        for seed in range(12):
            x = np.random.default_rng(seed).standard_normal((8, width))
            ws = weights(math.sqrt(2), width, 12, seed)
            signals = pb.inspect.signal_propagation(
                lambda ws, x: stack(ws, x, nn.relu), ws, x
            ).signals
            found.append(math.log(signals[-1].forward / signals[-1].forward_predicted))
            spreads.append(signals[-1].spread)
        deviations[width] = float(np.std(found))
        assert abs(np.mean(found)) < spreads[0]
        assert all(abs(x) < 2 * s for x, s in zip(found, spreads, strict=True))
    assert 1.3 < deviations[16] / deviations[64] < 3.5


# ---- shares and lengths ---------------------------------------------------------------------


def test_a_branch_that_starts_at_zero_carries_nothing():
    ws = [np.eye(4), np.zeros((4, 4))]

    def loss(ws, x):
        x = x @ ws[0]
        return pb.sum((x + pb.tanh(x @ ws[1])) ** 2)

    (merge,) = pb.inspect.path_shares(loss, ws, np.ones((2, 4))).merges
    assert [(way.name, way.share) for way in merge.ways] == [("identity", 1.0), ("[1]", 0.0)]


def test_query_key_and_value():
    def attend(p, x):
        h = x @ p["in"]
        q, k, v = h @ p["q"], h @ p["k"], h @ p["v"]
        return pb.sum((h + pb.softmax(q @ k.T) @ v) ** 3)

    p = {name: RNG.standard_normal((6, 6)) / 3 for name in ("in", "q", "k", "v")}
    seen = pb.inspect.path_shares(attend, p, RNG.standard_normal((5, 6)))
    (merge,) = seen.merges
    assert [way.name for way in merge.ways] == ["identity", "['q']", "['k']", "['v']"]
    assert sum(way.share for way in merge.ways) == pytest.approx(1, abs=1e-12)
    assert all(-1 <= way.cosine <= 1 for way in merge.ways)


def test_two_losses_that_pull_apart():
    def loss(w, x):
        return pb.mean((x @ w) ** 2) - 0.5 * pb.mean((x @ w) ** 2) + 1e-3 * pb.sum(w)

    seen = pb.inspect.term_cosines(loss, np.ones(4), RNG.standard_normal((8, 4)))
    assert seen.cosines[0, 1] == -1
    assert seen.norms[1] == pytest.approx(seen.norms[0] / 2)


def test_path_lengths_of_linear_blocks_are_binomial():
    """Of L blocks x + c·x the part through k branches is C(L, k)·cᵏ of the part through none."""
    c, count = 0.5, 6

    def loss(ws, x):
        x = x @ ws[0]
        for w in ws[1:]:
            x = x + x @ w
        return pb.sum(x * R[:2, :3])

    ws = [np.eye(3), *[c * np.eye(3) for _ in range(count)]]
    seen = pb.inspect.gradient_by_length(loss, ws, X[:2, :3])
    expected = [math.comb(count, k) * c**k for k in range(count + 1)]
    assert np.array(seen.norms) / seen.norms[0] == pytest.approx(expected)
    assert sum(seen.parts) == pytest.approx(seen.gradient, abs=1e-10)
    short = pb.inspect.gradient_by_length(loss, ws, X[:2, :3], longest=2)
    assert np.array(short.norms) / short.norms[0] == pytest.approx(expected[:3])


@pytest.mark.parametrize(
    "model",
    [GPT(2, 16, 2, 8, 20, batch=3), ResNet(1, (4, 8, 8), side=8, batch=4)],
    ids=["GPT", "ResNet"],
)
def test_shares_and_lengths_of_networks(model):
    """In float64 all parts add up to the gradient that reverse mode computes."""
    rng = np.random.default_rng(0)
    args = (model.parameters(rng), *model.examples(rng))
    seen = pb.inspect.path_shares(model.loss, *args)
    assert len(seen.residual) >= 2
    for merge in seen.merges:
        assert sum(way.share for way in merge.ways) == pytest.approx(1, abs=1e-10)
    lengths = pb.inspect.gradient_by_length(model.loss, *args)
    assert len(lengths.parts) == len(seen.residual) + 1
    size = np.abs(lengths.gradient).max()
    assert sum(lengths.parts) == pytest.approx(lengths.gradient, abs=1e-10 * size)
    assert sum(lengths.shares) == pytest.approx(1, abs=1e-10)


# ---- Jacobians ------------------------------------------------------------------------------


def test_the_jacobian_of_a_linear_layer_is_its_weight():
    w = RNG.standard_normal((12, 9))

    def loss(w, x):
        return pb.sum((x @ w) ** 2)

    (seen,) = pb.inspect.layer_jacobians(loss, w, RNG.standard_normal((5, 12))).layers
    exact = np.linalg.svd(w, compute_uv=False)
    assert seen.largest == pytest.approx(exact[0], rel=1e-2)
    assert seen.smallest == pytest.approx(exact[-1], rel=1e-2)
    assert seen.mean_square == pytest.approx((exact**2).sum() / 12, rel=0.35)  # 8 probes
    (single,) = pb.inspect.layer_jacobians(
        loss, np.linalg.qr(RNG.standard_normal((40, 40)))[0], np.eye(40)
    ).layers
    assert (single.largest, single.smallest) == pytest.approx((1, 1), rel=1e-6)
    assert single.rms == pytest.approx(1, rel=1e-6)


# ---- what a training looked like ------------------------------------------------------------


def test_a_run_that_diverges_is_seen():
    optimizer = pb.optim.sgd(1e3)
    step = pb.train.train_step(
        lambda w, x: pb.mean((x @ w["a"]) ** 4) + pb.sum(w["b"] ** 2), optimizer
    )
    model = {"a": pb.ones((4,)), "b": pb.zeros((2,))}
    state, metrics = pb.train.TrainState.create(model, optimizer), []
    for _ in range(12):
        state, each = step(state, pb.ones((3, 4)))
        metrics.append(each)
    seen = pb.inspect.gradient_map(metrics)
    assert not np.isfinite(seen.norms).all()
    rows = str(seen).splitlines()
    assert "!" in rows[2]
    assert set(rows[3].split("|")[1]) == {"0"}
    counts = pb.inspect.gradient_histograms(metrics).counts
    assert counts.sum(axis=1).tolist() == [12, 12]
    assert counts[0, -1] == np.count_nonzero(~np.isfinite(seen.norms[0]))
    assert "how far a step moves" in str(pb.inspect.update_band(metrics))


# ---- figures --------------------------------------------------------------------------------


class Example(View):
    @property
    def figures(self):
        table = np.array([[1.0, 1e-3, math.nan], [0.0, math.inf, 1e-6]])
        long = "blocks[10].attention.projection.weight"
        return (
            HeatMap("gradients", ("w", long), ("0", "1", "2"), table, "L2 norm", ("layer", "step")),
            Dots(
                "moments",
                ("w", long),
                (Series("theory", "o", (1.0, 2.0), True), Series("probe", "x", (0.5, math.nan))),
                "E[z^2]",
                band=(0.7, 1.5),
            ),
            Shares(
                "ways",
                ("w", long),
                ((("identity", 0.7), (long, 0.3)), (("a", 1.5), ("b", -0.5))),
                "share",
            ),
            Curves(
                "loss",
                (1, 10, 20, 30),
                (Series("of the batch", "o", (2.5, 1.0, math.nan, 0.02)),),
                (("constant", 2.3),),
                ((20, "NUM01"),),
                "loss",
            ),
        )


def test_figures_as_text(golden):
    text, plain = Example().text(), Example().text(ascii_only=True)
    assert plain.isascii()
    assert max(map(len, [*text.splitlines(), *plain.splitlines()])) <= 80
    golden("reports/seen", f"{text}\n\n{plain}")


def test_figures_as_a_page():
    page = page_of([Example()], "what was seen")
    assert page.count("url(#hatch)") == 4  # NaN, ∞, the missing dot, the loss that is NaN
    for outside in ("src=", "href=", "@import", "<script src", "http://", "https://"):
        assert outside not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    numbers = page.split('id="numbers">')[1].split("</script>")[0]
    assert json.loads(numbers)[0]["figures"][0]["values"][0][2] == "nan"
    assert Example()._repr_html_().count("<svg") == 4


def test_figures_as_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    Example().to_png(tmp_path / "seen.png")
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")


def test_a_terminal_without_shades(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", out)
    Example().show()
    out.flush()
    assert out.buffer.getvalue().startswith(b"gradients")


# ---- refusals -------------------------------------------------------------------------------


def test_refusals():
    for ask in (pb.inspect.path_shares, pb.inspect.layer_jacobians, pb.inspect.signal_propagation):
        with pytest.raises(ArgumentError, match="no parameters"):
            ask(lambda model, x: pb.mean(x), {}, X)
    with pytest.raises(ShapeError, match="one scalar loss"):
        pb.inspect.path_shares(lambda w, x: x @ w, np.eye(WIDTH), X)
    with pytest.raises(ArgumentError, match="no residual block"):
        pb.inspect.gradient_by_length(lambda w, x: pb.mean(x @ w), np.eye(WIDTH), X)
    with pytest.raises(ArgumentError, match="no step"):
        pb.inspect.gradient_map([])


# ---- without backpropagation ----------------------------------------------------------------


def quadratic(model, x):
    return pb.mean((x @ model["w"] + model["b"]) ** 2)


SMALL = {"w": RNG.standard_normal((6, 5)), "b": RNG.standard_normal(5)}


def test_zero_order_estimates_and_their_cost():
    seen = pb.inspect.gradient_estimators(quadratic, SMALL, X[:, :6], pairs=(70, 700))
    first, differences, few, many = seen.estimates
    assert [x.evaluations for x in seen.estimates] == [1, 70, 140, 1400]
    assert seen.error(1) < 1e-8
    assert differences.gradient[1].shape == first.gradient[1].shape
    for i, pairs in ((2, 70), (3, 700)):
        ratio = 36 / pairs  # (P + 1) / N
        assert seen.cosine(i) == pytest.approx(1 / math.sqrt(1 + ratio), abs=0.15)
        assert seen.error(i) == pytest.approx(math.sqrt(ratio), rel=0.4)
    assert "evolution, 700 pairs" in str(seen)
    assert few.seconds < many.seconds


def test_zero_order_refusals():
    with pytest.raises(ArgumentError, match="70 evaluations of the loss for 35 parameters"):
        pb.inspect.finite_differences(quadratic, SMALL, X[:, :6], bound=69)
    with pytest.raises(ArgumentError, match="pairs"):
        pb.inspect.evolution_strategy(quadratic, SMALL, X[:, :6], pairs=0)
    with pytest.raises(ArgumentError, match="sigma"):
        pb.inspect.evolution_strategy(quadratic, SMALL, X[:, :6], sigma=-1.0)
    with pytest.raises(ArgumentError, match="no parameters"):
        pb.inspect.gradient_estimators(quadratic, {}, X)

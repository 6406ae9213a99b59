"""Half precision: float32 masters, a loss that is scaled, steps that overflow and are skipped."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.ir.samples import normal
from pullback.train import LossScale, TrainState, eval_step, train_step

nn = pb.nn
X = normal(16, 6).astype(np.float32)
Y = np.arange(16) % 4
ADAM = pb.optim.adamw(3e-3)


def loss(model, x, y):
    return nn.cross_entropy(model(x), y)


def network():
    return nn.MLP(6, 4, 8, 1, key=pb.random.key(3))


def leaves(tree):
    return [np.array(x) for x in pb.train.checkpoint.flatten(tree)[0]]


def bits(*trees):
    return [(x.dtype, x.tobytes()) for tree in trees for x in leaves(tree)]


def ran(f, model, batches, precision, **options):
    state = TrainState.create(model, ADAM, precision=precision)
    step = train_step(f, ADAM, precision=precision, **options)
    losses = []
    for batch in batches:
        state, metrics = step(state, *batch)
        losses.append(float(metrics.loss))
    return state, losses


# ---- what is computed in which type ----------------------------------------------------------


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32", "fp64"])
def test_what_the_loss_sees(precision):
    kinds = {"bf16": pb.bfloat16, "fp16": pb.float16, "fp32": pb.float32, "fp64": pb.float64}
    seen = {}

    def looks(model, x, y, factor):
        seen.update(weight=model.weight.dtype, x=x.dtype, y=y.dtype, out=model(x).dtype)
        seen["scaled"] = (model(x) * factor).dtype
        return loss(model, x, y)

    wide = pb.float64 if precision == "fp64" else pb.float32
    state = TrainState.create(
        nn.Linear(6, 4, key=pb.random.key(0), dtype=wide), ADAM, precision=precision
    )
    state, metrics = train_step(looks, ADAM, precision=precision)(state, X.astype(float), Y, 0.5)
    half = kinds[precision]
    assert seen == {"weight": half, "x": half, "y": np.int64, "out": half, "scaled": half}
    assert {x.dtype for x in (metrics.loss, metrics.norms, state.model.weight)} == {wide}


def test_evaluation_in_half_precision():
    def both(model, x):
        assert model.layers[0].weight.dtype == pb.bfloat16
        return model(x), x.sum()

    evaluate = eval_step(both, precision="bf16")
    state = TrainState.create(network(), ADAM)
    assert [y.dtype for y in evaluate(state, X)] == [pb.float32, pb.float32]
    np.testing.assert_array_equal(evaluate(state, X)[0], evaluate(state.model, X)[0])
    np.testing.assert_allclose(evaluate(state, X)[0], network()(X), atol=0.05)


def test_a_small_gradient_survives_in_float16_when_scaled():
    """1e-6 · 1e-3 is 0 in float16, whose smallest number is 6e-8."""

    def tiny(model, x):
        return (model["w"] * x).sum().astype(pb.float32) * 1e-6

    x = np.full(4, 1e-3, np.float32)
    optimizer, step = pb.optim.sgd(1.0), train_step(tiny, pb.optim.sgd(1.0), precision="fp16")
    for scale, norm in ((LossScale(), 2e-9), (LossScale(initial=1.0), 0.0)):
        state = TrainState.create(
            {"w": np.ones(4, np.float32)}, optimizer, precision="fp16", loss_scale=scale
        )
        _, metrics = step(state, x)
        assert float(metrics.grad_norm) == pytest.approx(norm, rel=1e-2)


# ---- the scale -------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2])
def test_a_step_that_overflows_is_skipped_and_the_scale_halves(k):
    step = train_step(loss, ADAM, precision="fp16", accumulate=k)
    state = TrainState.create(network(), ADAM, precision="fp16", key=pb.random.key(0))
    state, metrics = step(state, X, Y)
    before = bits(state.model, state.optimizer, state.step, state.key)
    planted = X.copy()
    planted[5, 0] = 60_000.0  # finite in float16, and its products with weights are not
    planted[5, 1:] = -60_000.0
    for i in range(3):
        state, metrics = step(state, planted * (1 + i % 2), Y)
        assert bool(metrics.skipped)
        assert float(metrics.scale) == 2.0 ** (15 - i)
        assert float(state.scale.value) == 2.0 ** (14 - i)
        assert bits(state.model, state.optimizer, state.step, state.key) == before
    state, metrics = step(state, X, Y)
    assert not bool(metrics.skipped)
    assert (int(state.step), float(metrics.scale), int(state.scale.good)) == (2, 2.0**12, 1)
    assert np.isfinite(float(metrics.loss))


def test_a_scale_that_is_too_large_comes_down_until_it_fits():
    def steep(model, x, y):
        return loss(model, x, y) * 1000.0

    scale = LossScale(initial=2.0**24)
    state = TrainState.create(network(), ADAM, precision="fp16", loss_scale=scale)
    step = train_step(steep, ADAM, precision="fp16")
    skipped = []
    for _ in range(20):
        state, metrics = step(state, X, Y)
        skipped.append(bool(metrics.skipped))
    count = sum(skipped)
    assert skipped == [True] * count + [False] * (20 - count)
    assert 4 < count < 20
    assert float(state.scale.value) == 2.0 ** (24 - count)


def test_where_numbers_are_checked_a_scale_may_still_be_too_large():
    """At CHECK = 1 an overflow of the scaled gradients is a skipped step, and a NaN an error."""
    state = TrainState.create(
        network(), ADAM, precision="fp16", loss_scale=LossScale(initial=2.0**24)
    )
    step = train_step(lambda m, x, y: loss(m, x, y) * 1000.0, ADAM, precision="fp16")
    with override(check=1):
        before = bits(state.model)
        state, metrics = step(state, X, Y)
        assert bool(metrics.skipped)
        assert float(state.scale.value) == 2.0**23
        assert bits(state.model) == before
        with pytest.raises(pb.errors.NonFiniteError):
            step(state, np.full_like(X, 60_000.0) * np.sign(X), Y)
    assert bits(state.model) == before  # the state was not lost


def test_a_step_is_taken_as_it_comes_where_skipping_is_off():
    state = TrainState.create(network(), ADAM)
    step = train_step(loss, ADAM, skip_nonfinite=False)
    plain, _ = train_step(loss, ADAM)(TrainState.create(network(), ADAM), X, Y)
    state, metrics = step(state, X, Y)
    assert bits(state.model, state.optimizer) == bits(plain.model, plain.optimizer)
    state, metrics = step(state, np.full_like(X, np.nan), Y)
    assert not bool(metrics.skipped)
    assert int(state.step) == 2
    assert np.isnan(np.array(state.model.layers[0].weight)).any()
    scaled = TrainState.create(network(), ADAM, precision="fp16")
    with pytest.raises(pb.errors.ArgumentError, match="such a step is skipped"):
        train_step(loss, ADAM, precision="fp16", skip_nonfinite=False)(scaled, X, Y)


def test_good_steps_let_the_scale_grow():
    scale = LossScale(initial=4.0, growth_interval=3, factor=2.0)
    state = TrainState.create(network(), ADAM, precision="fp16", loss_scale=scale)
    step = train_step(loss, ADAM, precision="fp16")
    scales = []
    for i in range(8):
        state, metrics = step(state, X * (np.inf if i == 4 else 1), Y)
        scales.append(float(metrics.scale))
    # Steps 0-2 are good and it grows; step 3 is good, step 4 is not, 5-7 are.
    assert scales == [4, 4, 4, 8, 8, 4, 4, 4]
    assert float(state.scale.value) == 8
    assert repr(step) == "<compiled train_step of loss: 1 program>"


def test_the_scale_has_bounds():
    def faint(model, x, y):
        return loss(model, x, y) * 1e-5

    step = train_step(faint, ADAM, precision="fp16")
    for initial, x, expected in ((1.0, X * np.nan, 1.0), (2.0**24, X, 2.0**24)):
        scale = LossScale(initial=initial, growth_interval=1)
        state = TrainState.create(network(), ADAM, precision="fp16", loss_scale=scale)
        state, _ = step(state, x, Y)
        assert float(state.scale.value) == expected


def test_the_scale_is_no_part_of_what_is_computed():
    """A power of two changes no bit, where nothing over- or underflows."""
    told = {}
    for initial in (8.0, 64.0):
        scale = LossScale(initial=initial)
        state = TrainState.create(network(), ADAM, precision="bf16", loss_scale=scale)
        state, metrics = train_step(loss, ADAM, precision="bf16", clip=0.5)(state, X, Y)
        told[initial] = bits(state.model, state.optimizer, metrics.norms, metrics.loss)
    state = TrainState.create(network(), ADAM)
    state, metrics = train_step(loss, ADAM, precision="bf16", clip=0.5)(state, X, Y)
    plain = bits(state.model, state.optimizer, metrics.norms, metrics.loss)
    assert told[8.0] == told[64.0] == plain


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_bits_in_half_precision_do_not_depend_on_threads(precision):
    results = [
        bits(ran(loss, network(), [(X, Y)] * 3, precision, threads=n, accumulate=2)[0])
        for n in (1, 2, 4)
    ]
    assert results[0] == results[1] == results[2]


# ---- training in half precision reaches what training in float32 does -------------------------


class GPT(nn.Module):
    tokens: nn.Embedding
    places: nn.Embedding
    blocks: list[nn.TransformerBlock]
    norm: nn.LayerNorm
    head: nn.Linear

    def __init__(self, size=16, length=12, words=8, *, key):
        keys = pb.random.split(key, 5)
        self.tokens = nn.Embedding(words, size, key=keys[0])
        self.places = nn.Embedding(length, size, key=keys[1])
        self.blocks = [nn.TransformerBlock(size, 2, causal=True, key=k) for k in keys[2:4]]
        self.norm = nn.LayerNorm(size)
        self.head = nn.Linear(size, words, key=keys[4])

    def __call__(self, tokens):
        x = self.tokens(tokens) + self.places(np.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def sentences(count):
    """Each word follows from the one before it, four times in five."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        words = rng.integers(0, 8, (16, 13))
        for i in range(1, 13):
            follows = rng.random(16) < 0.8
            words[:, i] = np.where(follows, (3 * words[:, i - 1] + 1) % 8, words[:, i])
        yield words[:, :-1].copy(), words[:, 1:].copy()


class CNN(nn.Module):
    first: nn.Conv2d
    second: nn.Conv2d
    head: nn.Linear

    def __init__(self, *, key):
        keys = pb.random.split(key, 3)
        self.first = nn.Conv2d(1, 6, 3, padding=1, key=keys[0])
        self.second = nn.Conv2d(6, 8, 3, padding=1, key=keys[1])
        self.head = nn.Linear(8 * 4, 4, key=keys[2])

    def __call__(self, x):
        x = pb.max_pool(nn.relu(self.first(x)), 2)
        x = pb.max_pool(nn.relu(self.second(x)), 2)
        return self.head(x.reshape((x.shape[0], -1)))


def images(count):
    """Bars in four directions, in noise."""
    rng = np.random.default_rng(1)
    i, j = np.mgrid[:8, :8]
    bars = np.stack([i % 3 == 0, j % 3 == 0, (i + j) % 3 == 0, (i - j) % 3 == 0])
    for _ in range(count):
        labels = rng.integers(0, 4, 32)
        noise = rng.normal(size=(32, 1, 8, 8))
        yield (0.4 * bars[labels][:, None] + 0.5 * noise).astype(np.float32), labels


TASKS = {"gpt": (GPT, sentences, 120), "cnn": (CNN, images, 60)}


@pytest.mark.parametrize("task", TASKS)
def test_half_precision_reaches_the_loss_of_float32(task):
    make, data, count = TASKS[task]
    batches = list(data(count))
    reached = {
        precision: np.mean(ran(loss, make(key=pb.random.key(7)), batches, precision)[1][-10:])
        for precision in ("fp32", "bf16", "fp16")
    }
    first = ran(loss, make(key=pb.random.key(7)), batches[:1], "fp32")[1][0]
    assert reached["fp32"] < 0.8 * first
    assert reached["bf16"] == pytest.approx(reached["fp32"], rel=0.01)
    assert reached["fp16"] == pytest.approx(reached["fp32"], rel=0.01)

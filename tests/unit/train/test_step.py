"""The training step: it trains, it equals the step written by hand, and it is one program."""

from __future__ import annotations

import math

import numpy as np
import pytest

import pullback as pb
from pullback.ir.samples import normal
from pullback.train import TrainState, eval_step, train_step

X, Y = normal(24, 6).astype(np.float32), np.arange(24) % 4
OPTIMIZERS = {
    "sgd": pb.optim.sgd(0.1, 0.9),
    "adamw": pb.optim.adamw(pb.optim.cosine(1e-2, 20)),
    "ema": pb.optim.chain(pb.optim.clip_by_value(0.1), pb.optim.adam(1e-2), pb.optim.ema(0.9)),
}


def loss(model, x, y):
    return pb.nn.cross_entropy(model(x), y)


def network(**options):
    return pb.nn.MLP(6, 4, 8, 2, key=pb.random.key(3), **options)


def trained(step, state, count=5, batch=(X, Y)):
    told = []
    for _ in range(count):
        state, metrics = step(state, *batch)
        told.append(metrics)
    return state, told


def leaves(tree):
    return [np.array(x) for x in pb.train.checkpoint.flatten(tree)[0]]


def assert_same_bits(left, right):
    for x, y in zip(leaves(left), leaves(right), strict=True):
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def close(left, right, rtol=1e-5):
    for x, y in zip(leaves(left), leaves(right), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_the_step_written_by_hand(name):
    optimizer = OPTIMIZERS[name]

    @pb.compile
    def by_hand(model, state):
        value, grads = pb.value_and_grad(loss)(model, X, Y)
        updates, state = optimizer.update(grads, state, model)
        return pb.optim.apply_updates(model, updates), state, value

    state, told = trained(train_step(loss, optimizer), TrainState.create(network(), optimizer))
    model, kept = network(), optimizer.init(network())
    for metrics in told:
        model, kept, value = by_hand(model, kept)
        assert float(value) == float(metrics.loss)
    assert_same_bits(state.model, model)
    assert_same_bits(state.optimizer, kept)
    assert int(state.step) == 5


def test_one_program_updates_its_state_in_place():
    optimizer = pb.optim.inject_hyperparams(pb.optim.adam)(lr=0.1)
    step, state = train_step(loss, optimizer), TrainState.create(network(), optimizer)
    state, _ = trained(step, state, 2)
    place = state._home.addresses.tolist()
    state, _ = trained(step, state, 3)
    assert state._home.addresses.tolist() == place
    settings = pb.optim.with_hyperparams(state.optimizer, lr=0.01)
    state, _ = trained(step, state.replace(optimizer=settings), 2)
    assert repr(step) == "<compiled train_step of loss: 1 program>"
    old = state
    state, _ = step(state, X, Y)
    with pytest.raises(pb.errors.DonationError):
        _ = old.model


def test_the_model_that_a_state_was_made_of_stays():
    model, optimizer = network(), pb.optim.sgd(0.1)
    before = leaves(model)
    for _ in range(2):
        trained(train_step(loss, optimizer), TrainState.create(model, optimizer))
    for x, y in zip(before, leaves(model), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("k", [2, 3, 4, 24])
def test_micro_batches_equal_the_large_one(k):
    optimizer = pb.optim.sgd(0.1, 0.9)
    large = trained(train_step(loss, optimizer), TrainState.create(network(), optimizer))
    small = trained(
        train_step(loss, optimizer, accumulate=k), TrainState.create(network(), optimizer)
    )
    close(small[0].model, large[0].model)
    for one, other in zip(small[1], large[1], strict=True):
        close((one.loss, one.norms, one.ratios), (other.loss, other.norms, other.ratios), 1e-4)


@pytest.mark.parametrize("threads", [2, 4])
def test_bits_do_not_depend_on_threads(threads):
    optimizer = pb.optim.adam(1e-2)
    options = {"clip": 0.5, "accumulate": 2}
    one = trained(
        train_step(loss, optimizer, threads=1, **options), TrainState.create(network(), optimizer)
    )
    more = trained(
        train_step(loss, optimizer, threads=threads, **options),
        TrainState.create(network(), optimizer),
    )
    assert_same_bits(one[0].model, more[0].model)
    assert_same_bits(one[1][-1].norms, more[1][-1].norms)


# ---- what it tells ---------------------------------------------------------------------------


def test_metrics():
    optimizer = pb.optim.sgd(0.5)
    model = network()
    grads = pb.grad(loss)(model, X, Y)
    state, (metrics,) = trained(train_step(loss, optimizer), TrainState.create(model, optimizer), 1)
    norms = [np.linalg.norm(g) for g in leaves(grads)]
    sizes = [np.linalg.norm(x) for x in leaves(state.model)]
    ratios = [0.5 * n / size for n, size in zip(norms, sizes, strict=True)]
    np.testing.assert_allclose(list(map(float, metrics.grad_norms.values())), norms, rtol=1e-5)
    np.testing.assert_allclose(list(map(float, metrics.update_ratios.values())), ratios, rtol=1e-5)
    assert float(metrics.grad_norm) == pytest.approx(np.linalg.norm(norms), rel=1e-5)
    assert list(metrics.grad_norms)[:2] == ["layers[0].weight", "layers[0].bias"]
    assert (bool(metrics.skipped), float(metrics.scale), metrics.aux) == (False, 1.0, None)


def test_zeros_of_a_gradient_and_what_is_not_finite_are_counted_in_one_kernel():
    def weighted(model, x):  # the gradient is x
        return pb.sum(pb.sum(model["a"] * x)) + pb.sum(model["b"] * 0.0)

    optimizer = pb.optim.adam(0.1)
    state = TrainState.create({"a": pb.ones(8), "b": pb.ones((2, 3))}, optimizer)
    step = train_step(weighted, optimizer)
    x = pb.asarray([0.0, -0.0, 1.0, 1e-30, -2.0, 3.0, 4.0, 1e30])
    kernels = list(map(str, step.lower(state, x).program.schedule.kernels))
    assert [k.count("fold sum") for k in kernels if "abs(" in k] == [3]  # that of b is known
    state, metrics = step(state, x)
    assert list(map(float, metrics.zero_shares.values())) == [0.25, 1.0]
    assert list(map(float, metrics.nonfinite.values())) == [0.0, 0.0]
    broken = pb.asarray([0.0, math.nan, math.inf, -math.inf, 1.0, 1.0, 1.0, 1.0])
    state, metrics = step(state, broken)
    assert bool(metrics.skipped)
    assert float(metrics.zero_shares["['a']"]) == 0.125
    assert float(metrics.nonfinite["['a']"]) == 3.0


def test_clipping_bounds_all_gradients_together():
    model = network()
    by_chain = pb.optim.chain(pb.optim.clip_by_global_norm(0.1), pb.optim.sgd(0.5))
    inside = trained(train_step(loss, by_chain), TrainState.create(model, by_chain))
    plain = pb.optim.sgd(0.5)
    option = trained(train_step(loss, plain, clip=0.1), TrainState.create(model, plain))
    close(inside[0].model, option[0].model, 1e-4)
    assert float(option[1][0].grad_norm) > 0.1


def test_aux_comes_along():
    def with_aux(model, x, y):
        logits = model(x)
        return pb.nn.cross_entropy(logits, y), {"right": (logits.argmax(-1) == y).sum()}

    optimizer = pb.optim.sgd(0.1)
    step = train_step(with_aux, optimizer, has_aux=True)
    _, metrics = step(TrainState.create(network(), optimizer), X, Y)
    assert metrics.aux["right"].shape == ()
    parts = train_step(with_aux, optimizer, has_aux=True, accumulate=4)
    _, several = parts(TrainState.create(network(), optimizer), X, Y)
    assert several.aux["right"].shape == (4,)
    assert int(several.aux["right"].sum()) == int(metrics.aux["right"])


# ---- state, key, frozen parameters -----------------------------------------------------------


class Noisy(pb.nn.Module):
    norm: pb.nn.BatchNorm
    dropout: pb.nn.Dropout
    output: pb.nn.Linear

    def __init__(self, key):
        self.norm = pb.nn.BatchNorm(6)
        self.dropout = pb.nn.Dropout(0.5)
        self.output = pb.nn.Linear(6, 4, key=key)

    def __call__(self, x, state, *, train, key=None):
        y, state = self.norm(x, state, train=train)
        return self.output(self.dropout(y, train=train, key=key)), state


def noisy_loss(model, x, y, *, key, state):
    logits, state = model(x, state, train=True, key=key)
    return pb.nn.cross_entropy(logits, y), state


@pytest.mark.parametrize("k", [1, 2])
def test_the_network_state_and_the_key(k):
    model, optimizer, key = Noisy(pb.random.key(0)), pb.optim.sgd(0.1), pb.random.key(9)
    state = TrainState.create(model, optimizer, network_state=model.norm.initial_state(), key=key)
    step = train_step(noisy_loss, optimizer, accumulate=k)
    net = model.norm.initial_state()
    for i in range(2):
        drawn = pb.random.fold_in(key, i)
        expected = []
        for j in range(k):
            mine = drawn if k == 1 else pb.random.fold_in(drawn, j)
            rows = slice(j * 24 // k, (j + 1) * 24 // k)
            value, net = noisy_loss(model, X[rows], Y[rows], key=mine, state=net)
            expected.append(float(value))
        state, metrics = step(state, X, Y)
        model = pb.train.checkpoint.built(state).model
        assert float(metrics.loss) == pytest.approx(np.mean(expected), rel=1e-5)
        close(state.network_state, net)
    evaluate = eval_step(lambda model, x, state: model(x, state, train=False)[0])
    close(evaluate(state, X), model(X, net, train=False)[0], 1e-4)


def test_frozen_parameters_stay_and_keep_no_state():
    model = pb.nn.freeze(network(), "layers[0]")
    optimizer = pb.optim.adamw(0.1)
    state = TrainState.create(model, optimizer)
    after, told = trained(train_step(loss, optimizer), state)
    assert_same_bits(after.model.layers[0], model.layers[0])
    assert not np.array_equal(after.model.layers[1].weight, model.layers[1].weight)
    assert next(iter(told[0].grad_norms)) == "layers[1].weight"
    assert len(leaves(after.optimizer.mean)) == 4
    masked = pb.optim.masked(optimizer, pb.nn.trainable)
    other, _ = trained(train_step(loss, masked), TrainState.create(model, masked))
    assert_same_bits(after.model, other.model)


def test_integers_in_a_model_are_no_parameters():
    class Shifted(pb.nn.Module):
        table: pb.Array
        output: pb.nn.Linear

        def __call__(self, x):
            return self.output(x[:, self.table])

    model = Shifted(pb.asarray(np.arange(6)[::-1].copy()), pb.nn.Linear(6, 4, key=pb.random.key(0)))
    optimizer = pb.optim.adam(0.1)
    after, told = trained(train_step(loss, optimizer), TrainState.create(model, optimizer))
    assert after.model.table.tolist() == [5, 4, 3, 2, 1, 0]
    assert float(told[-1].loss) < float(told[0].loss)


# ---- steps that go wrong ---------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2])
def test_a_step_that_is_not_finite_changes_nothing(k):
    optimizer = OPTIMIZERS["ema"]
    step = train_step(loss, optimizer, accumulate=k, clip=1.0)
    state, _ = trained(step, TrainState.create(network(), optimizer))
    before = leaves(state)
    bad = X.copy()
    bad[3, 2] = np.nan
    state, metrics = step(state, bad, Y)
    assert bool(metrics.skipped)
    assert np.isnan(float(metrics.loss))
    assert not np.any(metrics.ratios)
    for x, y in zip(before, leaves(state), strict=True):
        np.testing.assert_array_equal(x, y)
    state, metrics = step(state, X, Y)
    assert not bool(metrics.skipped)
    assert int(state.step) == 6


def test_a_state_is_a_checkpoint(tmp_path):
    optimizer = OPTIMIZERS["adamw"]
    step = train_step(loss, optimizer)
    state, _ = trained(step, TrainState.create(network(), optimizer, key=pb.random.key(0)))
    pb.train.save(tmp_path / "a.safetensors", state)
    goes_on, _ = trained(step, state)
    like = TrainState.create(network(), optimizer, key=pb.random.key(1))
    resumed, _ = trained(step, pb.train.load(tmp_path / "a.safetensors", like))
    assert_same_bits(goes_on, resumed)


# ---- what it costs ---------------------------------------------------------------------------


def readers(lowered, count):
    """How many kernels read each of the first `count` inputs."""
    schedule = lowered.schedule
    reads = [kernel.reads() for kernel in schedule.kernels]
    return [sum(buffer in each for each in reads) for buffer in schedule.inputs[:count]]


@pytest.mark.parametrize("options", [{}, {"clip": 1.0}], ids=["plain", "clipped"])
def test_norms_and_skipping_take_no_pass_over_parameters_or_moments(options):
    """The step by hand reads each parameter and moment as often, and needs as much memory but for
    the gradients: these must be there as a whole before the norm is known.
    """
    model, optimizer = pb.nn.MLP(64, 10, 128, 2, key=pb.random.key(0)), pb.optim.adamw(1e-3)
    x, y = normal(32, 64).astype(np.float32), np.arange(32) % 10

    def by_hand(state, x, y):
        model, kept = state
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, kept = optimizer.update(grads, kept, model)
        return (pb.optim.apply_updates(model, updates), kept), value

    hand = pb.compile(by_hand, donate=0).lower((model, optimizer.init(model)), x, y)
    state = TrainState.create(model, optimizer)
    ours = train_step(loss, optimizer, **options).lower(state, x, y)
    count = 6 + 1 + 12  # parameters, Adam's step, its moments
    assert [n for n in readers(ours, count) if n] == [n for n in readers(hand, count) if n]
    assert ours.plan.peak_bytes - hand.plan.peak_bytes < model.nbytes + 8192
    # A norm for each gradient, and each of the three updates of weights apart from its product.
    assert len(ours.schedule.kernels) <= len(hand.schedule.kernels) + 6 + 3 + 4


def test_a_state_before_the_batch_is_given_in_its_place():
    """`(model, state, x, y)` is called as `(model, x, y, state)` is."""

    def after(w, x, y, state):
        return pb.mean((x @ w * state - y) ** 2), state + 1.0

    def before(w, state, x, y):
        return after(w, x, y, state)

    def apart(w, *batch, state):
        return after(w, *batch, state)

    optimizer, x, y = pb.optim.sgd(0.1), np.ones((4, 3), np.float32), np.ones(4, np.float32)
    losses = []
    for loss in (after, before, apart):
        step = train_step(loss, optimizer)
        state = TrainState.create(pb.ones(3), optimizer, network_state=pb.asarray(np.float32(1)))
        for _ in range(3):
            state, metrics = step(state, x, y)
        losses.append(float(metrics.loss))
        assert float(state.network_state) == 4.0
    assert losses[0] == losses[1] == losses[2]

"""The training step with every optimiser, in debugging modes, and with what a loss captures."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.ir.samples import normal
from pullback.train import TrainState, train_step

optim = pb.optim
X, Y = normal(24, 6).astype(np.float32), np.arange(24) % 4
OPTIMIZERS = {
    "sgd": optim.sgd(optim.cosine(0.1, 20), 0.9, nesterov=True),
    "adam": optim.adam(1e-2, amsgrad=True),
    "adamw, decay of weights alone": optim.adamw(
        1e-2, mask=lambda p: pb.train.checkpoint.unflatten(*_of_rank_two(p))
    ),
    "rmsprop": optim.rmsprop(1e-2, momentum=0.9, centered=True),
    "adagrad": optim.adagrad(0.1),
    "lion": optim.lion(1e-3),
    "adafactor": optim.adafactor(1e-2),
    "accumulate": optim.accumulate(optim.adam(3e-2), 2),
    "injected": optim.inject_hyperparams(optim.sgd)(lr=0.1, momentum=0.9),
}


def _of_rank_two(params):
    leaves, structure = pb.train.checkpoint.flatten(params)
    return structure, [x.ndim > 1 for x in leaves]


def loss(model, x, y):
    return pb.nn.cross_entropy(model(x), y)


def network():
    return pb.nn.MLP(6, 4, 8, 1, key=pb.random.key(3))


def ran(optimizer, count=8, f=loss, **options):
    state, told = TrainState.create(network(), optimizer), []
    step = train_step(f, optimizer, **options)
    for _ in range(count):
        state, metrics = step(state, X, Y)
        told.append(float(metrics.loss))
    assert repr(step).endswith(": 1 program>")
    return state, told


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains(name):
    _, told = ran(OPTIMIZERS[name])
    assert told[-1] < told[0]


def test_the_eager_step_is_the_compiled_one():
    _, compiled = ran(OPTIMIZERS["sgd"], 3, clip=0.5, accumulate=2)
    step = train_step(loss, OPTIMIZERS["sgd"], clip=0.5, accumulate=2)
    state, told = TrainState.create(network(), OPTIMIZERS["sgd"]), []
    with override(eager=True):
        for _ in range(3):
            state, metrics = step(state, X, Y)
            told.append(float(metrics.loss))
    np.testing.assert_allclose(told, compiled, rtol=1e-5)


def test_a_checked_step_names_the_first_number_that_is_not_finite():
    def broken(model, x, y):
        return loss(model, pb.log(x - 100.0), y)

    step, state = train_step(broken, optim.sgd(0.1)), TrainState.create(network(), optim.sgd(0.1))
    with override(check=1), pytest.raises(pb.errors.NonFiniteError, match="log"):
        step(state, X, Y)
    np.testing.assert_array_equal(state.model.layers[0].weight, network().layers[0].weight)


def test_what_a_loss_captures_may_be_bound_anew():
    weights = pb.ones(4)

    def weighted(model, x, y):
        return pb.nn.cross_entropy(model(x), y, weights=weights)

    optimizer = optim.sgd(0.1)
    step = train_step(weighted, optimizer)
    _, before = step(TrainState.create(network(), optimizer), X, Y)
    weights = pb.asarray(np.float32([5, 1, 1, 1]))
    _, after = step(TrainState.create(network(), optimizer), X, Y)
    assert float(after.loss) == pytest.approx(float(weighted(network(), X, Y)), rel=1e-5)
    assert float(after.loss) != float(before.loss)


def test_a_batch_is_any_tree_and_numbers_go_to_every_part():
    def of_tree(model, batch, factor):
        return loss(model, batch["x"], batch["y"]) * factor

    optimizer = optim.sgd(0.1)
    batch = {"x": X, "y": Y}
    for k in (1, 3):
        step = train_step(of_tree, optimizer, accumulate=k)
        _, metrics = step(TrainState.create(network(), optimizer), batch, 2.0)
        assert float(metrics.loss) == pytest.approx(2 * float(loss(network(), X, Y)), rel=1e-5)
    step = train_step(lambda model: pb.sum(model["w"] ** 2), optimizer, accumulate=2)
    _, metrics = step(TrainState.create({"w": np.ones(3, np.float32)}, optimizer))
    assert float(metrics.grad_norms["['w']"]) == pytest.approx(2 * 3**0.5)


def test_micro_batches_need_less_memory():
    model = pb.nn.MLP(32, 4, 64, 4, pb.nn.tanh, key=pb.random.key(0))
    x, y = normal(512, 32).astype(np.float32), np.arange(512) % 4
    optimizer = optim.sgd(0.1, 0.9)
    peaks = []
    for k in (1, 4, 16):
        step = train_step(loss, optimizer, accumulate=k)
        peaks.append(step.lower(TrainState.create(model, optimizer), x, y).plan.arena_bytes)
    assert peaks[1] < peaks[0]
    assert peaks[2] < 0.5 * peaks[0]


def test_metrics_go_through_a_program_of_ones_own():
    optimizer = optim.sgd(0.1)
    step = train_step(loss, optimizer)

    @pb.compile
    def twice(state, x, y):
        state, first = step(state, x, y)
        state, second = step(state, x, y)
        return state, (first, second)

    state, (first, second) = twice(TrainState.create(network(), optimizer), X, Y)
    _, told = ran(optimizer, 2)
    assert [float(first.loss), float(second.loss)] == told
    assert int(state.step) == 2
    assert float(second.grad_norms["layers[0].weight"]) > 0

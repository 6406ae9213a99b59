"""A run beside a linear map of its inputs, and beside its own network trained once more."""

import math

import numpy as np
import pytest

import pullback as pb
from pullback import inspect, nn
from pullback.inspect.heldout import Renewed
from pullback.inspect.outputs import ends
from pullback.inspect.probe import Probe
from pullback.inspect.reference import beside

CENTRES = np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)
ADAM = pb.optim.adam(3e-3)


def batches(count=20, size=64):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 4, count * size)
    x = CENTRES[y] + rng.standard_normal((len(y), 16)).astype(np.float32)
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(y), size)]


def net(inputs=16, outputs=4):
    return nn.MLP(inputs, outputs, 32, 1, key=pb.random.key(0))


def loss(model, x, y):
    return nn.cross_entropy(model(x), y)


def of_the_mean(model, x, y):
    return nn.cross_entropy(model(pb.mean(x, axis=1, keepdims=True)), y)


def compared(model, f, data, steps=100):
    return beside(Probe(f, (model, *data[0])), model, data, steps)


def test_a_network_that_has_not_learnt_is_worse_than_a_linear_map_of_its_inputs():
    it = compared(net(), loss, batches(8))
    assert it.linear < 0.2
    assert it.constant == pytest.approx(math.log(4), abs=0.1)
    assert it.network > it.constant
    assert it.gap > 1


def squares(model, x, y):
    return pb.mean((model(x) - y) ** 2)


def test_targets_of_any_size_and_sequences_of_whole_numbers_have_a_linear_map():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 32, 5)).astype(np.float32)
    y = 1e3 * (x @ rng.standard_normal((5, 1)) + 7).astype(np.float32)
    it = compared(net(5, 1), squares, list(zip(x, y, strict=True)))
    assert it.linear < 0.05 * it.constant
    assert it.constant == pytest.approx(float(y[4:].var()), rel=0.3)
    words = rng.integers(0, 6, (8, 32, 7))
    model = {"words": nn.Embedding(6, 8, key=pb.random.key(0)), "last": net(8, 6)}

    def tags(model, words, named):
        return nn.cross_entropy(model["last"](model["words"](words)), named)

    it = compared(model, tags, list(zip(words, 5 - words, strict=True)))
    assert it.linear < 0.1 * it.constant


def drawn(model, x, y):
    noise = pb.random.normal(pb.random.key(0), (64, 4))
    return pb.mean((model(x) + noise) ** 2)


def rebuilt(model, x, y):
    return pb.mean((model(x) - x) ** 2)


def endless(model, x, y):
    return pb.mean(model(x)[:, 0] * (y - 1.5))


@pytest.mark.parametrize(
    ("f", "outputs"), [(drawn, 4), (rebuilt, 16), (endless, 4)], ids=["draws", "inputs", "endless"]
)
def test_losses_that_a_linear_map_says_nothing_of(f, outputs):
    assert compared(net(16, outputs), f, batches(8)) is None


def test_of_one_batch_or_of_the_same_ones_nothing_is_held_out():
    assert compared(net(), loss, batches(1)) is None
    assert compared(net(), loss, batches(1) * 8) is None


def test_equal_calls_have_one_map_and_others_none():
    data = batches(1)[0]

    def twice(model, x, y):
        return nn.cross_entropy(model(x), y) + 0.1 * pb.mean(model(x) ** 2)

    def pairs(model, x, y):
        return pb.mean((model(x) - model(x[::-1])) ** 2)

    assert ends(Probe(twice, (net(), *data)))
    assert ends(Probe(pairs, (net(), *data))) == ()


def test_what_a_network_throws_away_is_told_where_nothing_else_is_wrong():
    report = inspect.watch(net(1), of_the_mean, batches(), ADAM, steps=120)
    assert report.alarms[0].id == "GEN02"
    assert report.alarms[0].numbers["linear"] < 0.3 < report.alarms[0].numbers["loss"]
    assert inspect.watch(net(), loss, batches(), ADAM, steps=120).alarms == ()


def test_a_loop_that_learns_less_than_train_step_is_told_late():
    """In every second step its labels are those of the examples beside them."""
    model, doctor = net(), inspect.Doctor()
    state = ADAM.init(model)
    doctor.begin(loss, model, ADAM)
    for i, (x, y) in enumerate((batches() * 6)[:110]):
        value, grads = pb.value_and_grad(loss)(model, x, np.roll(y, 1) if i % 2 else y)
        updates, state = ADAM.update(grads, state, model)
        model = pb.optim.apply_updates(model, updates)
        doctor.see(model, (x, y), loss=value, grads=grads)
    report = doctor.report()
    assert report.alarms[0].id == "LOOP03"
    assert "train_step" in report.alarms[0].what


def test_a_decay_that_keeps_a_run_behind_adam_is_told_late():
    decaying = pb.optim.adam(3e-3, weight_decay=0.3)
    report = inspect.watch(net(), loss, batches(), decaying, steps=120)
    assert [x.id for x in report.alarms] == ["OBJ08"]
    numbers = report.alarms[0].numbers
    assert numbers["free"] < 0.5 * numbers["own"]


def test_where_one_batch_is_not_learnt_a_linear_map_says_whether_it_can_be():
    def blind(model, x, y):
        return nn.cross_entropy(model(0 * x), y)

    (told,) = [x for x in pb.preflight(net(), blind, batches(1)[0]).findings if x.id == "VER01"]
    assert told.notes[-1].endswith("it is the network")


def test_behind_says_what_share_of_another_training_a_run_has_not_learnt():
    assert Renewed(2.0, 1.0, 0.5, 100).behind(0.5) == pytest.approx(1 / 3)
    assert Renewed(2.0, 1.0, 1.9, 100).behind(1.9) == 0.0
    assert Renewed(2.0, math.nan, 0.5, 100).behind(0.5) == math.inf

"""The doctor: a sound run is left in peace and keeps its bits, a planted fault is named."""

import json

import numpy as np
import pytest

import pullback as pb
from pullback import inspect, nn
from pullback.errors import ArgumentError, DivergedError
from pullback.transforms.tree import flatten

RNG = np.random.default_rng(0)
CENTRES = RNG.standard_normal((10, 32)).astype(np.float32)
Y = RNG.integers(0, 10, 640)
X = (CENTRES[Y] + RNG.standard_normal((640, 32))).astype(np.float32)


def batches(x=X, y=Y, size=64):
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def mlp(depth=2, seed=0, **options):
    return nn.MLP(32, 10, 64, depth, key=pb.random.key(seed), **options)


def loss(model, x, y):
    return nn.cross_entropy(model(x), y)


def watch(model=None, loss_fn=loss, data=None, optimizer=None, **options):
    optimizer = pb.optim.adam(1e-3) if optimizer is None else optimizer
    data = batches() if data is None else data
    return inspect.watch(mlp() if model is None else model, loss_fn, data, optimizer, **options)


def leaves(tree):
    return flatten(tree)[0]


def first(report):
    """The first cause."""
    return report.findings[0] if report.alarms else None


# ---- healthy --------------------------------------------------------------------------------


def test_a_sound_run_is_left_in_peace():
    report = watch()
    assert report.alarms == ()
    assert report.exit_code == 0
    assert "of its own" in report.title


def trained(doctor=None, loss_fn=loss, data=None):
    optimizer = pb.optim.adam(1e-2)
    state = pb.train.TrainState.create(mlp(), optimizer)
    step = pb.train.train_step(loss_fn, optimizer)
    data = batches() if data is None else data
    return pb.train.fit(step, state, data, steps=60, progress=False, doctor=doctor)


def test_a_run_has_the_same_bits_with_a_doctor_and_without():
    doctor = inspect.Doctor(every=10)
    with_one, without = trained(doctor), trained()
    for a, b in zip(leaves(with_one.state), leaves(without.state), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()
    assert doctor.report().alarms == ()
    assert doctor.seconds > 0


# ---- births ---------------------------------------------------------------------------------


def careless(model, x, y):
    p = pb.softmax(40 * model(x))
    return -pb.mean(pb.log(pb.sum(p * pb.one_hot(y, 10), axis=1)))


def test_fit_names_who_made_the_number_and_does_not_apply_the_step():
    doctor = inspect.Doctor()
    with pytest.raises(DivergedError) as caught:
        trained(doctor, careless)
    finding = doctor.report().findings[0]
    assert finding.id == "NUM01"
    assert finding.what.startswith("log(0) = -inf in sample ")
    assert finding.frame.source.startswith("return -pb.mean(pb.log(")
    assert finding.what in "".join(caught.value.__notes__)
    for a, b in zip(leaves(caught.value.result.state.model), leaves(mlp()), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_a_number_in_the_data_is_told_with_its_sample():
    x = X.copy()
    x[64 + 37, 3] = np.nan
    finding = first(watch(data=batches(x)))
    assert (finding.id, "sample 37" in finding.what) == ("NUM01", True)


# ---- facts ----------------------------------------------------------------------------------


def test_facts_are_told_after_the_first_step():
    def cut(model, x, y):
        return nn.cross_entropy(pb.stop_gradient(model(x)), y)

    optimizer = pb.optim.adam(1e-3)
    step = pb.train.train_step(cut, optimizer)
    state = pb.train.TrainState.create(mlp(), optimizer)
    doctor = inspect.Doctor()
    doctor.begin(step, state)
    x, y = batches()[0]
    state, metrics = step(state, x, y)
    assert "CUT01" in doctor.see(state, (x, y), metrics)
    state, metrics = step(state, x, y)
    assert doctor.see(state, (x, y), metrics) == ""
    assert doctor.findings[0].frame.source.startswith("return nn.cross_entropy(pb.stop_gradient")


def test_an_optimiser_that_moves_nothing():
    finding = first(watch(optimizer=pb.optim.sgd(lambda count: 0.0 * count)))
    assert (finding.id, finding.what) == ("CUT02", "no parameter moves: every update is 0")


def test_examples_in_the_order_of_their_labels():
    order = np.argsort(Y, kind="stable")
    finding = first(watch(data=batches(X[order], Y[order])))
    assert finding.id == "DAT02"
    assert finding.numbers["z"] > 20


# ---- the report -----------------------------------------------------------------------------


def test_what_is_intended_alarms_nobody():
    order = np.argsort(Y, kind="stable")
    report = watch(data=batches(X[order], Y[order]), intended=("DAT02",))
    assert (report.alarms, [x.id for x in report.declared]) == ((), ["DAT02"])


def test_the_report_is_for_tools_too():
    report = watch(optimizer=pb.optim.sgd(lambda count: 0.0 * count))
    assert json.loads(json.dumps(report.to_dict()))["findings"][0]["rule"] == "CUT02"
    assert report.to_sarif()["runs"][0]["results"][0]["ruleId"] == "CUT02"
    assert report.exit_code == 1


def test_a_doctor_is_told_of_the_run_first():
    with pytest.raises(ArgumentError, match="was not told of a run"):
        inspect.Doctor().report()
    with pytest.raises(ArgumentError, match="no rule has the id"):
        inspect.Doctor(intended=("DAT99",))
    with pytest.raises(ArgumentError, match="gave no batch"):
        watch(data=[])

"""The doctor: a sound run is left in peace and keeps its bits, a planted fault is named."""

import json
import math

import numpy as np
import pytest

import pullback as pb
from pullback import inspect, nn
from pullback.errors import ArgumentError, DivergedError
from pullback.inspect.case import Told
from pullback.inspect.course import NEVER, Course
from pullback.train.metrics import Names
from pullback.transforms.tree import flatten, map_leaves

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


def test_every_loss_is_noted_and_the_sizes_of_some():
    doctor, optimizer = inspect.Doctor(every=25), pb.optim.sgd(0.1)
    state = pb.train.TrainState.create(pb.ones(3), optimizer)
    step = pb.train.train_step(lambda w, x: pb.mean((x @ w - 1.0) ** 2), optimizer)
    doctor.begin(step, state)
    losses = [1.0 + 2.0**-i for i in range(1, 24)] * 3  # each a float32
    for i, loss in enumerate(losses, 1):
        told = Told(pb.asarray(loss), np.full(1, i), np.full(1, -i), Names(("w",)))
        doctor.see(state, pb.ones((4, 3)), told)
    course = doctor._case.course
    assert course.losses.tolist() == losses
    noted = [*range(1, 21), 30, 40, 50, 60]
    assert course.norms[:, 0].tolist() == noted
    assert course.ratios[:, 0].tolist() == [-i for i in noted]
    assert doctor._looked == 50


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
    doctor, metrics = inspect.Doctor(), object()
    doctor.begin(loss, mlp(), pb.optim.adam(1e-2))
    with pytest.raises(ArgumentError, match="state is the TrainState that the step returned"):
        doctor.see(mlp(), batches()[0], metrics)


# ---- what only a run shows ------------------------------------------------------------------


def test_a_rate_that_is_too_high_is_named_and_a_lower_one_tried():
    finding = first(watch(optimizer=pb.optim.sgd(20.0)))
    assert finding.id == "OPT01"
    assert "the learning rate: tried for 40 steps: loss" in finding.fix
    assert "(yours: 2.73 -> not finite)" in finding.fix
    assert finding.effect == 1.0


def test_numbers_that_were_not_finite_because_of_the_rate_are_told_under_it():
    report = watch(optimizer=pb.optim.sgd(20.0))
    assert {x.explained_by for x in report.findings if x.id.startswith("NUM")} == {"OPT01"}


def test_a_rate_that_is_too_low():
    finding = first(watch(optimizer=pb.optim.sgd(1e-5)))
    assert (finding.id, finding.fix[:5]) == ("OPT02", "1000x")


@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_a_rate_that_does_is_no_alarm(rate):
    assert watch(optimizer=pb.optim.sgd(rate)).alarms == ()


def normal(std):
    return lambda key, shape, dtype: nn.init.normal(key, shape, dtype, std=std)


def test_weights_that_begin_too_large_or_too_small_are_tried_with_the_usual_scale():
    large = first(watch(mlp(3, initializer=normal(3.0)), optimizer=pb.optim.sgd(1e-2)))
    assert (large.id, "usual scale" in large.fix) == ("SIG07", True)
    small = first(watch(mlp(4, initializer=normal(1e-3)), optimizer=pb.optim.sgd(1e-2)))
    assert (small.id, "usual scale" in small.fix) == ("SIG07", True)


def test_a_dead_network_says_where_its_gradients_die():
    def dead(model, x, y):
        first, *_, last = model.layers
        return nn.cross_entropy(last(nn.relu(first(x) - 40.0)), y)

    finding = first(watch(mlp(1), dead))
    assert finding.id in ("SIG03", "CUT04")
    assert "relu(first(x) - 40.0)" in finding.frame.source


def test_labels_that_have_nothing_to_do_with_the_inputs():
    rng = np.random.default_rng(1)
    data = [
        (rng.standard_normal((64, 32)).astype(np.float32), rng.integers(0, 10, 64))
        for _ in range(110)
    ]
    finding = first(watch(data=data, optimizer=pb.optim.adam(3e-3), steps=110))
    assert (finding.id, "says nothing of others" in finding.what) == ("DAT03", True)


def test_a_batch_that_comes_twice():
    finding = first(watch(data=[each for each in batches() for _ in range(2)], steps=30))
    assert (finding.id, finding.what) == ("DAT05", "batch 2 is batch 1 again")
    order = [batches()[i] for i in (*RNG.permutation(10), *RNG.permutation(10))]
    assert watch(data=order, steps=30).alarms == ()  # two epochs


def test_only_biases_are_trained():
    assert first(watch(nn.freeze(mlp(), "*weight"))).id == "CUT03"


def test_training_as_in_use():
    class Noisy(nn.Module):
        body: nn.MLP
        drop: nn.Dropout
        norm: nn.BatchNorm

        def __call__(self, x, state, train, key):
            x = self.drop(x, train=train, key=key)
            x, state = self.norm(x, state, train=train)
            return self.body(x), state

    def run(train):
        def noisy(model, x, y, state, key):
            out, state = model(x, state, train, key)
            return nn.cross_entropy(out, y), state

        model = Noisy(mlp(), nn.Dropout(0.1), nn.BatchNorm(32))
        options = {"network_state": model.norm.initial_state(), "key": pb.random.key(0)}
        return watch(model, noisy, steps=30, **options)

    told = [x.what for x in run(False).alarms]
    assert [x.split(":")[0] for x in told] == [
        "the running statistics never move",
        "dropout never drops",
    ]
    assert run(True).alarms == ()


def test_validation_that_becomes_worse():
    doctor = inspect.Doctor()
    optimizer = pb.optim.adam(1e-3)
    step = pb.train.train_step(loss, optimizer)
    state = pb.train.TrainState.create(mlp(), optimizer)
    pb.train.fit(
        step,
        state,
        batches(),
        steps=60,
        every=10,
        validate=lambda state: {"validation_loss": float(state.step) / 10},
        progress=False,
        doctor=doctor,
    )
    assert doctor.report().alarms[0].what == "the network overfits: validation_loss was 1 and is 6"


# ---- a loop of one's own --------------------------------------------------------------------


def stepped(model, state, grads, optimizer):
    updates, state = optimizer.update(grads, state, model)
    return pb.optim.apply_updates(model, updates), state


def own_loop(change, steps=25):
    """The report on a loop; `change(model, state, grads, before, optimizer)` makes a step."""
    optimizer = pb.optim.adam(1e-2)
    model, before = mlp(), None
    state = optimizer.init(model)
    doctor = inspect.Doctor()
    doctor.begin(loss, model, optimizer)
    for i in range(steps):
        x, y = batches()[i % 10]
        value, grads = pb.value_and_grad(loss)(model, x, y)
        model, state, used = change(model, state, grads, before, optimizer)
        before = used
        doctor.see(model, (x, y), loss=value, grads=used)
    return doctor.report()


def test_a_loop_of_ones_own_is_left_in_peace():
    def sound(model, state, grads, before, optimizer):
        return *stepped(model, state, grads, optimizer), grads

    assert own_loop(sound).alarms == ()


def test_gradients_that_were_not_cleared():
    def added(model, state, grads, before, optimizer):
        if before is not None:
            grads = map_leaves(lambda a, b: a + b, grads, before)
        return *stepped(model, state, grads, optimizer), grads

    assert first(own_loop(added)).what == "step 2 uses its own gradient plus that of step 1"


def test_gradients_of_the_step_before():
    def stale(model, state, grads, before, optimizer):
        used = grads if before is None else before
        return *stepped(model, state, used, optimizer), used

    assert first(own_loop(stale, 5)).what == "step 2 uses the gradient of step 1"


def test_updates_that_are_thrown_away():
    def lost(model, state, grads, before, optimizer):
        stepped(model, state, grads, optimizer)
        return model, state, grads

    assert first(own_loop(lost)).what == "the model stays as it is: the updates are not applied"


def test_steps_uphill():
    def uphill(model, state, grads, before, optimizer):
        return map_leaves(lambda x, g: x + 1e-2 * g, model, grads), state, grads

    finding = first(own_loop(uphill, 5))
    assert (finding.id, finding.severity) == ("OBJ05", inspect.Severity.FAIL)


# ---- losses ---------------------------------------------------------------------------------


def test_minus_a_cross_entropy_is_told_at_the_first_step():
    finding = first(watch(loss_fn=lambda model, x, y: -loss(model, x, y), steps=2))
    assert (finding.id, finding.severity) == ("OBJ05", inspect.Severity.FAIL)


def test_a_penalty_that_dominates_and_one_that_does_not():
    def penalised(factor):
        def total(model, x, y):
            squares = sum(pb.sum(layer.weight**2) for layer in model.layers)
            return loss(model, x, y) + factor * squares

        return total

    assert first(watch(loss_fn=penalised(0.5), optimizer=pb.optim.adam(3e-3))).id == "OBJ08"
    assert watch(loss_fn=penalised(1e-4), optimizer=pb.optim.adam(3e-3)).alarms == ()


def test_classes_as_numbers():
    def squared(model, x, y):
        return nn.mse(model(x)[:, 0], y)

    model = nn.MLP(32, 1, 64, 2, key=pb.random.key(0))
    named = [(x, y.astype(np.float32)) for x, y in batches()]
    assert first(watch(model, squared, named, steps=20)).id == "OBJ02"
    order = np.clip(np.round(X @ CENTRES[0] / 8 + 2), 0, 4)  # grades: numbers with an order
    assert watch(model, squared, batches(y=order.astype(np.float32)), steps=20).alarms == ()


def test_a_sum_over_the_batch_explains_a_large_first_loss():
    def summed(model, x, y):
        return nn.cross_entropy(model(x), y, reduction="sum")

    report = watch(loss_fn=summed, optimizer=pb.optim.sgd(0.5))
    assert first(report).id == "OBJ06"
    assert {x.explained_by for x in report.findings if x.id == "OBJ04"} <= {"OBJ06"}


def test_targets_that_are_all_the_same():
    finding = first(watch(data=batches(y=Y * 0 + 3), steps=20))
    assert (finding.id, finding.what) == ("DAT03", "the targets y are all the same: 3")


def test_one_small_batch_in_every_step():
    small, whole = (X[:24], Y[:24]), (X, Y)
    assert first(watch(data=[small], optimizer=pb.optim.adam(3e-3), steps=50)).id == "DAT05"
    assert watch(data=[whole], optimizer=pb.optim.adam(3e-3), steps=50).alarms == ()


def test_a_weight_decay_that_leaves_nothing():
    finding = first(watch(optimizer=pb.optim.adamw(3e-3, weight_decay=50.0)))
    assert (finding.id, "no weight decay" in finding.fix) == ("OBJ08", True)
    assert watch(optimizer=pb.optim.adamw(3e-3, weight_decay=0.1), steps=60).alarms == ()


def test_an_optimiser_that_adds_up_all_gradients():
    inner = pb.optim.sgd(0.3)

    def init(params):
        return map_leaves(lambda p: p * 0, params)

    def update(grads, total, params):
        total = map_leaves(lambda a, b: a + b, total, grads)
        return inner.update(total, inner.init(params), params)[0], total

    finding = first(watch(optimizer=pb.optim.Optimizer(init, update), steps=60))
    assert (finding.id, finding.rule.severity.value) == ("LOOP01", "FAIL")


def test_data_of_another_scale_and_scaled_data_as_they_were_tried():
    far = first(watch(data=batches(x=X + 300.0), steps=60))
    assert (far.id, "variance 1" in far.fix) == ("DAT01", True)

    def square(model, x, y):
        return nn.mse(model(x)[:, 0], y)

    model, target = nn.MLP(32, 1, 32, 1, key=pb.random.key(0)), (X @ CENTRES[0]).astype(np.float32)
    dear = first(watch(model, square, batches(y=5000 + 100 * target), steps=60))
    assert (dear.id, dear.what[:11]) == ("DAT01", "the targets")
    assert watch(model, square, batches(y=target / target.std()), steps=60).alarms == ()


def test_a_schedule_that_takes_the_rate_away():
    lost = pb.optim.adam(pb.optim.exponential(1e-3, 0.5, 2))
    assert first(watch(optimizer=lost, steps=100)).id == "OPT02"


def test_statistics_that_are_thrown_away():
    norm = nn.BatchNorm(32)
    model, begin = {"norm": norm, "net": mlp(1)}, norm.initial_state()

    def lost(model, x, y):
        z, _ = model["norm"](x, begin, train=True)
        return nn.cross_entropy(model["net"](z), y)

    def kept(model, x, y, state):
        z, state = model["norm"](x, state, train=True)
        return nn.cross_entropy(model["net"](z), y), state

    assert first(watch(model, lost, steps=4)).id == "LOOP02"
    assert watch(model, kept, steps=4, network_state=begin).alarms == ()


def test_steps_that_half_precision_rounds_away():
    def half(p, x, y):
        return nn.cross_entropy(x @ p["w"].astype("float32"), y)

    model = {"w": pb.ones((32, 10), dtype="bfloat16")}
    for rate, ids in ((1e-4, {"OPT02"}), (1.0, set())):
        doctor = inspect.Doctor()
        doctor.begin(half, model, pb.optim.sgd(rate))
        for batch in batches()[:3]:
            value, grads = pb.value_and_grad(half)(model, *batch)
            doctor.see(model, batch, loss=value, grads=grads)
        assert {x.id for x in doctor.report().alarms if x.id == "OPT02"} == ids


# ---- what it costs --------------------------------------------------------------------------


def test_what_is_measured_of_a_long_run_goes_on_from_where_it_was():
    course, losses = Course(), (2 + np.cos(np.arange(3000.0)) / np.arange(1, 3001)).tolist()
    for i in range(0, 3000, 7):  # looked at after every seven
        for loss in losses[i : i + 7]:
            course.hear(loss)
        assert course.rise >= 0
    x = np.array(losses)
    assert course.losses.tolist() == losses
    assert (course.is_finite, course.lowest) == (True, x.min())
    assert course.rise == (x[:-2] + x[1:-1] + x[2:]).max() / 3 / x[0]
    course.hear(math.inf)
    assert not course.is_finite
    assert course.rise == (x[:-2] + x[1:-1] + x[2:]).max() / 3 / x[0]


class Thorough(inspect.Doctor):
    """Takes no look to be in vain."""

    def _look(self, case):
        case.calm = NEVER
        return super()._look(case)


class Late:
    """The sizes and losses of 600 steps that learn, and of which something goes wrong late."""

    def __init__(self):
        self.losses = 0.5 + 2 * np.exp(-np.arange(600) / 30) + 0.003 * np.cos(np.arange(600.0) ** 2)
        self.sizes = np.full((600, 2, 4), 1e-2)

    def rises(self):
        self.losses[330:] += 0.7

    def creeps(self):
        self.losses[330:] += np.arange(270) / 200

    def jumps(self):
        self.losses[330:333] *= 12

    def is_not_finite(self):
        self.losses[333] = math.nan

    def steps_vanish(self):
        self.losses += 0.8
        self.sizes[330:, 1] *= 1e-4

    def a_gradient_dies(self):
        self.sizes[330:, :, 2] = 0.0

    def learns(self):
        pass


@pytest.mark.parametrize(
    ("fault", "ids"),
    [
        ("rises", {"OPT03"}),
        ("creeps", {"OPT03"}),
        ("jumps", {"OPT01"}),
        ("is_not_finite", set()),
        ("steps_vanish", {"OPT02"}),
        ("a_gradient_dies", set()),
        ("learns", set()),
    ],
)
def test_a_look_that_is_taken_to_be_in_vain_would_have_found_nothing(fault, ids):
    doctors = [inspect.Doctor(every=25, remedies=False), Thorough(every=25, remedies=False)]
    optimizer, run, names = pb.optim.adam(1e-2), Late(), Names(("a", "b", "c", "d"))
    step = pb.train.train_step(loss, optimizer)
    state = pb.train.TrainState.create(mlp(), optimizer)
    for doctor in doctors:
        doctor.begin(step, state)
    getattr(run, fault)()
    data, calm = batches(), 0
    for i in range(600):
        told = Told(float(run.losses[i]), *run.sizes[i], names)
        said = [doctor.see(state, data[i % 10], told) for doctor in doctors]
        assert said[0] == said[1]
        assert doctors[0]._due == doctors[1]._due
        looked = doctors[0]._looked == i + 1
        calm += looked and doctors[0]._case.calm is not NEVER
        whole = [sorted((x.id, x.what) for x in doctor._signs) for doctor in doctors]
        assert whole[0] == whole[1]
    assert calm > 5
    assert {x.id for x in doctors[0]._signs} == ids


def test_an_experiment_is_owed_until_the_run_bears_it_or_a_report_is_asked_for():
    doctor = inspect.Doctor()
    trained(doctor)
    case = doctor._case
    assert (case.affords(2000), case.owes) == (False, True)
    doctor.report()
    assert not case.owes
    assert case.affords(60)

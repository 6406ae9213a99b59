"""The loop around a step: when it evaluates and ends, what it keeps, how it goes on."""

from __future__ import annotations

import csv
import json
import math
import os
import resource
import signal
import sys
import threading

import numpy as np
import pytest

import pullback as pb
from pullback.data import Crops
from pullback.errors import ArgumentError, DivergedError, FileFormatError, TrainingError
from pullback.train import Checkpoints, DataLoader, Stopped, TrainState, fit, train_step
from pullback.transforms.tree import flatten

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3)).astype(np.float32)
Y = X @ np.ones((3, 1), np.float32)


def loss(model, x, y, key):
    return pb.nn.mse(model(x + 0.01 * pb.random.normal(key, x.shape)), y)


def numbers(state):
    return [x.numpy().copy() for x in flatten(state)[0]]


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(numbers(a), numbers(b), strict=True))


def without_time(rows):
    return [{name: x for name, x in row.items() if name != "seconds"} for row in rows]


OPTIMIZER = pb.optim.adam(1e-2)
STEP = train_step(loss, OPTIMIZER)


def begin(optimizer=OPTIMIZER, width=4, **options):
    model = pb.nn.MLP(3, 1, width, 1, key=pb.random.key(0))
    return TrainState.create(model, optimizer, key=pb.random.key(1), **options)


def loader(batch_size=4, **options):
    return DataLoader((X, Y), batch_size, seed=2, **options)


def validate(state):
    x = pb.asarray(X)
    return {"validation_loss": pb.nn.mse(state.model(x), Y), "size": pb.max(pb.abs(x))}


def run(data=None, *, step=STEP, state=None, **options):
    data = loader() if data is None else data
    state = begin() if state is None else state
    return fit(step, state, data, **{"progress": False, "validate": validate} | options)


# ---- what it does ---------------------------------------------------------------------------


def test_equals_the_plain_loop():
    state, losses = begin(), []
    data = loader()
    for _ in range(2):
        for batch in data:
            state, metrics = STEP(state, *batch)
            losses.append(float(metrics.loss))
    result = run(epochs=2)
    assert equal(result.state, state)
    assert [row["step"] for row in result.history] == [5, 10]
    assert result.history[1]["train_loss"] == pytest.approx(np.mean(losses[5:]), rel=1e-12)
    assert result.stopped is Stopped.FINISHED
    assert (result.steps, result.skipped) == (10, 0)


@pytest.mark.parametrize(
    ("options", "steps", "epochs"),
    [
        ({"epochs": 2}, [5, 10], [1, 2]),
        ({"steps": 7}, [5, 7], [1, 2]),
        ({"steps": 10}, [5, 10], [1, 2]),
        ({"steps": 8, "every": 3}, [3, 6, 8], [1, 2, 2]),
        ({"epochs": 1, "every": 2}, [2, 4, 5], [1, 1, 2]),
        ({"epochs": 1, "steps": 99}, [5], [1]),
    ],
)
def test_when_it_evaluates(options, steps, epochs):
    result = run(**options)
    assert [row["step"] for row in result.history] == steps
    assert [row["epoch"] for row in result.history] == epochs


def test_crops_have_no_epoch():
    tokens = np.arange(50, dtype=np.uint8)
    step = train_step(lambda m, x, y: pb.mean(m.weight) * pb.mean(x * 1.0 + y), OPTIMIZER)
    state = TrainState.create(pb.nn.Linear(2, 2, key=pb.random.key(0)), OPTIMIZER)
    result = run(Crops(tokens, 4, 2), step=step, state=state, steps=5, every=2, validate=None)
    assert [row["step"] for row in result.history] == [2, 4, 5]


def test_the_hooks():
    seen, rows = [], []
    result = run(steps=6, on_step=lambda m: seen.append(float(m.loss)), on_epoch=rows.append)
    assert len(seen) == 6
    assert tuple(rows) == result.history


def test_early_stopping_picks_the_best():
    values = iter([3.0, 1.0, math.nan, 2.0, 0.5])
    states = []

    def measured(state):
        states.append(numbers(state))
        return {"validation_loss": next(values)}

    result = run(epochs=9, validate=measured, patience=2)
    assert result.stopped is Stopped.PATIENCE
    assert (result.best.step, result.best.value, result.steps) == (10, 1.0, 20)
    found = numbers(result.best.state())
    assert all(np.array_equal(x, y) for x, y in zip(found, states[1], strict=True))


def test_the_largest_can_be_the_best(tmp_path):
    values = iter([0.1, 0.7, 0.7, 0.2])
    result = run(
        epochs=4,
        validate=lambda _: {"accuracy": next(values)},
        metric="accuracy",
        mode="max",
        folder=tmp_path,
    )
    assert (result.best.step, result.best.value) == (10, 0.7)
    assert result.best.path == tmp_path / "checkpoints" / "step-00000010.safetensors"
    best = result.best.state()
    assert int(best.step) == 10
    STEP(result.state, X[:4], Y[:4])
    assert equal(result.best.state(), best)  # though the last state was given away


def test_the_training_loss_can_be_the_metric():
    result = run(epochs=3, validate=None, metric="train_loss", patience=1)
    assert result.best.value == min(row["train_loss"] for row in result.history)
    assert run(epochs=1, validate=None).best is None


def test_batches_of_one_thing():
    step = train_step(lambda model, batch: pb.nn.mse(model(batch["x"]), batch["y"]), OPTIMIZER)
    result = run(DataLoader({"x": X, "y": Y}, 4), step=step, steps=2, validate=None)
    assert result.steps == 2


# ---- what it writes -------------------------------------------------------------------------


def test_the_logs(tmp_path):
    result = run(epochs=2, folder=tmp_path, log_every=3)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert tuple(rows) == result.history
    with (tmp_path / "metrics.csv").open() as stream:
        table = [{name: float(x) for name, x in row.items()} for row in csv.DictReader(stream)]
    assert tuple(table) == result.history
    steps = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == [1, 3, 6, 9]
    assert steps[0]["grad_norm"] > 0
    assert "update_ratio layers[1].bias" in steps[0]
    assert len((tmp_path / "steps.csv").read_text().splitlines()) == 5


def test_only_the_logs_asked_for(tmp_path):
    run(steps=2, folder=tmp_path, log=("jsonl",))
    assert sorted(os.listdir(tmp_path)) == ["checkpoints", "metrics.jsonl", "steps.jsonl"]
    run(steps=2, folder=tmp_path / "none", log=())
    assert os.listdir(tmp_path / "none") == ["checkpoints"]


def test_what_is_no_number_is_written_by_its_name(tmp_path):
    values = iter([math.nan, math.inf])
    result = run(epochs=2, validate=lambda _: {"validation_loss": next(values)}, folder=tmp_path)
    assert result.best is None
    assert '"validation_loss": "nan"' in (tmp_path / "metrics.jsonl").read_text()
    again = run(epochs=2, folder=tmp_path, resume=True)
    assert str(again.history) == str(result.history)


def test_the_progress_in_plain_lines(capsys):
    run(epochs=2, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1  step 5/10  train_loss ")
    assert lines[0].endswith("best")


# ---- going on -------------------------------------------------------------------------------


class Unplugged(BaseException):
    """Ends a run without a word, as a kill does."""


def dying(after, kind):
    """A hook that raises at its n-th call."""
    calls = []

    def hook(metrics):
        calls.append(metrics)
        if len(calls) == after:
            raise kind

    return hook


def listed():
    return list(loader(shuffle=False))


@pytest.mark.parametrize("kind", [Unplugged, RuntimeError])
@pytest.mark.parametrize("data", [loader, listed])
@pytest.mark.parametrize("every", [None, 3])
def test_going_on_is_never_having_stopped(tmp_path, kind, data, every):
    options = {"epochs": 4, "log_every": 2, "every": every}
    whole = run(data(), folder=tmp_path / "whole", **options)
    for after in (3, 2, 7, 6, 1):
        dies = {"on_step": dying(after, kind), "folder": tmp_path / "cut", "resume": True}
        with pytest.raises(kind):
            run(data(), **options, **dies)
    result = run(data(), folder=tmp_path / "cut", resume=True, **options)
    assert equal(result.state, whole.state)
    assert result.best.step == whole.best.step
    assert without_time(result.history) == without_time(whole.history)
    for name in ("steps.csv", "steps.jsonl"):
        assert (tmp_path / "cut" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_a_checkpoint_comes_when_it_is_time(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["pullback.train.fit"], "SAVE_SECONDS", 0.0)
    with pytest.raises(Unplugged):
        run(epochs=4, folder=tmp_path, on_step=dying(8, Unplugged))
    assert Checkpoints(tmp_path / "checkpoints").last().step == 8
    assert Checkpoints(tmp_path / "checkpoints").best().step == 5
    assert equal(run(epochs=4, folder=tmp_path, resume=True).state, run(epochs=4).state)


def test_going_on_with_crops_and_a_scaled_loss(tmp_path):
    tokens = np.arange(50, dtype=np.uint8)
    step = train_step(
        lambda m, x, y: pb.mean(m(x[:, :2] * 1.0)) - pb.mean(y * 1.0), OPTIMIZER, precision="fp16"
    )

    def run_for(steps, **options):
        model = pb.nn.Linear(2, 2, key=pb.random.key(0))
        state = TrainState.create(model, OPTIMIZER, precision="fp16")
        data = Crops(tokens, 4, 2)
        options = {"steps": steps, "every": 4, "validate": None} | options
        return run(data, step=step, state=state, **options)

    run_for(3, folder=tmp_path)
    assert equal(run_for(9, folder=tmp_path, resume=True).state, run_for(9).state)


def test_a_longer_run_goes_on_where_a_shorter_one_ended(tmp_path):
    run(epochs=2, folder=tmp_path)
    result = run(epochs=4, folder=tmp_path, resume=True)
    whole = run(epochs=4)
    assert equal(result.state, whole.state)
    assert without_time(result.history) == without_time(whole.history)


def test_a_run_that_has_ended_stays_as_it_is(tmp_path):
    values = iter([1.0, 2.0, 3.0])
    ended = run(epochs=5, validate=lambda _: {"validation_loss": next(values)}, patience=2,
                folder=tmp_path)  # fmt: skip
    again = run(epochs=5, patience=2, folder=tmp_path, resume=True)
    assert again.stopped is ended.stopped is Stopped.PATIENCE
    assert again.history == ended.history
    assert equal(again.state, ended.state)


def test_half_a_line_is_cut_off(tmp_path):
    run(epochs=1, folder=tmp_path)
    for name in ("metrics.csv", "steps.jsonl"):
        with (tmp_path / name).open("a") as stream:
            stream.write("2,1")
    run(epochs=2, folder=tmp_path, resume=True)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[2].startswith("2,10,")
    assert [json.loads(x)["step"] for x in (tmp_path / "steps.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_text("epoch")])
def test_a_log_that_was_changed_is_told(tmp_path, damage):
    run(epochs=1, folder=tmp_path)
    damage(tmp_path / "metrics.csv")
    with pytest.raises(FileFormatError, match="is not as the run left it"):
        run(epochs=2, folder=tmp_path, resume=True)
    assert run(epochs=2, folder=tmp_path, resume=True, log=()).steps == 10


def test_a_function_is_not_another_because_it_lies_elsewhere(tmp_path):
    def made():
        @pb.custom_derivative
        def square(x):
            return x * x

        square.defvjp(lambda x: (x * x, x), lambda x, bar: (2 * x * bar,))
        return train_step(lambda model, x, y: pb.mean(square(model(x) - y)), OPTIMIZER)

    run(step=made(), steps=2, folder=tmp_path)
    assert run(step=made(), steps=4, folder=tmp_path, resume=True).steps == 4


# ---- Ctrl-C ---------------------------------------------------------------------------------


@pytest.fixture
def usual_interrupt():
    """Where the tests run in the background Ctrl-C is ignored, and would be here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupting(at):
    calls = []

    def hook(metrics):
        calls.append(metrics)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGINT)

    return hook


@pytest.mark.usefixtures("usual_interrupt")
def test_ctrl_c_saves_and_returns(tmp_path, capfd):
    result = run(epochs=4, folder=tmp_path, on_step=interrupting(7), progress=True)
    assert result.stopped is Stopped.INTERRUPTED
    assert result.steps == 7
    assert Checkpoints(tmp_path / "checkpoints").last().step == 7
    assert "Ctrl-C again" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert equal(run(epochs=4, folder=tmp_path, resume=True).state, run(epochs=4).state)


@pytest.mark.usefixtures("usual_interrupt")
def test_a_second_ctrl_c_ends_at_once(tmp_path):
    def hook(_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(epochs=4, folder=tmp_path, on_step=hook)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_handler_stays():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append("mine"))
    try:
        assert run(steps=5, on_step=interrupting(2)).stopped is Stopped.FINISHED
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup, or in the background
        assert run(steps=5, on_step=interrupting(2)).stopped is Stopped.FINISHED
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["mine"]


def test_in_another_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(run(steps=3)))
    thread.start()
    thread.join()
    assert results[0].steps == 3


# ---- numbers that are none ------------------------------------------------------------------


def with_nan(at):
    batches = listed()
    batches[at] = (batches[at][0] * np.float32(np.nan), batches[at][1])
    return batches


def test_a_loss_that_is_no_number_ends_the_run_with_the_last_good_state(tmp_path):
    with pytest.raises(DivergedError, match="the loss is nan at step 4, in epoch 1") as caught:
        run(with_nan(3), epochs=4, folder=tmp_path)
    result = caught.value.result
    good = run(listed(), steps=3)
    assert (result.stopped, result.steps) == (Stopped.FAILED, 3)
    assert equal(result.state, good.state)
    kept = Checkpoints(tmp_path / "checkpoints")
    assert equal(kept.load(kept.last(), begin())[0], good.state)
    assert "of step 3" in caught.value.__notes__[0]


def test_a_gradient_that_is_no_number_names_the_parameter():
    step = train_step(lambda model, x: pb.sum(pb.sqrt(model.weight * 0.0)) + 0 * x.sum(), OPTIMIZER)
    state = TrainState.create(pb.nn.Linear(3, 1, key=pb.random.key(0)), OPTIMIZER)

    def broken(state, x):
        new, metrics = step(state, x)
        sizes = pb.zeros((4, 2)).at[0, 0].set(math.inf)
        return new, metrics.replace(skipped=pb.asarray(True), sizes=sizes)

    broken.lower = step.lower
    with pytest.raises(DivergedError, match=r"its gradient is not finite \(weight\) at step 1"):
        run([X], step=broken, state=state, steps=3, validate=None)


def test_skipped_steps_of_a_scaled_loss_are_counted(tmp_path):
    step = train_step(loss, OPTIMIZER, precision="fp16")
    big = [(x * np.float32(1e4), y) if i == 1 else (x, y) for i, (x, y) in enumerate(listed())]
    result = run(big, step=step, state=begin(precision="fp16"), epochs=2, folder=tmp_path)
    assert result.skipped >= 2
    assert sum(row["skipped"] for row in result.history) == result.skipped
    assert math.isfinite(result.history[0]["train_loss"])
    assert str(result.skipped) + " skipped" in repr(result)


def test_a_scale_that_helps_no_more():
    step = train_step(loss, OPTIMIZER, precision="fp16")
    with pytest.raises(DivergedError, match="as in the 30 before"):
        run([with_nan(0)[0]], step=step, state=begin(precision="fp16"), steps=99)


# ---- a full disk ----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [3_000, 600])
def test_a_full_disk_loses_nothing(tmp_path, limit):
    """Files may grow to `limit` bytes: too few for a checkpoint, or for a log as well."""
    whole = run(epochs=6, log_every=1)
    run(epochs=1, folder=tmp_path, log_every=1)
    before = {p: p.read_bytes() for p in tmp_path.glob("**/*.*")}
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, usual[1]))
    try:
        with pytest.raises(TrainingError, match="the run stops at step") as caught:
            run(epochs=6, folder=tmp_path, resume=True, log_every=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert caught.value.result.steps > 5
    assert all(p.exists() and p.read_bytes().startswith(x) for p, x in before.items())
    for path in tmp_path.glob("*.*"):
        assert path.read_text().endswith("\n")
    assert equal(run(epochs=6, folder=tmp_path, resume=True, log_every=1).state, whole.state)


# ---- another run ----------------------------------------------------------------------------


OTHERS = {
    "batch size": (ArgumentError, lambda: {"data": loader(5)}),
    "data": (ArgumentError, lambda: {"data": DataLoader((X + 1, Y), 4, seed=2)}),
    "order": (ArgumentError, lambda: {"data": DataLoader((X, Y), 4, seed=3)}),
    "learning rate": (ArgumentError, lambda: {"step": train_step(loss, pb.optim.adam(1e-3))}),
    "clipping": (ArgumentError, lambda: {"step": train_step(loss, OPTIMIZER, clip=1.0)}),
    "optimiser": (TypeError, lambda: {"state": begin(pb.optim.sgd(0.1))}),
    "model": (ValueError, lambda: {"state": begin(width=5)}),
    "configuration": (ArgumentError, lambda: {"config": {"seed": 1}}),
    "metric": (ArgumentError, lambda: {"metric": "size"}),
    "evaluations": (ArgumentError, lambda: {"every": 2}),
    "generator": (ArgumentError, lambda: {"data": iter(loader())}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_run_is_refused(tmp_path, name):
    run(epochs=1, folder=tmp_path, config={"seed": 0})
    before = {p: p.read_bytes() for p in tmp_path.glob("**/*.*")}
    kind, other = OTHERS[name]
    with pytest.raises(kind):
        run(**{"epochs": 2, "folder": tmp_path, "config": {"seed": 0}, "resume": True} | other())
    assert {p: p.read_bytes() for p in tmp_path.glob("**/*.*")} == before


def test_a_folder_with_a_run_is_not_begun_anew(tmp_path):
    run(epochs=1, folder=tmp_path)
    with pytest.raises(ArgumentError, match="holds a run"):
        run(epochs=1, folder=tmp_path)


def test_a_foreign_file_is_left_alone(tmp_path):
    (tmp_path / "metrics.csv").write_text("years of work")
    with pytest.raises(ArgumentError, match="did not write"):
        run(epochs=1, folder=tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == "years of work"

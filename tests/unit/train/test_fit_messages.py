"""What `fit` says of senseless arguments, of data that gives no batch, and of other runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pullback as pb
from goldens import without_places
from pullback.data import Crops
from pullback.errors import PullbackError
from pullback.train import DataLoader, TrainState, fit, save, train_step

nn = pb.nn
X = np.arange(24, dtype=np.float32).reshape(8, 3) / 24
Y = X[:, :1]
OPTIMIZER = pb.optim.sgd(0.1)


def loss(model, x, y):
    return nn.mse(model(x), y)


STEP = train_step(loss, OPTIMIZER)


def state(optimizer=OPTIMIZER, inputs=3):
    return TrainState.create(nn.Linear(inputs, 1, key=pb.random.key(0)), optimizer)


def loader(batch_size=2, x=X, **options):
    return DataLoader((x, Y), batch_size, **options)


def run(data=None, step=STEP, **options):
    data = loader() if data is None else data
    return lambda: fit(step, state(), data, **{"progress": False, "steps": 3} | options)


def measured(**row):
    return {"validate": lambda _: row}


def again(begin=None, **options):
    """A run of two steps, and the same run taken up with something else."""

    def both():
        begun = {"steps": 2, "folder": "run", "config": {"seed": 0}}
        run(begin, **begun)()
        first = {"data": loader(), "step": STEP, "state": state()}
        changed = begun | {"steps": 4, "resume": True, "progress": False} | options
        fit(**{name: changed.pop(name, x) for name, x in first.items()}, **changed)

    return both


def changing():
    rows = iter([{"validation_loss": 1.0}, {"validation_loss": 1.0, "accuracy": 0.5}])
    return run(every=1, validate=lambda _: next(rows))


def finished_file():
    save("run/checkpoints/step-00000003.safetensors", state(), step=3, metric=None, notes={})


def foreign_checkpoint():
    run(folder="run")()
    finished_file()
    run(folder="run", resume=True)()


class NoPosition:
    """Batches as any user might give them."""

    def __iter__(self):
        return iter([(X, Y)])

    def __len__(self):
        return 1


CASES = {
    "no length": run(steps=None),
    "steps=0": run(steps=0),
    "steps is no integer": run(steps=1.5),
    "epochs=0": run(epochs=0),
    "epochs=True": run(epochs=True),
    "negative patience": run(patience=-1, **measured(validation_loss=1.0)),
    "patience=0": run(patience=0, **measured(validation_loss=1.0)),
    "every=0": run(every=0),
    "log_every=0": run(log_every=0),
    "patience without validation": run(patience=2),
    "metric without validation": run(metric="accuracy"),
    "unknown mode": run(mode="lowest"),
    "unknown metric": run(metric="validation_los", **measured(validation_loss=1.0)),
    "another metric": run(metric="f1", **measured(accuracy=1.0)),
    "log is a text": run(log="csv"),
    "unknown log": run(log=("csv", "tensorboard")),
    "keep=0": run(folder="run", keep=0),
    "step is no function": run(step=OPTIMIZER),
    "step returns the state": run(step=lambda state, *batch: state),
    "validate is no function": run(validate={"validation_loss": 1.0}),
    "validate returns a number": run(validate=lambda _: 0.5),
    "validate returns a text": run(**measured(validation_loss="low")),
    "validate returns an array": run(**measured(validation_loss=np.ones(2))),
    "validate returns a taken name": run(**measured(validation_loss=1.0, step=3)),
    "validate changes its mind": changing(),
    "resume without a folder": run(resume=True),
    "config is no plain data": run(folder="run", config={"a": np.ones(2)}),
    "data is an array": run(data=X),
    "data is a dict": run(data={"x": X}),
    "data is a number": run(data=3),
    "no batch": run(data=[]),
    "generator without a batch": run(data=iter([])),
    "generator that ends early": run(data=iter([(X, Y), (X, Y)])),
    "no end and no every": run(data=Crops(np.arange(9), 2, 2), folder="run"),
    "batch of another size": run(data=[(X, Y), (X[:, :2], Y)], steps=2),
    "loss is NaN": run(data=[(X, Y), (X * np.nan, Y)]),
    "other batch size": again(data=loader(4)),
    "other number of batches": again(data=[(X, Y)], begin=[(X, Y), (X, Y)]),
    "other seed": again(data=loader(seed=5)),
    "one other number": again(data=loader(x=np.minimum(X, 0.92))),
    "other batches of them": again(data=loader(transform=lambda xy: (xy[0] + 1, xy[1]))),
    "other optimiser": again(state=state(pb.optim.adam(0.1))),
    "other learning rate": again(step=train_step(loss, pb.optim.sgd(0.2))),
    "other model": again(state=state(inputs=4)),
    "other configuration": again(config={"seed": 1}),
    "other evaluations": again(every=2),
    "other best": again(metric="train_loss"),
    "no position": again(data=NoPosition()),
    "a run is there": lambda: (run(folder="run")(), run(folder="run")()),
    "a foreign checkpoint": foreign_checkpoint,
    "a folder for a log": lambda: (
        Path("run/metrics.csv/x").mkdir(parents=True),
        run(folder="run")(),
    ),
    "a foreign log": lambda: (Path("metrics.csv").write_text("mine"), run(folder=".")()),
    "a log that is gone": lambda: (
        run(folder="run")(),
        Path("run/steps.csv").unlink(),
        run(folder="run", resume=True)(),
    ),
    "a file for a folder": run(folder="file"),
}


def test_the_texts(golden, tmp_path, monkeypatch):
    texts = []
    for i, (name, case) in enumerate(CASES.items()):
        place = tmp_path / str(i)
        place.mkdir()
        monkeypatch.chdir(place)
        (place / "file").write_text("")
        with pytest.raises(PullbackError) as caught:
            case()
        lines = [str(caught.value), *getattr(caught.value, "__notes__", [])]
        message = without_places("\n".join(lines)).replace("fit at tests/unit/train/", "fit at ")
        texts.append(f"---- {name}\n{type(caught.value).__name__}: {message.rstrip()}\n")
    golden("errors/fit", "\n".join(texts))

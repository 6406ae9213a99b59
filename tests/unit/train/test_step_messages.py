"""What is said of a training step that cannot be: one line a case in a golden text."""

from __future__ import annotations

import re

import numpy as np
import pytest

import pullback as pb
from goldens import without_places
from pullback.errors import PullbackError
from pullback.train import LossScale, TrainState, eval_step, train_step

KEY = pb.random.key(0)
SGD, ADAM = pb.optim.sgd(0.1), pb.optim.adam(0.1)
X, Y = np.ones((8, 3), np.float32), np.arange(8) % 2


def model(outputs=2, **options):
    return pb.nn.Linear(3, outputs, key=KEY, **options)


def loss(model, x, y):
    return pb.nn.cross_entropy(model(x), y)


def of_each(model, x, y):
    return pb.nn.cross_entropy(model(x), y, reduction="none")


def counted(model, x, y):
    return (model(x).argmax(-1) == y).sum()


def with_aux(model, x, y):
    return loss(model, x, y), {"x": x}


def in_a_list(model, x, y):
    return [loss(model, x, y)]


def nothing(model, x, y):
    loss(model, x, y)


def drawn(model, x, y, *, key):
    return loss(model, x, y)


def stateful(model, x, y, *, state):
    return loss(model, x, y), state


def state_forgotten(model, x, y, *, state):
    return loss(model, x, y)


def state_changed(model, x, y, *, state):
    return loss(model, x, y), {"mean": state["mean"].sum()}


def state_renamed(model, x, y, *, state):
    return loss(model, x, y), {"average": state["mean"]}


NET = {"mean": np.zeros(3, np.float32)}
TWICE = pb.ones((2, 2))


def made(network=None, optimizer=SGD, **options):
    return lambda: TrainState.create(model() if network is None else network, optimizer, **options)


def stepped(f=loss, optimizer=SGD, batch=(X, Y), state=None, **options):
    def run():
        step = train_step(f, optimizer, **options)
        step((state or made())(), *batch)

    return run


def changes_its_state():
    grows = pb.optim.Optimizer(
        lambda params: pb.zeros((1,)),
        lambda grads, state, params: (grads, pb.concat([state, state])),
    )
    stepped(optimizer=grows, state=made(optimizer=grows))()


CASES = {
    "loss of each example": stepped(of_each),
    "loss that is a count": stepped(counted),
    "loss that is a pair without has_aux": stepped(with_aux),
    "loss in a list": stepped(in_a_list),
    "no loss": stepped(nothing),
    "has_aux and no pair": stepped(has_aux=True),
    "loss that is no function": stepped(3),
    "too few arrays": stepped(batch=(X,)),
    "too many arrays": stepped(batch=(X, Y, Y)),
    "text in a batch": stepped(batch=("x", Y)),
    "empty batch": stepped(batch=(X[:0], Y[:0])),
    "batch that does not divide": stepped(accumulate=3),
    "batch of two sizes": stepped(batch=(X, Y[:6]), accumulate=2),
    "batch that does not fit the model": stepped(batch=(X[:, :2], Y)),
    "accumulate 0": stepped(accumulate=0),
    "accumulate True": stepped(accumulate=True),
    "accumulate 1.5": stepped(accumulate=1.5),
    "clip 0": stepped(clip=0),
    "clip negative": stepped(clip=-1.0),
    "clip NaN": stepped(clip=float("nan")),
    "clip infinite": stepped(clip=float("inf")),
    "clip a text": stepped(clip="1"),
    "precision half": stepped(precision="half"),
    "precision bfloat16": stepped(precision="bfloat16"),
    "precision 16": stepped(precision=16),
    "precision of a state": made(precision="int8"),
    "threads 0": stepped(threads=0),
    "memory that is no number": stepped(memory="much"),
    "memory too little": stepped(memory=100),
    "optimizer that is its maker": stepped(optimizer=pb.optim.sgd),
    "optimizer that is a rate": made(optimizer=0.1),
    "optimizer of another state": stepped(optimizer=ADAM),
    "optimizer of another model": stepped(
        optimizer=ADAM,
        state=lambda: made(optimizer=ADAM)().replace(model=model(5)),
    ),
    "optimizer that changes its state": changes_its_state,
    "a model instead of a state": stepped(state=model),
    "a state that was given away": lambda: [
        train_step(loss, SGD)(state, X, Y) for state in [made()()] for _ in range(2)
    ],
    "parameters in float64": made(model(dtype=pb.float64)),
    "parameters in bfloat16": made(model(dtype=pb.bfloat16), precision="bf16"),
    "parameters in float32 for fp64": made(precision="fp64"),
    "all frozen": made(pb.nn.freeze(model())),
    "no parameters": made(pb.nn.relu),
    "no arrays": made({}),
    "an array twice": made({"a": TWICE, "b": TWICE}),
    "key missing": stepped(drawn),
    "key that is a seed": made(key=3),
    "key of floats": made(key=np.zeros(2)),
    "network state missing": stepped(stateful),
    "network state not wanted": stepped(state=made(network_state=NET)),
    "network state not returned": stepped(state_forgotten, state=made(network_state=NET)),
    "network state of another shape": stepped(state_changed, state=made(network_state=NET)),
    "network state of another structure": stepped(state_renamed, state=made(network_state=NET)),
    "network state that is no array": made(network_state={"mean": "0"}),
    "fp16 without a scale": stepped(precision="fp16"),
    "scale that is a number": made(precision="fp16", loss_scale=1024.0),
    "scale 0": lambda: LossScale(initial=0),
    "scale too large": lambda: LossScale(initial=2.0**30),
    "scale that never grows": lambda: LossScale(growth_interval=0),
    "scale that shrinks": lambda: LossScale(factor=0.5),
    "evaluation of nothing": lambda: eval_step(None),
    "evaluation in another precision": lambda: eval_step(loss, precision="fp8"),
    "evaluation of too few arrays": lambda: eval_step(loss)(made()(), X),
    "evaluation of a model without its state": lambda: eval_step(stateful)(model(), X, Y),
    "evaluation that wants a key": lambda: eval_step(drawn)(made()(), X, Y),
}


@pytest.mark.parametrize("name", CASES)
def test_it_names_the_users_line(name):
    with pytest.raises(PullbackError) as raised:
        CASES[name]()
    frame = raised.value.site.frame
    assert frame is not None
    assert frame.file.endswith("test_step_messages.py"), str(raised.value)


def test_messages(golden):
    blocks = []
    for name, act in CASES.items():
        with pytest.raises(PullbackError) as raised:
            act()
        blocks.append(f"## {name}\n{type(raised.value).__name__}: {raised.value}")
    text = re.sub(r" at 0x[0-9a-f]+", "", without_places("\n\n".join(blocks)))
    golden("errors/training_step", text)

"""The contract of a user's own model on the command line."""

from __future__ import annotations

import sys

import pytest

import pullback as pb
from pullback.cli.subject import find
from pullback.errors import ArgumentError

GOOD = """
import helper
import pullback as pb

def loss(model, x, y):
    return pb.nn.mse(model(x), y)

def make(batch=4):
    model = pb.nn.Linear(3, 1, key=pb.random.key(0))
    return model, loss, (pb.ones((batch, 3)), pb.zeros((batch, helper.OUT)))

def trained():
    return *make(), pb.optim.sgd(0.1)

class Made:
    model, loss_fn, batch, network_state = 1, print, pb.ones(3), 7
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helper.py").write_text("OUT = 1")
    (tmp_path / "net.py").write_text(GOOD)
    return tmp_path


def test_a_tuple_an_object_and_the_number_of_examples(folder):
    plain, sized, trained = find("net.py")(), find("net.py:make")(9), find("net:trained")()
    assert [x.shape for x in plain.batch] == [(4, 3), (4, 1)]
    assert sized.batch[0].shape == (9, 3)
    assert plain.optimizer is None
    assert isinstance(trained.optimizer, pb.optim.Optimizer)
    made = find("net.py:Made")()
    assert (made.network_state, len(made.batch)) == (7, 1)


@pytest.mark.parametrize(
    ("text", "source", "said"),
    [
        ("", "none.py", "there is no file 'none.py'"),
        ("def other(): pass", "bad.py", "has no function 'make', and took no step of pb"),
        ("make = 3", "bad.py", "bad.py is no function but a int"),
        ("import no_such_module", "bad.py", "No module named 'no_such_module'"),
        ("def make():\n    return 1 / 0", "bad.py", "bad.py:2: ZeroDivisionError: division"),
        ("def make(): return 1, 2", "bad.py", "returned a tuple of 2\n    it returns (model,"),
        ("def make(): return None", "bad.py", "a NoneType without model and loss_fn and batch"),
        ("def make(): return 1, 2, 3", "bad.py", "the loss_fn of bad.py is no function but a int"),
        ("def make(): return 1, id, 3, 4", "bad.py", "the optimizer of bad.py is no Optimizer"),
        ("", "no_such.thing:make", "No module named 'no_such'"),
    ],
)
def test_what_breaks_the_contract_is_told(folder, text, source, said):
    (folder / "bad.py").write_text(text)
    with pytest.raises(ArgumentError) as error:
        find(source)()
    assert said in str(error.value)


# ---- scripts --------------------------------------------------------------------------------

TRAINING = """
import sys
from contextlib import suppress
import numpy as np
import pullback as pb
from pullback import nn

def loss(model, x, y, *, state):
    return nn.mse(model(x), y), (state + 1, "aux")

if __name__ == "__main__":
    rows = int(sys.argv[1])
    model, optimizer = nn.Linear(3, 1, key=pb.random.key(0)), pb.optim.sgd(0.1)
    state = pb.train.TrainState.create(model, optimizer, network_state=pb.asarray(0))
    step = pb.train.train_step(loss, optimizer, has_aux=True)
    print("begins")
    with suppress(Exception):
        for _ in range(3):
            state, metrics = step(state, np.ones((rows, 3)), np.zeros((rows, 1)))
    open("trained", "w").close()
"""


def test_a_script_is_run_up_to_its_first_step(folder, capsys):
    (folder / "train.py").write_text(TRAINING)
    before = sys.argv[:], sys.path[:]
    subject = find("train.py", ["7"])()
    assert [x.shape for x in subject.batch] == [(7, 3), (7, 1)]
    assert isinstance(subject.optimizer, pb.optim.Optimizer)
    value, state = subject.loss_fn(subject.model, *subject.batch, state=subject.network_state)
    assert value.shape == ()
    assert int(state) == 1
    assert (sys.argv[:], sys.path[:]) == before
    assert not (folder / "trained").exists()
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "begins\n")


def test_steps_outside_are_not_caught(folder):
    (folder / "train.py").write_text(TRAINING)
    find("train.py", ["7"])()
    optimizer = pb.optim.sgd(0.1)
    step = pb.train.train_step(lambda m, x: pb.mean(m(x)), optimizer)
    state = pb.train.TrainState.create(nn_model(), optimizer)
    assert int(step(state, pb.ones((2, 3)))[0].step) == 1


def nn_model():
    return pb.nn.Linear(3, 1, key=pb.random.key(0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "has no function 'make', and took no step of pb.train.train_step"),
        ("x = 1\nx / 0", "net.py:2: ZeroDivisionError"),
        ("import sys\nsys.exit('no data')", "RuntimeError: it ended itself with 'no data'"),
        ("def", "SyntaxError"),
    ],
)
def test_a_script_without_a_step_is_told(folder, text, said):
    (folder / "net.py").write_text(text)
    with pytest.raises(ArgumentError) as error:
        find("net.py")()
    assert said in str(error.value)


def test_a_function_has_no_arguments(folder):
    with pytest.raises(ArgumentError, match="is a function, which has no arguments: '3'"):
        find("net.py:make", ["3"])

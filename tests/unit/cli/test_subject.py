"""The contract of a user's own model on the command line."""

from __future__ import annotations

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
        ("def other(): pass", "bad.py", "bad.py has no function 'make'\n    it has other"),
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

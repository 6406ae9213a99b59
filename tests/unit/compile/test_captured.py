"""Arrays that a compiled function captures: what it sees when a name is bound anew."""

from __future__ import annotations

import dataclasses
import functools
import types

import numpy as np
import pytest

import pullback as pb

SCALE = pb.asarray([1.0, 2.0])
TABLES = types.ModuleType("tables")
TABLES.scale = SCALE


@dataclasses.dataclass(slots=True)
class Slotted:
    w: pb.Array


class Model:
    def __init__(self, w):
        self.w = w

    def scaled(self, x):
        return x * self.w


def through_the_closure():
    w = pb.asarray([1.0, 2.0])

    def bind(new):
        nonlocal w
        w = new

    return lambda x: x * w, bind


def through_a_closure_of_a_transform():
    w = pb.asarray([1.0, 2.0])

    def bind(new):
        nonlocal w
        w = new

    return pb.grad(lambda x: pb.sum(x * x * w) / 2), bind


def through_a_global():
    bind = functools.partial(globals().__setitem__, "SCALE")
    return lambda x: x * SCALE, bind


def through_a_function_that_it_calls():
    f, bind = through_a_global()
    return (lambda x: f(x) + 0), bind


def through_a_compiled_function():
    f, bind = through_the_closure()
    inner = pb.compile(f)
    return (lambda x: inner(x) + 0), bind


def through_a_module():
    TABLES.scale = pb.asarray([1.0, 2.0])
    return lambda x: x * TABLES.scale, functools.partial(setattr, TABLES, "scale")


def through_an_attribute():
    model = Model(pb.asarray([1.0, 2.0]))
    return model.scaled, functools.partial(setattr, model, "w")


def through_a_slot():
    model = Slotted(pb.asarray([1.0, 2.0]))
    return lambda x: x * model.w, functools.partial(setattr, model, "w")


def through_an_item():
    params = {"layers": [pb.asarray([1.0, 2.0])]}
    return lambda x: x * params["layers"][0], functools.partial(params["layers"].__setitem__, 0)


def through_a_partial_function():
    model = Model(pb.asarray([1.0, 2.0]))
    return functools.partial(lambda m, x: x * m.w, model), functools.partial(setattr, model, "w")


def through_a_default():
    model = Model(pb.asarray([1.0, 2.0]))

    def f(x, *, m=model):
        return x * m.w

    return f, functools.partial(setattr, model, "w")


WAYS = [f for name, f in list(globals().items()) if name.startswith("through")]


@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("make", [pb.asarray, np.asarray], ids=["array", "numpy"])
def test_a_name_bound_anew_is_seen_and_compiles_nothing(way, make):
    f, bind = way()
    bind(make([1.0, 2.0]))
    compiled = pb.compile(f)
    x = np.array([1.0, 10.0])
    assert compiled(x).tolist() == [1, 20]
    program = compiled.lower(x).program
    bind(make([3.0, 4.0]))
    assert compiled(x).tolist() == [3, 40]
    assert compiled(x).tolist() == [3, 40]
    assert compiled.lower(x).program is program
    bind(make([5.0]))
    assert compiled(x).tolist() == [5, 50]
    bind(make([7.0, 8.0]))
    assert compiled(x).tolist() == [7, 80]


def test_an_array_given_back_is_the_one_captured_last():
    f, bind = through_the_closure()
    g = f.__closure__[0].cell_contents
    same = pb.compile(lambda: f.__closure__[0].cell_contents)
    assert same() is g
    bind(new := pb.asarray([3.0, 4.0]))
    assert same() is new

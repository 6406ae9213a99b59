"""Functions with other numbers share their code; a long module is compiled in two parts."""

from __future__ import annotations

import ctypes
import re

import numpy as np
import pytest

from pullback.backend.assembly import Function, Module, integer
from pullback.backend.halves import halves
from pullback.backend.jit import Library, compile_module, split
from pullback.backend.sharing import share
from pullback.backend.target import Target
from pullback.errors import CompileError

SIZES = ((5, 1), (7, 3), (6, 4))


def filled(name: str, size: int, step: int, count: int = 1) -> Function:
    """x[step · i] += size for i < size, `count` times."""
    f = Function(name, [("ptr", "operands"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    x = f.load("ptr", f.parameters[0], 8)
    for _ in range(count):
        with f.loop(integer(0), integer(size)) as loop:
            place = f.at(x, "i64", f.binary("mul", loop.index, integer(step)))
            old = f.load("i64", place, 8)
            f.store(f.binary("add", old, integer(size)), place, 8)
    f.finish()
    return f


def module_of(count: int) -> Module:
    module = Module()
    for i, (size, step) in enumerate(SIZES):
        module.add(filled(f"fill{i}", size, step, count), exported=True)
    return module


def results(text: str) -> list[np.ndarray]:
    names = [f"fill{i}" for i in range(len(SIZES))]
    library = Library(compile_module(text, Target.host()), names)
    made = []
    for name in names:
        x = np.zeros(32, np.int64)
        table = (ctypes.c_void_p * 1)(x.ctypes.data)
        kinds = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        library.function(name, *kinds)(ctypes.addressof(table), 0, 1, None)
        made.append(x)
    return made


def test_functions_with_other_numbers_become_one():
    module = module_of(4)
    before = results(str(module))
    share(module)
    text = str(module)
    assert len(re.findall("^define", text, re.MULTILINE)) == 1 + len(SIZES)
    assert text.count(" mul ") == 4
    for (size, step), x, y in zip(SIZES, before, results(text), strict=True):
        expected = np.zeros(32, np.int64)
        expected[: size * step : step] = 4 * size
        np.testing.assert_array_equal(x, expected)
        np.testing.assert_array_equal(y, expected)


def test_short_functions_stay_as_they_are():
    module = module_of(1)
    text = str(module)
    share(module)
    assert str(module) == text


def test_a_long_module_has_two_parts_that_call_each_other():
    module = module_of(40)
    share(module)
    for i in range(6):
        module.add(filled(f"other{i}", 3 + i, 2, 10 + i), exported=True)
    text = str(module)
    first, second = halves(text)
    lines = [part.count("\n") for part in (first, second)]
    assert max(lines) < 2 * min(lines)
    assert len(split(compile_module(text, Target.host()))) == 2
    for (size, step), x in zip(SIZES, results(text), strict=True):
        assert x[0] == 40 * size
        assert x.sum() == 40 * size * size
        assert x[step] == 40 * size


def test_a_refusal_names_the_line_of_the_whole_text():
    text = str(module_of(40)).replace("mul i64", "mull i64", 1)
    number = 1 + next(i for i, line in enumerate(text.splitlines()) if "mull" in line)
    with pytest.raises(CompileError, match=f"line {number}:"):
        compile_module(text, Target.host())

"""Promotion, operators, and the names users call."""

from __future__ import annotations

import operator

import numpy as np
import pytest

import pullback as pb
from pullback.errors import DTypeError, ShapeError


def array(dtype, *values):
    return pb.asarray(np.array(values or (1, 2), dtype))


PROMOTION = [
    ("float32", 2, "float32"),
    ("float32", 2.5, "float32"),
    ("float16", 2.5, "float16"),
    ("bfloat16", 2.5, "bfloat16"),
    ("int8", 2, "int8"),
    ("int8", 2.5, "float32"),
    ("bool", 2, "int64"),
    ("bool", 2.5, "float32"),
    ("float32", np.sqrt(64), "float32"),
    ("bfloat16", np.float64(2), "bfloat16"),
    ("int8", np.int64(2), "int8"),
    ("float32", np.int64(2), "float32"),
    ("int32", np.float64(2), "float64"),
    ("bfloat16", array("float16"), "float32"),
    ("float32", array("float64"), "float64"),
    ("int64", array("float32"), "float32"),
    ("bool", array("int8"), "int8"),
    ("uint8", array("int8"), "int16"),
    ("uint32", array("int64"), "int64"),
]


@pytest.mark.parametrize(("left", "right", "result"), PROMOTION, ids=str)
def test_promotion(left, right, result):
    dtype = getattr(pb, left)
    expected = getattr(pb, result)
    numpy = np.array([1, 2], dtype)
    for x in (pb.asarray(numpy), numpy):
        assert pb.add(x, right).dtype == expected
        assert pb.multiply(right, x).dtype == expected
    assert pb.where(np.array([True, False]), numpy, right).dtype == expected
    assert (pb.asarray(numpy) + right).dtype == (right + pb.asarray(numpy)).dtype == expected


def test_scalars_alone():
    assert pb.add(1, 2).dtype == pb.int64
    assert pb.add(1, 2.0).dtype == pb.float32
    assert pb.add(np.float64(1), 2.0).dtype == pb.float64
    assert pb.exp(np.float64(1)).dtype == pb.float64
    assert pb.exp(1).dtype == pb.float32


def test_no_common_type():
    with pytest.raises(DTypeError, match="no common integer type"):
        array("uint64") + array("int64")
    with pytest.raises(DTypeError, match="does not fit"):
        array("uint8") + 300
    with pytest.raises(DTypeError):
        array("bool") + array("bool")
    with pytest.raises(DTypeError):
        array("float32") & array("float32")
    with pytest.raises(DTypeError):
        pb.where(np.array([1, 0]), 1.0, 2.0)


def test_bools():
    x, y = array("bool", True, True, False, False), array("bool", True, False, True, False)
    assert (x & y).tolist() == [True, False, False, False]
    assert (x | y).tolist() == [True, True, True, False]
    assert (x ^ y).tolist() == [False, True, True, False]
    assert (~x).tolist() == pb.logical_not(x).tolist() == [False, False, True, True]
    assert (x + 1).tolist() == [2, 2, 1, 1]
    number = array("float32", 2.0, np.nan, 0.0, -0.0)
    assert pb.logical_and(number, x).tolist() == [True, True, False, False]
    assert pb.logical_or(number, 0).tolist() == [True, True, False, False]
    assert pb.logical_xor(number, y).tolist() == [False, True, True, False]


FLOAT_OPERATORS = [
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
]
BIT_OPERATORS = ["and_", "or_", "xor", "lshift", "rshift", "floordiv", "mod"]


@pytest.mark.parametrize("name", FLOAT_OPERATORS)
def test_float_operators(name):
    f = getattr(operator, name)
    x, y = np.array([1.5, -2.5, 3.0]), np.array([2.0, 3.0, -2.0])
    expected = f(x, y)
    for left, right in ((pb.asarray(x), pb.asarray(y)), (pb.asarray(x), y), (x, pb.asarray(y))):
        result = f(left, right)
        assert isinstance(result, pb.Array)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-15)
    np.testing.assert_allclose(f(2.0, pb.asarray(y)).numpy(), f(2.0, y), rtol=1e-15)
    np.testing.assert_allclose(f(pb.asarray(y), 2.0).numpy(), f(y, 2.0), rtol=1e-15)


@pytest.mark.parametrize("name", BIT_OPERATORS)
def test_bit_operators(name):
    f = getattr(operator, name)
    x, y = np.array([12, -7, 5], np.int32), np.array([2, 3, 1], np.int32)
    np.testing.assert_array_equal(f(pb.asarray(x), pb.asarray(y)).numpy(), f(x, y))
    np.testing.assert_array_equal(f(9, pb.asarray(y)).numpy(), f(np.int32(9), y))
    np.testing.assert_array_equal(f(pb.asarray(x), 3).numpy(), f(x, np.int32(3)))


def test_unary_operators():
    x = array("float64", -1.5, 2.0)
    assert ((-x).tolist(), (+x).tolist(), abs(x).tolist()) == ([1.5, -2.0], [-1.5, 2.0], [1.5, 2.0])
    assert (~array("int8", 0, 5)).tolist() == [-1, -6]
    with pytest.raises(TypeError):
        x + "text"


def test_rounding_leaves_integers_alone():
    x = array("int32", 7, -3)
    for f in (pb.floor, pb.ceil, pb.trunc, pb.round):
        assert f(x).dtype == pb.int32
        assert f(x).tolist() == [7, -3]
    assert pb.isnan(x).tolist() == [False, False]
    assert pb.isfinite(x).tolist() == [True, True]


def test_clip():
    x = array("float64", -2.0, 0.5, 2.0)
    assert pb.clip(x, -1, 1).tolist() == [-1.0, 0.5, 1.0]
    assert pb.clip(x, max=1).tolist() == [-2.0, 0.5, 1.0]
    assert pb.clip(x, array("float64", 0.0, 1.0, 3.0)).tolist() == [0.0, 1.0, 3.0]
    assert pb.clip(x).tolist() == x.tolist()
    gradient = pb.grad(lambda x: pb.clip(x, -1.0, 2.0).sum())(x)
    assert gradient.tolist() == [0.0, 1.0, 0.5]


def test_shapes_broadcast_or_raise():
    assert pb.hypot(np.ones((3, 1)), np.ones(4)).shape == (3, 4)
    with pytest.raises(ShapeError, match="do not broadcast"):
        pb.add(np.ones(3), np.ones(4))


def test_astype():
    x = array("float64", 1.7, -2.2)
    assert x.astype(pb.int8).tolist() == [1, -2]
    assert pb.astype(x, "float32", copy=False).dtype == pb.float32
    assert x.astype(pb.float64) is x
    with pytest.raises(DTypeError, match="no element type"):
        x.astype("complex64")

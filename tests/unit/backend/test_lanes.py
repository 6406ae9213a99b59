"""Every elementwise op as native code against its reference; the algebra; memory."""

from __future__ import annotations

import functools

import ml_dtypes
import numpy as np
import pytest

from conformance.catalogue import every_op
from pullback.backend.assembly import integer
from pullback.errors import DTypeError
from pullback.ir.families import Elementwise
from pullback.ir.types import (
    DTYPES,
    FLOATS,
    SIGNED,
    UNSIGNED,
    TensorType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int32,
    int64,
    is_float,
)
from pullback.ops.pointwise import Cast
from thorough import sampled
from unit.backend.harness import Compiled, same_bits, ulp_error

OPS = [op for op in every_op() if issubclass(op, Elementwise) and op.body is not Elementwise.body]

EXACT = 0.0
BOUNDS = {  # units in the last place; one for functions of one rounding or one call is the default
    "divide": EXACT,
    "add": EXACT,
    "subtract": EXACT,
    "multiply": EXACT,
    "sqrt": EXACT,
    "scale": EXACT,
    "square": EXACT,
    "floor": EXACT,
    "ceil": EXACT,
    "trunc": EXACT,
    "round": EXACT,
    "fmod": EXACT,
    "remainder": EXACT,
    "floor_divide": EXACT,
    "maximum": EXACT,
    "minimum": EXACT,
    "relu": EXACT,
    "select": EXACT,
    "cast": EXACT,
    "negative": EXACT,
    "abs": EXACT,
    "sign": EXACT,
    "copysign": EXACT,
    "stop_gradient": EXACT,
    "straight_through": EXACT,
    # their formulas cancel near the zeros of the function, in float32 by many digits
    "digamma": 50,
    "polygamma": 300,
    "lgamma": 50,
}


def cases():
    """(op, element type) → all samples, converted to each element type the op takes."""
    found = {}
    for kind in OPS:
        for sample in kind.samples():
            for dtype in DTYPES:
                operands = [
                    x if x.dtype == bool_ and kind.name == "select" else x.astype(dtype)
                    for x in sample.inputs
                ]
                if accepted(sample.op, operands):
                    found.setdefault((sample.op, dtype), []).append(operands)
    return found


def accepted(op, operands):
    try:
        op.output_types(*[TensorType(x.shape, x.dtype) for x in operands])
    except DTypeError:
        return False
    return True


with np.errstate(all="ignore"):
    CASES = cases()


def run(op, dtypes, output, **options):
    return Compiled(lambda lanes, *xs: lanes.apply(op, *xs), dtypes, output, **options)


@pytest.mark.parametrize("case", sampled(CASES, 3), ids=lambda case: f"{case[0]}-{case[1]}")
def test_native_is_reference(case):
    op, dtype = case
    samples = CASES[op, dtype]
    output = op.output_types(*[TensorType(x.shape, x.dtype) for x in samples[0]])[0].dtype
    dtypes = [x.dtype for x in samples[0]]
    broadcast = [np.broadcast_arrays(*operands) for operands in samples]
    operands = [np.concatenate([b[i].ravel() for b in broadcast]) for i in range(len(dtypes))]
    with np.errstate(all="ignore"):
        expected = np.asarray(op.reference(*operands))
    result = run(op, dtypes, output)(*operands)
    single = run(op, dtypes, output, width=1, cpu="x86-64-v3")
    assert same_bits(result, single(*operands)), "the width or the target changes the bits"
    assert "call" not in single.assembly
    check(op, result, expected)


def check(op, result, expected):
    if not is_float(result.dtype):
        np.testing.assert_array_equal(result, expected)
        return
    bound = BOUNDS.get(op.name, 3.0)
    if result.dtype.itemsize == 2:
        distance = steps(result, expected)
        # the references of half precision round once, from float32 or float64
        assert distance.max(initial=0) <= (0 if bound == EXACT else 1)
    else:
        assert ulp_error(result, expected).max(initial=0) <= bound


def steps(x, y):
    """How many numbers of a half-precision type lie between x and y."""
    wide, other = x.astype(np.float32), y.astype(np.float32)
    same = (wide == other) | (np.isnan(wide) & np.isnan(other))
    ordered = [
        np.where(bits < 0, -(bits & 0x7FFF), bits)
        for bits in (x.view(np.int16).astype(int), y.view(np.int16).astype(int))
    ]
    return np.where(same, 0, np.abs(ordered[0] - ordered[1]))


# ---- conversion -----------------------------------------------------------------------------


@functools.cache
def values(dtype):
    random = np.random.default_rng(2)
    if dtype == bool_:
        return np.array([True, False] * 20)
    if dtype.itemsize < 4 and not is_float(dtype):
        limits = np.iinfo(dtype)
        return np.arange(limits.min, limits.max + 1).astype(dtype)
    bits = random.integers(0, 2**63, 5000, np.uint64).astype(f"u{dtype.itemsize}").view(dtype)
    if dtype.itemsize == 2:
        return np.arange(2**16).astype(np.uint16).view(dtype)
    if not is_float(dtype):
        return np.concatenate([bits, (bits >> (4 * dtype.itemsize)).astype(dtype), ties(dtype)])
    near = random.uniform(-300, 300, 2000).astype(dtype)
    edges = [2.0**n + d for n in (7, 8, 15, 16, 31, 32, 63, 64) for d in (-1.5, -1, 0, 1)]
    special = [np.inf, -np.inf, np.nan, 0.0, -0.0, 65519.0, 65520.0, 3.39e38, 1e308, 5e-324, 1e-40]
    with np.errstate(all="ignore"):
        whole = np.array([*edges, *(-e for e in edges), *special]).astype(dtype)
    return np.concatenate([bits, near, whole, ties(dtype)])


def ties(dtype):
    """Numbers beside the middle between two of half precision."""
    middles = np.array([(257 + 2 * k) * 2**m for k in range(9) for m in (0, 3, 12, 20)], float64)
    beside = np.concatenate([middles - 1, middles, middles + 1])
    if is_float(dtype):
        beside = np.concatenate([beside, middles * (1 + 2.0**-50), middles * (1 - 2.0**-50)])
    with np.errstate(all="ignore"):
        return beside.astype(dtype)


@pytest.mark.parametrize("source", DTYPES, ids=str)
@pytest.mark.parametrize("target", DTYPES, ids=str)
def test_casts(source, target):
    x = values(source)
    with np.errstate(all="ignore"):
        expected = Cast(target).reference(x)
    result = run(Cast(target), [source], target)(x)
    if is_float(target):
        assert same_bits(result, expected)
    else:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("dtype", [bfloat16, float16], ids=str)
def test_half_precision_rounds_as_ml_dtypes(dtype):
    random = np.random.default_rng(8)
    x, y = random.integers(0, 2**16, (2, 200_000)).astype(np.uint16).view(dtype)
    with np.errstate(all="ignore"):
        for name, expected in (("add", x + y), ("mul", x * y), ("div", x / y)):
            result = Compiled(lambda s, x, y, n=name: getattr(s, n)(x, y), [dtype] * 2, dtype)
            assert same_bits(result(x, y), expected)


@pytest.mark.parametrize("dtype", [bfloat16, float16], ids=str)
def test_bits_of_half_precision(dtype):
    x = values(dtype)
    to_integer = Compiled(lambda s, x: s.bitcast(x, np.dtype("int16")), [dtype], np.int16)
    back = Compiled(lambda s, x: s.bitcast(x, dtype), [np.dtype("int16")], dtype)
    numbers = ~np.isnan(x.astype(np.float32))
    np.testing.assert_array_equal(to_integer(x)[numbers], x.view(np.int16)[numbers])
    assert same_bits(back(x.view(np.int16)), x)


# ---- integers: no trap, no poison -----------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.uint8], ids=str)
@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod", "bitwise_left_shift",
                                  "bitwise_right_shift", "integer_pow"])  # fmt: skip
def test_every_pair_of_bytes(name, dtype):
    (op,) = [kind() for kind in OPS if kind.name == name]
    limits = np.iinfo(dtype)
    every = np.arange(limits.min, limits.max + 1).astype(dtype)
    x, y = np.repeat(every, 256), np.tile(every, 256)
    with np.errstate(all="ignore"):
        expected = op.reference(x, y)
    np.testing.assert_array_equal(run(op, [dtype] * 2, dtype)(x, y), expected)


@pytest.mark.parametrize("dtype", [*SIGNED, *UNSIGNED], ids=str)
def test_smallest_integer(dtype):
    limits = np.iinfo(dtype)
    minus_one = np.array([-1]).astype(dtype)[0]
    every = np.array([limits.min, limits.max, 0, 1, minus_one, 7, limits.min + 1], dtype)
    x, y = np.repeat(every, 7), np.tile(every, 7)
    with np.errstate(all="ignore"):
        for kind in OPS:
            if kind.name in ("floor_divide", "remainder", "fmod"):
                result = run(kind(), [dtype] * 2, dtype)(x, y)
                np.testing.assert_array_equal(result, kind().reference(x, y))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_remainder_is_exact_however_large_the_quotient(dtype):
    random = np.random.default_rng(4)
    kind = np.dtype(f"u{np.dtype(dtype).itemsize}")
    x, y = random.integers(0, np.iinfo(kind).max, (2, 50_000), kind).view(dtype)
    (op,) = [kind() for kind in OPS if kind.name == "fmod"]
    with np.errstate(all="ignore"):
        expected = op.reference(x, y)
    assert same_bits(run(op, [dtype] * 2, dtype)(x, y), np.asarray(expected))


# ---- literals and memory --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 40])
def test_tails_touch_nothing_beyond_the_array(dtype, count):
    copy = Compiled(lambda s, x: x, [dtype], dtype)
    x = np.arange(1, 65).astype(dtype)
    result = np.zeros(64, dtype)
    copy.into(result[:count], x)
    np.testing.assert_array_equal(result[:count], x[:count])
    assert not result[count:].any()


@pytest.mark.parametrize("width", [1, 16])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_other_ways_to_load(dtype, width):
    x = (np.arange(100) % 120).astype(dtype)

    def first(lanes):
        return lanes.function.load("ptr", lanes.function.parameters[0], 8)

    def strided(lanes, x):
        return lanes.strided(first(lanes), integer(2), 3, dtype)

    def splat(lanes, x):
        return lanes.splat(first(lanes), integer(9), dtype)

    def run(body):
        return Compiled(body, [dtype], dtype, width=width)(x)[:width]

    np.testing.assert_array_equal(run(strided), x[2 : 2 + 3 * width : 3])
    np.testing.assert_array_equal(run(splat), np.full(width, x[9]))

    indices = np.arange(100).astype(np.int32)[::-1].copy()
    operand = [x]

    def gathered(lanes, places):
        pointer = lanes.function.assign("ptr", f"inttoptr i64 {operand[0].ctypes.data} to ptr")
        return lanes.gathered(pointer, places, dtype)

    result = Compiled(gathered, [int32], dtype, width=width)(indices)
    np.testing.assert_array_equal(result, x[indices])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("value", [0.1, -0.0, np.inf, np.nan, 1e308, 3])
def test_literals_are_rounded_to_their_type(dtype, value):
    with np.errstate(all="ignore"):
        expected = np.full(20, value).astype(dtype)
    result = Compiled(lambda s, x: s.const(value, x), [dtype], dtype)(np.zeros(20, dtype))
    assert same_bits(result, expected)


def test_mixed_types_share_one_number_of_lanes():
    def body(s, x, i, chosen):
        wide = s.add(s.cast(x, float64), s.cast(i, float64))
        return s.cast(s.select(chosen, wide, s.cast(x, float64)), float32)

    x = np.linspace(-4, 4, 37).astype(np.float32)
    i = np.arange(37).astype(np.int64)
    chosen = i % 3 == 0
    result = Compiled(body, [float32, int64, bool_], float32)(x, i, chosen)
    np.testing.assert_array_equal(result, np.where(chosen, x.astype(float) + i, x).astype("f4"))


def test_no_flag_lets_llvm_change_a_number():
    text = Compiled(lambda s, x: s.sin(s.exp(x)), [float32], float32).text
    flags = {"fast", "nnan", "ninf", "nsz", "arcp", "contract", "afn", "reassoc"}
    assert not flags & set(text.split())

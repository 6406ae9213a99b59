"""Elementwise ops where they are delicate: specials, integers, narrow types, masks, ties."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import pullback as pb
from conformance.catalogue import every_op
from pullback.errors import DTypeError
from pullback.ir.families import Elementwise
from pullback.ir.samples import extremes
from pullback.ir.types import FLOATS, SIGNED, UNSIGNED, float64

# ---- specials -------------------------------------------------------------------------------

NUMPY_NAMES = {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
    "atan2": "arctan2",
    "pow": "power",
}
UNARY = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cbrt",
    "ceil",
    "cos",
    "cosh",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "isfinite",
    "isinf",
    "isnan",
    "log",
    "log10",
    "log1p",
    "log2",
    "negative",
    "positive",
    "reciprocal",
    "round",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "trunc",
]
BINARY = [
    "add",
    "atan2",
    "copysign",
    "divide",
    "equal",
    "floor_divide",
    "fmod",
    "greater",
    "greater_equal",
    "hypot",
    "less",
    "less_equal",
    "logaddexp",
    "maximum",
    "minimum",
    "multiply",
    "nextafter",
    "not_equal",
    "pow",
    "remainder",
    "subtract",
]
SPECIALS = np.concatenate([extremes(), [0.5, -0.5, 1.5, -1.5, 2.5, 2.0, -2.0, 700.0, 1e16]])


def same(ours, theirs):
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=4e-16, atol=0)
    if theirs.dtype.kind == "f":
        number = ~np.isnan(theirs)
        np.testing.assert_array_equal(np.signbit(ours)[number], np.signbit(theirs)[number])


@pytest.mark.parametrize("name", UNARY)
def test_unary_specials_are_those_of_numpy(name):
    with np.errstate(all="ignore"):
        theirs = getattr(np, NUMPY_NAMES.get(name, name))(SPECIALS)
    same(getattr(pb, name)(SPECIALS).numpy(), theirs)


@pytest.mark.parametrize("name", BINARY)
def test_binary_specials_are_those_of_numpy(name):
    x, y = np.repeat(SPECIALS, len(SPECIALS)), np.tile(SPECIALS, len(SPECIALS))
    with np.errstate(all="ignore"):
        theirs = getattr(np, NUMPY_NAMES.get(name, name))(x, y)
    same(getattr(pb, name)(x, y).numpy(), theirs)


@pytest.mark.parametrize("name", ["erf", "erfc", "erfinv"])
def test_special_functions_at_specials(name):
    special = pytest.importorskip("scipy.special")
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            getattr(pb, name)(SPECIALS).numpy(), getattr(special, name)(SPECIALS), rtol=1e-15
        )


def test_other_specials():
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 4.0])
    np.testing.assert_array_equal(pb.rsqrt(x).numpy(), [np.inf, -np.inf, 0, np.nan, np.nan, 0.5])
    np.testing.assert_array_equal(
        pb.sigmoid(x).numpy(), [0.5, 0.5, 1, 0, np.nan, 1 / (1 + np.exp(-4.0))]
    )
    np.testing.assert_array_equal(pb.relu(x).numpy(), [0, 0, np.inf, 0, np.nan, 4])
    np.testing.assert_array_equal(pb.clip(x, -1, 3).numpy(), [0, 0, 3, -1, np.nan, 3])


# ---- narrow types ---------------------------------------------------------------------------


def float_samples():
    for op in every_op():
        if issubclass(op, Elementwise) and op.name not in ("nextafter", "cast"):
            for i, sample in enumerate(op.samples()):
                if sample.inputs and all(x.dtype == float64 for x in sample.inputs):
                    yield pytest.param(sample, id=f"{op.name}-{i}")


@pytest.mark.parametrize("sample", list(float_samples()))
@pytest.mark.parametrize("half", [pb.float16, pb.bfloat16], ids=str)
def test_half_precision_is_single_precision_rounded_once(sample, half):
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        narrow = [x.astype(half) for x in sample.inputs]
        result = np.asarray(sample.op.reference(*narrow))
        wide = np.asarray(sample.op.reference(*[x.astype(np.float32) for x in narrow]))
        if wide.dtype == bool:
            np.testing.assert_array_equal(result, wide)
            return
        assert result.dtype == half
        expected = wide.astype(half).astype(np.float64)
    # One unit in the last place: NumPy and ml_dtypes may call different float32 functions.
    epsilon = 2.0**-10 if half == pb.float16 else 2.0**-7
    np.testing.assert_allclose(result.astype(np.float64), expected, rtol=epsilon, atol=1e-40)


# ---- integers -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*SIGNED, *UNSIGNED], ids=str)
def test_integer_results_are_defined(dtype):
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    x = pb.asarray(np.array([least, 7, 0, most], dtype))
    zero = np.zeros(4, dtype)
    np.testing.assert_array_equal((x // zero).numpy(), zero)
    np.testing.assert_array_equal((x % zero).numpy(), zero)
    np.testing.assert_array_equal(pb.fmod(x, zero).numpy(), zero)
    width = np.full(4, 8 * dtype.itemsize, dtype)
    np.testing.assert_array_equal((x << width).numpy(), zero)
    np.testing.assert_array_equal((x >> width).numpy(), np.where(x.numpy() < 0, -1, 0))
    if least < 0:
        minus = np.full(4, -1, dtype)
        np.testing.assert_array_equal((x // minus).numpy(), [least, -7, 0, -most])
        np.testing.assert_array_equal((x % minus).numpy(), zero)
        np.testing.assert_array_equal((x << minus).numpy(), zero)
        np.testing.assert_array_equal(abs(x).numpy(), [least, 7, 0, most])


@pytest.mark.parametrize("dtype", [*SIGNED, *UNSIGNED], ids=str)
def test_float_to_integer_saturates(dtype):
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    x = np.array([np.nan, np.inf, -np.inf, 1e300, -1e300, 2.9, -0.9, float(most), float(least)])
    expected = [0, most, least, most, least, 2, 0, most, least]
    np.testing.assert_array_equal(pb.astype(x, dtype).numpy(), np.array(expected, dtype))


def test_integer_powers():
    x = pb.asarray(np.array([-3, -1, 0, 1, 2]))
    assert (x**3).tolist() == [-27, -1, 0, 1, 8]
    assert (x ** np.array([3, -3, -1, -5, -1])).tolist() == [-27, -1, 0, 1, 0]
    assert (np.array(2) ** x[4:]).tolist() == [4]
    assert (pb.asarray(np.array([2], np.uint8)) ** 8).tolist() == [0]
    for exponent in (-1, -100):
        with pytest.raises(DTypeError, match="is no integer"):
            x**exponent


# ---- casts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", FLOATS, ids=str)
@pytest.mark.parametrize("target", FLOATS, ids=str)
def test_casts_carry_gradients_between_floats(source, target):
    x = pb.asarray(np.array([1.0, -2.0], source))
    gradient = pb.grad(lambda x: (x.astype(target) * 2).sum())(x)
    assert gradient.dtype == source
    assert gradient.astype(pb.float32).tolist() == [2.0, 2.0]


def test_bfloat16_is_rounded_once():
    tie, beside = 1 + 2.0**-8, 2.0**-40
    x = np.array([tie, tie + beside, tie - beside, -tie - beside, 1e300, np.inf, np.nan, 0.0])
    expected = [1.0, 1 + 2.0**-7, 1.0, -1 - 2.0**-7, np.inf, np.inf, np.nan, 0.0]
    result = pb.astype(x, pb.bfloat16).numpy().astype(np.float64)
    np.testing.assert_array_equal(result, expected)


# ---- derivatives at the edge of the domain --------------------------------------------------

MASKED = {
    "sqrt": (pb.sqrt, [0.0, -1.0]),
    "rsqrt": (pb.rsqrt, [0.0, -1.0]),
    "cbrt": (pb.cbrt, [0.0]),
    "log": (pb.log, [0.0, -1.0]),
    "log2": (pb.log2, [0.0, -1.0]),
    "log10": (pb.log10, [0.0, -1.0]),
    "log1p": (pb.log1p, [-1.0, -2.0]),
    "asin": (pb.asin, [1.0, -1.0, 2.0]),
    "acos": (pb.acos, [1.0, -1.0, 2.0]),
    "acosh": (pb.acosh, [1.0, 0.0, -1.0]),
    "atanh": (pb.atanh, [1.0, -1.0, 2.0]),
    "erfinv": (pb.erfinv, [1.0, -1.0, 2.0]),
    "lgamma": (pb.lgamma, [0.0, -1.0]),
    "digamma": (pb.digamma, [0.0, -1.0]),
    "polygamma": (lambda x: pb.polygamma(2, x), [0.0, -1.0]),
    "reciprocal": (pb.reciprocal, [0.0]),
    "zero over zero": (lambda x: x / x, [0.0]),
    "fraction": (lambda x: pb.sin(x) / x, [0.0]),
    "pow -1.5": (lambda x: x**-1.5, [0.0, -1.0]),
    "pow 0.5": (lambda x: x**0.5, [0.0, -1.0]),
    "pow -2": (lambda x: x**-2, [0.0]),
    "pow x": (lambda x: x**x, [0.0, -1.5]),
    "pow of base": (lambda x: 0.0**x, [-1.0]),
    "atan2": (lambda x: pb.atan2(x, x), [0.0]),
    "hypot": (lambda x: pb.hypot(x, x), [0.0]),
    "remainder": (lambda x: x % (x * 2), [0.0]),
    "fmod": (lambda x: pb.fmod(x, x * 2), [0.0]),
    "exp": (pb.exp, [1e4]),
    "exp2": (pb.exp2, [1e4]),
    "expm1": (pb.expm1, [1e4]),
    "sinh": (pb.sinh, [1e4]),
    "cosh": (pb.cosh, [1e4]),
}


@pytest.mark.parametrize("name", MASKED)
def test_masked_branch_gives_zero(name):
    f, points = MASKED[name]
    x = pb.asarray(np.array(points))
    hidden = pb.asarray(np.zeros(len(points), bool))

    def masked(x):
        return pb.where(hidden, f(x), 0.0).sum()

    def slope(x):
        return pb.grad(masked)(x).sum()

    assert pb.grad(masked)(x).tolist() == [0.0] * len(points)
    assert pb.grad(slope)(x).tolist() == [0.0] * len(points)
    assert pb.jvp(masked, (x,), (x,))[1].tolist() == 0.0
    assert pb.hvp(masked, (x,), (x,)).tolist() == [0.0] * len(points)


# ---- stable derivatives ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "slope", "x"),
    [
        (pb.expm1, np.exp, [-50.0, 1e-20]),
        (pb.log1p, lambda x: 1 / (1 + x), [1e-20, -0.99]),
        (pb.asinh, lambda x: 1 / np.hypot(1, x), [1e200, -3.0]),
        (pb.acosh, lambda x: 1 / np.sqrt(x - 1) / np.sqrt(x + 1), [1e200, 1 + 1e-12]),
        (pb.asin, lambda x: 1 / np.sqrt((1 - x) * (1 + x)), [1 - 1e-15]),
        (lambda x: pb.logaddexp(x, 0.0), np.exp, [-100.0]),
    ],
    ids=["expm1", "log1p", "asinh", "acosh", "asin", "logaddexp"],
)
def test_derivatives_do_not_cancel(f, slope, x):
    x = np.array(x)
    gradient = pb.grad(lambda x: f(x).sum())(x).numpy()
    np.testing.assert_allclose(gradient, slope(x), rtol=1e-13)


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (pb.sigmoid, lambda x: np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))) ** 2),
        (pb.tanh, lambda x: 1 / np.cosh(x) ** 2),
    ],
    ids=["sigmoid", "tanh"],
)
def test_slopes_from_the_output_are_right_to_a_rounding_of_the_output(f, slope):
    """Only the output is kept for the backward pass, so a saturated slope is right absolutely."""
    x = np.linspace(-40, 40, 401)
    gradient = pb.grad(lambda x: f(x).sum())(x).numpy()
    np.testing.assert_allclose(gradient, slope(x), rtol=4e-15, atol=np.finfo(float).eps)


# ---- conventions ----------------------------------------------------------------------------


def partials(f, x, y):
    return tuple(g.item() for g in pb.grad(f, argnums=(0, 1))(np.float64(x), np.float64(y)))


def test_ties_share_the_gradient():
    for f in (pb.maximum, pb.minimum, pb.logaddexp):
        assert partials(f, 2.0, 2.0) == (0.5, 0.5)
    assert partials(pb.maximum, 3.0, 2.0) == (1.0, 0.0)
    assert partials(pb.minimum, 3.0, 2.0) == (0.0, 1.0)
    assert partials(pb.logaddexp, -np.inf, -np.inf) == (0.5, 0.5)


def test_kinks_have_derivative_zero():
    for f in (pb.relu, pb.abs):
        assert pb.grad(f)(np.float64(0.0)).item() == 0.0
    assert partials(pb.hypot, 0.0, 0.0) == (0.0, 0.0)
    assert partials(pb.atan2, 0.0, 0.0) == (0.0, 0.0)


def test_power_derivatives():
    assert partials(pb.pow, 0.0, 0.0) == (0.0, 0.0)
    assert partials(pb.pow, 0.0, 1.0) == (1.0, 0.0)
    assert partials(pb.pow, 0.0, 2.0) == (0.0, 0.0)
    assert partials(pb.pow, -2.0, 3.0)[0] == 12.0
    assert np.isnan(partials(pb.pow, -2.0, 3.0)[1])
    for exponent, slopes in ((2, [-4.0, 0.0, 4.0]), (0, [0.0] * 3), (1, [1.0] * 3)):
        x = np.array([-2.0, 0.0, 2.0])
        assert pb.grad(lambda x, n=exponent: (x**n).sum())(x).tolist() == slopes
    curvature = pb.grad(pb.grad(lambda x: x ** np.float64(2)))(np.float64(0.0))
    assert curvature.item() == 2.0


def test_stop_gradient_and_straight_through():
    x = np.array([0.3, 1.6])
    assert pb.grad(lambda x: (pb.stop_gradient(x) * x).sum())(x).tolist() == x.tolist()

    def rounded(x):
        return pb.straight_through(pb.round(x), x * x)

    assert rounded(x).tolist() == [0.0, 2.0]
    assert pb.grad(lambda x: rounded(x).sum())(x).tolist() == (2 * x).tolist()
    with pytest.raises(pb.errors.ShapeError):
        pb.straight_through(np.zeros(2), np.zeros(3))


def test_every_elementwise_op_has_a_body():
    elementwise = [op for op in every_op() if issubclass(op, Elementwise)]
    assert not [op.name for op in elementwise if op.body is Elementwise.body]

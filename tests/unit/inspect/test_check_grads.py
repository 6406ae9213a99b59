"""`check_grads`: silent on healthy functions; each planted mistake named with its op and line."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

import pullback as pb
from conformance.catalogue import every_sample
from conformance.laws import Exempt, _smooth_function
from goldens import without_places
from pullback.errors import DTypeError, GradientError, NotDifferentiableError, StructureError
from pullback.inspect.localise import _relation
from pullback.ir.families import sum_over
from pullback.ops import contract, layout, pointwise, reduce
from pullback.ops.operators import transpose
from pullback.ops.pointwise import StopGradient

GENERATOR = np.random.default_rng(3)
SQUARE = GENERATOR.normal(size=(3, 3))
VECTOR = GENERATOR.uniform(0.3, 0.9, 3)
OTHER = GENERATOR.uniform(0.4, 0.8, 3)


# ---- healthy --------------------------------------------------------------------------------


def healthy():
    """Every op of the package at each of its smooth samples."""
    for name, sample in every_sample():
        try:
            yield pytest.param(*_smooth_function(sample), id=name)
        except Exempt:
            continue


@pytest.mark.parametrize(("f", "primals"), list(healthy()))
def test_no_false_alarm(f, primals):
    pb.check_grads(f, primals)


def test_the_healthy_functions_are_many():
    assert len(list(healthy())) > 100


def smooth(x, y):
    return pb.sum(pb.sigmoid(x) * y + pb.exp(-x * y) / (1.0 + y**2))


@pytest.mark.parametrize("modes", [("fwd",), ("rev",), ("fwd", "rev")])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_modes_and_precisions(modes, dtype):
    pb.check_grads(smooth, (VECTOR.astype(dtype), OTHER.astype(dtype)), modes=modes)


def test_third_order():
    pb.check_grads(smooth, (VECTOR, OTHER), order=3)


def test_containers_and_integer_arguments():
    def loss(parameters, power):
        return pb.sum(pb.tanh(parameters["W"] @ parameters["b"])) * power

    pb.check_grads(loss, ({"W": SQUARE, "b": VECTOR}, 3))


def test_non_scalar_results():
    pb.check_grads(lambda x: (pb.sin(x), {"y": x * x}), (VECTOR,))


def test_a_kink_is_no_mistake():
    with pytest.raises(NotDifferentiableError, match=r"relu at .*not differentiable here"):
        pb.check_grads(lambda x: pb.sum(pb.relu(x)), (np.array([-1.0, 0.0, 2.0]),))


def test_near_a_kink_the_step_shrinks():
    pb.check_grads(lambda x: pb.sum(pb.relu(x)), (np.array([-1.0, 1e-4, 2.0]),))


def test_refuses_what_cannot_be_checked():
    with pytest.raises(DTypeError, match="nothing to differentiate"):
        pb.check_grads(lambda x: x, (1,))
    with pytest.raises(StructureError, match="modes"):
        pb.check_grads(pb.sin, (VECTOR,), modes=("forward",))
    with pytest.raises(StructureError, match="tuple"):
        pb.check_grads(pb.sin, VECTOR)


# ---- planted mistakes -----------------------------------------------------------------------


def partial(change):
    """A mistake in the first partial derivative of an elementwise op."""

    def wrap(rule):
        def wrong(self, out, *inputs):
            first, *rest = rule(self, out, *inputs)
            return (change(first), *rest)

        return wrong

    return "partials", wrap


def doubled(p):
    return p * 2.0


def negated(p):
    return -1.0 * p


def hidden(p):
    return StopGradient()(p)


ELEMENTWISE = {
    "Add": lambda x, y: x + y,
    "Subtract": lambda x, y: x - y,
    "Multiply": lambda x, y: x * y,
    "Divide": lambda x, y: x / y,
    "Absolute": lambda x, y: abs(x),
    "Exp": lambda x, y: pb.exp(x),
    "Expm1": lambda x, y: pb.expm1(x),
    "Log": lambda x, y: pb.log(x),
    "Log1p": lambda x, y: pb.log1p(x),
    "Sqrt": lambda x, y: pb.sqrt(x),
    "Tanh": lambda x, y: pb.tanh(x),
    "Sigmoid": lambda x, y: pb.sigmoid(x),
    "Sin": lambda x, y: pb.sin(x),
    "Cos": lambda x, y: pb.cos(x),
    "Tan": lambda x, y: pb.tan(x),
    "Atan": lambda x, y: pb.atan(x),
    "Atan2": lambda x, y: pb.atan2(x, y),  # noqa: PLW0108  (the line is looked for here)
    "Sinh": lambda x, y: pb.sinh(x),
    "Cosh": lambda x, y: pb.cosh(x),
    "Erf": lambda x, y: pb.erf(x),
    "Square": lambda x, y: pb.square(x),
    "Rsqrt": lambda x, y: pb.rsqrt(x),
    "Pow": lambda x, y: pb.pow(x, y),  # noqa: PLW0108
}
CURVED = ("Exp", "Expm1", "Log", "Sigmoid", "Tanh", "Sin", "Sqrt", "Atan", "Erf", "Rsqrt")


def raised(f, args, **options):
    """The error, and the line of the test file that it names."""
    with pytest.raises(GradientError) as caught:
        pb.check_grads(f, args, **options)
    return caught.value


def names_the_line(error, function):
    """Whether the error points into the source of `function`, in this file."""
    lines, first = inspect.getsourcelines(function)
    found = re.search(r"test_check_grads\.py:(\d+)", str(error))
    return found is not None and first <= int(found[1]) < first + len(lines)


def surrounded(op):
    """The op between others, so that the right one of several has to be found."""
    before = pb.asin if op in ("Cos", "Sin", "Tan") else pb.cos
    return lambda x, y: pb.sum(pb.atanh(ELEMENTWISE[op](before(x), y) / 9.0))


@pytest.mark.parametrize("op", ELEMENTWISE)
@pytest.mark.parametrize(
    ("change", "guess"), [(doubled, "a factor 0.5"), (negated, "the sign is wrong")]
)
def test_a_wrong_partial_is_named(monkeypatch, op, change, guess):
    cls = getattr(pointwise, op)
    method, wrap = partial(change)
    monkeypatch.setattr(cls, method, wrap(getattr(cls, method)))
    error = raised(surrounded(op), (VECTOR, OTHER))
    assert str(error).startswith(f"{cls.name} at ")
    assert f"{op}.partials is wrong" in str(error)
    assert guess in str(error)
    assert names_the_line(error, ELEMENTWISE[op])


@pytest.mark.parametrize("op", CURVED)
def test_wrong_only_at_second_order(monkeypatch, op):
    cls = getattr(pointwise, op)
    method, wrap = partial(hidden)
    monkeypatch.setattr(cls, method, wrap(getattr(cls, method)))
    f = ELEMENTWISE[op]

    def loss(x, y):
        return pb.sum(f(x, y))

    pb.check_grads(loss, (VECTOR, OTHER), order=1)
    error = raised(loss, (VECTOR, OTHER), order=2)
    assert f"{op}.partials is wrong at order 2" in str(error)
    assert "right at first order" in str(error)


def product(W, x):
    y = W @ x
    return pb.sum(pb.tanh(y) * y)


def test_a_transposed_matrix_is_named(monkeypatch):
    right = contract.Contract.transpose

    def wrong(self, argument, bar, left, other):
        result = right(self, argument, bar, left, other)
        return transpose(result, (1, 0)) if argument == 0 and result.ndim == 2 else result

    monkeypatch.setattr(contract.Contract, "transpose", wrong)
    error = raised(product, (SQUARE, VECTOR))
    assert str(error).startswith("contract at ")
    assert "the vjp rule Contract.transpose is wrong" in str(error)
    assert "for operand 0: it is the transpose of the right matrix" in str(error)
    assert names_the_line(error, product)


@pytest.mark.parametrize("op", ["Add", "Multiply", "Subtract", "Divide", "Atan2"])
def test_a_forgotten_broadcast_sum_is_named(monkeypatch, op):
    cls = getattr(pointwise, op)

    def wrong(self, bars, outs, inputs, wanted):
        parts = self.partials(outs[0], *inputs)
        return tuple(
            self._times(bars[0], p) if needed else None
            for p, needed in zip(parts, wanted, strict=True)
        )

    monkeypatch.setattr(cls, "cotangents", wrong)
    f = ELEMENTWISE[op]

    def loss(x, y):
        return pb.sum(f(x, y))

    error = raised(loss, (GENERATOR.uniform(0.3, 0.9, (2, 3)), OTHER))
    assert str(error).startswith(f"{cls.name} at ")
    assert "is the sum over the broadcast axes forgotten?" in str(error)


@pytest.mark.parametrize(
    ("cls", "method", "f"),
    [
        (reduce.Sum, "transpose", lambda x: pb.sum(pb.sin(x), axis=0) * 2.0),
        (layout.Transpose, "transpose", lambda x: pb.sin(pb.matrix_transpose(x))),
        (layout.Reshape, "transpose", lambda x: pb.sin(pb.reshape(x, (9,)))),
        (layout.Broadcast, "transpose", lambda x: pb.broadcast_to(pb.sin(x), (2, 3, 3))),
    ],
    ids=["Sum", "Transpose", "Reshape", "Broadcast"],
)
def test_right_forward_and_wrong_reverse(monkeypatch, cls, method, f):
    right = getattr(cls, method)
    monkeypatch.setattr(cls, method, lambda self, bar, *xs: right(self, bar, *xs) * 3.0)
    pb.check_grads(f, (SQUARE,), modes=("fwd",))
    error = raised(f, (SQUARE,), order=1)
    assert f"the vjp rule {cls.__name__}.transpose is wrong" in str(error)
    assert "a factor 0.3333 is missing" in str(error)


@pytest.mark.parametrize("op", ["Tanh", "Multiply", "Exp"])
def test_wrong_forward_and_right_reverse(monkeypatch, op):
    cls = getattr(pointwise, op)
    right = cls.tangents

    def wrong(self, dots, outs, inputs):
        (dot,) = right(self, dots, outs, inputs)
        return (dot if dot is None else 0.5 * dot,)

    monkeypatch.setattr(cls, "tangents", wrong)
    f = ELEMENTWISE[op]
    pb.check_grads(lambda x, y: pb.sum(f(x, y)), (VECTOR, OTHER), modes=("rev",))
    error = raised(lambda x, y: pb.sum(f(x, y)), (VECTOR, OTHER), order=1)
    assert f"the jvp rule {op}.tangents is wrong" in str(error)
    assert "a factor 2 is missing" in str(error)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_wrong_custom_derivative_names_the_function_of_the_user(factor):
    @pb.custom_derivative
    def swish(x):
        return x * pb.sigmoid(x)

    def backward(x, bar):
        s = pb.sigmoid(x)
        return (bar * (s + x * s * (1.0 - s)) * factor,)

    swish.defvjp(lambda x: (swish(x), x), backward)

    def loss(x):
        return pb.sum(pb.exp(swish(x)))

    if factor == 1.0:
        pb.check_grads(loss, (VECTOR,))
        return
    error = raised(loss, (VECTOR,))
    assert re.match(r"custom derivative of .*swish at ", str(error))
    assert "swish is wrong" in str(error)
    assert "a factor 0.5 is missing" in str(error)
    assert names_the_line(error, loss)


def test_a_wrong_op_inside_a_checkpoint_is_named(monkeypatch):
    method, wrap = partial(doubled)
    monkeypatch.setattr(pointwise.Tanh, method, wrap(pointwise.Tanh.partials))
    block = pb.checkpoint(lambda x: pb.tanh(pb.sin(x) * x))
    error = raised(lambda x: pb.sum(pb.exp(block(x))), (VECTOR,))
    assert str(error).startswith("tanh at ")
    assert "Tanh.partials inside checkpoint is wrong" in str(error)


def test_a_rule_that_raises_is_named(monkeypatch):
    def wrong(self, out, x):
        return (sum_over(out, (7,)),)

    monkeypatch.setattr(pointwise.Tanh, "partials", wrong)
    error = raised(lambda x: pb.sum(pb.exp(x) + pb.tanh(x)), (VECTOR,))
    assert str(error).startswith("tanh at ")
    assert "Tanh.partials is wrong: it raises ShapeError" in str(error)


def test_an_op_that_only_another_rule_uses_is_named(monkeypatch):
    """The rule of log divides: there a mistake in division shows at second order, as division's."""
    right = pointwise.Divide.partials

    def wrong(self, out, x, y):
        over_x, over_y = right(self, out, x, y)
        return over_x, over_y * 5.0

    monkeypatch.setattr(pointwise.Divide, "partials", wrong)
    error = raised(lambda x: pb.sum(pb.log(x)), (VECTOR,))
    assert str(error).startswith("divide at ")
    assert "Divide.partials is wrong: " in str(error)


def test_the_message(monkeypatch, golden):
    method, wrap = partial(doubled)
    monkeypatch.setattr(pointwise.Tanh, method, wrap(pointwise.Tanh.partials))
    golden("check_grads_message", without_places(str(raised(product, (SQUARE, VECTOR)))))


CUT = (np.array([0.3, 1.2, -0.7]),)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * pb.stop_gradient(pb.sin(x)),
        lambda x: pb.sum(pb.stop_gradient(x) * pb.tanh(x) + pb.stop_gradient(x * x)),
        lambda x: {"a": pb.exp(x - pb.stop_gradient(pb.max(x))), "n": pb.argmax(x)},
    ],
)
def test_what_is_cut_off_on_purpose_is_no_mistake(f):
    pb.check_grads(f, CUT)


def test_a_wrong_rule_beside_a_cut_is_found(monkeypatch):
    monkeypatch.setattr(pb.ops.pointwise.Sin, "partials", lambda self, out, x: (out,))
    with pytest.raises(GradientError, match=r"Sin\.partials"):
        pb.check_grads(lambda x: pb.sin(x) * pb.stop_gradient(x), CUT)


def test_a_rule_that_gives_zero_in_the_wrong_places():
    rule, true = np.array([0.0, 5.0]), np.array([1.0, 0.0])
    assert _relation(rule, true) == "the rule gives zero where the derivative is not"

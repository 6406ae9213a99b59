"""`backprop` on programs of every kind: names, numbers, merges, errors."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.errors import ShapeError, StructureError, TracedValueError

X = np.array([0.3, -0.5, 0.8])


def names(record):
    return [step.name for step in record.nodes if step.kind != "literal"]


def test_gradients_have_the_structure_of_the_arguments():
    def loss(parameters, x, power):
        h = pb.tanh(parameters["W"] @ x)
        return pb.sum(h * parameters["b"]) ** power

    parameters = {"W": np.eye(3), "b": X}
    record = pb.backprop(loss, parameters, X, 2)
    expected = pb.grad(loss, argnums=(0, 1))(parameters, X, 2)
    np.testing.assert_array_equal(record.grads[0]["W"].numpy(), expected[0]["W"].numpy())
    np.testing.assert_array_equal(record.grads[0]["b"].numpy(), expected[0]["b"].numpy())
    np.testing.assert_array_equal(record.grads[1].numpy(), expected[1].numpy())
    assert record.grads[2] is None
    assert {"parameters['W']", "parameters['b']", "x", "h", "L"} <= set(names(record))


def test_one_argument_gives_a_bare_gradient():
    record = pb.backprop(lambda x: pb.sum(x * x), X)
    np.testing.assert_array_equal(record.grads.numpy(), 2 * X)
    assert record.value.item() == np.sum(X * X)


def test_a_variable_assigned_again_is_numbered():
    def loss(h):
        for _ in range(3):
            h = pb.tanh(h)
        return pb.sum(h)

    record = pb.backprop(loss, X)
    assert names(record) == ["h", "h_1", "h_2", "h_3", "L"]
    δ = np.ones(3)
    for name in ("h_3", "h_2", "h_1"):
        np.testing.assert_allclose(record.delta(name), δ)
        δ = δ * (1 - record.step(name).value ** 2)
    np.testing.assert_allclose(record.delta("h"), δ)


def test_a_helper_function_names_its_result_where_it_is_assigned():
    def layer(W, x):
        z = W @ x
        return pb.sigmoid(z)

    def loss(W, V, x):
        first = layer(W, x)
        second = layer(V, first)
        return pb.sum(second)

    record = pb.backprop(loss, np.eye(3), np.eye(3), X)
    assert names(record) == ["W", "V", "x", "z_1", "first", "z_2", "second", "L"]


def test_the_loss_is_found_under_the_name_of_the_user():
    def loss(x):
        total = pb.sum(x * x)
        return total  # noqa: RET504

    record = pb.backprop(loss, X)
    assert record.step("total") is record.step("L")


def test_tuple_assignment_walrus_and_augmented_assignment():
    def loss(x, y):
        a, b = pb.exp(x), pb.sin(y)
        if (c := a * b).shape:
            a += c
        return pb.sum(a)

    assert names(pb.backprop(loss, X, X)) == ["x", "y", "a_1", "b", "c", "a_2", "L"]


def test_captured_arrays_have_their_own_names():
    scale = np.array([1.0, 2.0, 3.0])
    record = pb.backprop(lambda x: pb.sum(x * scale), X)
    assert record.step("scale").kind == "captured"
    assert record.delta("scale") is None


def test_python_branches_are_recorded_as_taken():
    def loss(x):
        y = pb.exp(x) if pb.sum(x) > 0 else pb.sin(x)
        return pb.sum(y)

    assert pb.backprop(loss, X).step("y").equation == "y = exp(x)"
    assert pb.backprop(loss, -X).step("y").equation == "y = sin(x)"


def test_a_value_without_influence_has_no_delta():
    def loss(x):
        unused = pb.exp(x)
        return pb.sum(x) + 0.0 * pb.stop_gradient(pb.sum(unused))

    assert pb.backprop(loss, X).delta("unused") is None


def test_contributions_add_up_to_the_delta():
    def loss(x):
        a = pb.exp(x)
        return pb.sum(a * pb.sin(a) + a / (1.0 + a * a))

    for step in pb.backprop(loss, X).nodes:
        if step.contributions:
            summed = sum(part.value for part in step.contributions)
            np.testing.assert_allclose(summed, step.delta, rtol=1e-14)


def test_every_delta_is_the_derivative_by_that_value():
    """δ of a value is what the loss gains per unit that is added to it."""

    def loss(x, added):
        a = pb.exp(x) + added["a"]
        b = pb.sin(a) * x + added["b"]
        c = pb.tanh(b) / (2.0 + a) + added["c"]
        return pb.sum(c * c)

    zero = dict.fromkeys("abc", np.zeros(3))
    record = pb.backprop(loss, X, zero)
    for name in "abc":
        np.testing.assert_allclose(record.delta(name), record.grads[1][name].numpy(), rtol=1e-14)


def test_no_value_is_computed_twice(monkeypatch):
    calls = []
    reference = pb.ops.pointwise.Exp.reference
    monkeypatch.setattr(
        pb.ops.pointwise.Exp, "reference", lambda self, x: calls.append(1) or reference(self, x)
    )
    pb.backprop(lambda x: pb.sum(pb.exp(x)), X)
    assert len(calls) == 1


def test_half_precision_and_non_finite_values_are_told():
    record = pb.backprop(lambda x: pb.sum(pb.log(x)), np.array([0.0, 1.0, -1.0, 2.0]))
    assert "not finite" in record.table()
    half = pb.backprop(lambda x: pb.sum(pb.exp(x)), X.astype("float16"))
    assert half.delta("x").dtype == np.float16
    assert "∂L/∂x = exp(x)" in half.table()


def test_errors():
    with pytest.raises(ShapeError, match="backprop needs a scalar loss"):
        pb.backprop(lambda x: x, X)
    with pytest.raises(StructureError, match="backprop needs one scalar loss"):
        pb.backprop(lambda x: (x, x), X)
    with pytest.raises(StructureError, match="no value is called 'nothing'"):
        pb.backprop(pb.sum, X).delta("nothing")
    with pytest.raises(TracedValueError):
        pb.vmap(lambda x: pb.backprop(lambda y: y * y, x).value)(X)


# ---- boxes ----------------------------------------------------------------------------------


def test_a_custom_derivative_is_one_box_with_the_rule_of_the_user():
    @pb.custom_derivative
    def clipped(x):
        return x * 1.0

    clipped.defvjp(lambda x: (clipped(x), x), lambda x, bar: (pb.clip(bar, -0.1, 0.1) * 2.0,))

    def loss(x):
        a = clipped(x)
        return pb.sum(pb.exp(a))

    record = pb.backprop(loss, X)
    assert names(record) == ["x", "a", "v1", "L"]
    np.testing.assert_allclose(record.grads.numpy(), np.full(3, 0.2))
    assert "δ_a" in record.step("x").formula


def test_a_checkpoint_is_one_box():
    block = pb.checkpoint(lambda x: pb.sin(x) * x)

    def loss(x):
        h = block(x)
        return pb.sum(h * h)

    record = pb.backprop(loss, X)
    assert names(record) == ["x", "h", "v1", "L"]
    np.testing.assert_allclose(record.grads.numpy(), pb.grad(loss)(X).numpy())
    assert {part.through for part in record.step("x").contributions} == {"h"}


# ---- formulas -------------------------------------------------------------------------------

RULES = {
    "add": (lambda x, y: x + y, ["δ_r", "δ_r"]),
    "subtract": (lambda x, y: x - y, ["δ_r", "−δ_r"]),
    "multiply": (lambda x, y: x * y, ["δ_r ⊙ y", "δ_r ⊙ x"]),
    "divide": (lambda x, y: x / y, ["δ_r / y", "−δ_r ⊙ r / y"]),
    "sigmoid": (lambda x, y: pb.sigmoid(x), ["δ_r ⊙ r ⊙ (1 − r)"]),
    "relu": (lambda x, y: pb.relu(x), ["δ_r ⊙ [x > 0]"]),
    "exp": (lambda x, y: pb.exp(x), ["δ_r ⊙ r"]),
    "log": (lambda x, y: pb.log(x), ["δ_r / x"]),
    "square": (lambda x, y: pb.square(x), ["2 δ_r ⊙ x"]),
    "cube": (lambda x, y: x**3, ["3 δ_r ⊙ x²"]),
    "sqrt": (lambda x, y: pb.sqrt(x), ["½ δ_r / r"]),
    "sin": (lambda x, y: pb.sin(x), ["δ_r ⊙ cos(x)"]),
    "where": (lambda x, y: pb.where(x > 0, x, y), None),
}


@pytest.mark.parametrize("name", RULES)
def test_local_rule(name):
    f, expected = RULES[name]

    def loss(x, y):
        r = f(x, y)
        return pb.sum(pb.sin(r))

    record = pb.backprop(loss, np.array([0.3, 0.5]), np.array([0.7, 0.9]))
    rules = [passed.rule for passed in record.step("r").passes]
    if expected is not None:
        assert rules == expected
    else:
        assert all("δ_r" in rule for rule in rules)


def test_broadcast_operands_sum_their_gradient():
    def loss(x, y):
        r = x + y
        return pb.sum(pb.sin(r))

    record = pb.backprop(loss, np.ones((4, 3)), np.ones(3))
    assert record.step("y").contributions[0].rule == "Σ₀ δ_r"


def test_the_formula_follows_the_rule(monkeypatch):
    """The text comes from what the rule records: a changed rule prints changed."""
    monkeypatch.setattr(pb.ops.pointwise.Exp, "partials", lambda self, out, x: (7.0 * x * out,))
    record = pb.backprop(lambda x: pb.sum(pb.exp(x)), X)
    assert record.step("x").contributions[0].rule == "7 δ_v1 ⊙ x ⊙ v1"


@pytest.mark.parametrize(
    ("f", "name"), [(lambda x: x, "x"), (lambda p: p["a"], "p['a']"), (lambda x, y: y, "y")]
)
def test_a_loss_that_is_an_argument_has_one_row(f, name):
    arguments = {"x": (3.0,), "p['a']": ({"a": 3.0, "b": 1.0},), "y": (1.0, 3.0)}[name]
    record = pb.backprop(f, *arguments)
    (row,) = record.steps
    assert (row.symbol, row.formula, row.delta.item()) == (f"∂L/∂{name}", "1", 1.0)
    assert record.step(name) is row
    assert f"∂L/∂{name} = 1" in record.table()
    assert record.to_html()


def test_a_loss_that_depends_on_nothing_has_no_row():
    constant = pb.asarray(1.0)
    record = pb.backprop(lambda x: constant, 3.0)
    assert record.steps == ()
    assert record.grads.item() == 0.0

"""Births: the operation, the line, the element and the sample that made a non-finite number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.errors import DiagnosisError
from pullback.inspect import births
from pullback.inspect.tape import play

MODES = pytest.mark.parametrize("wrap", [lambda f: f, pb.compile], ids=["eager", "compiled"])
rng = np.random.default_rng(0)


def only(report):
    assert report.findings, str(report)
    return report.findings[0]


def source(finding):
    return finding.frame.source


# ---- born in the forward pass ---------------------------------------------------------------


def surprise(scale, p, y):
    chosen = pb.sum(p * y, axis=1) * scale
    return -pb.mean(pb.log(chosen))


@MODES
def test_log_of_0_in_sample_37_names_37(wrap):
    y = np.eye(5, dtype=np.float32)[rng.integers(0, 5, 64)]
    p = np.full((64, 5), 0.2, np.float32)
    p[37] = 0.25 * (1 - y[37])
    report = births(wrap(surprise), np.float32(1.0), p, y)
    finding = only(report)
    assert finding.id == "NUM01"
    assert finding.what == "log(0) = -inf in sample 37, element 37"
    assert finding.evidence.samples == (37,)
    assert source(finding) == "return -pb.mean(pb.log(chosen))"
    assert finding.frame.expression == "pb.log(chosen)"
    assert "x > 0" in finding.why
    assert "the loss" in finding.evidence.reached


@MODES
def test_the_run_up_ends_with_the_birth(wrap):
    def growing(x):
        for _ in range(20):
            x = x * x
        return pb.sum(x)

    birth = only(births(wrap(growing), np.array([3.0, 0.5]))).evidence
    assert len(birth.run_up) == 10
    assert not birth.run_up[-1].is_finite
    largest = [frame.largest for frame in birth.run_up[:-1]]
    assert largest == sorted(largest)
    assert birth.index == (0,)
    assert birth.value == np.inf


@MODES
@pytest.mark.parametrize(
    ("f", "x", "what"),
    [
        (lambda x: pb.sum(pb.sqrt(x)), -1.0, "√(-1) = NaN"),
        (lambda x: pb.sum(1.0 / x), 0.0, "1 / 0 = inf"),
        (lambda x: pb.sum(pb.exp(x)), 800.0, "exp(800) = inf"),
        (lambda x: pb.sum(pb.asin(x)), 2.0, "asin(2) = NaN"),
        (lambda x: pb.sum(pb.atanh(x)), 1.0, "atanh(1) = inf"),
        (lambda x: pb.sum(pb.rsqrt(x)), 0.0, "1/√(0) = inf"),
        (lambda x: pb.sum(x**-2), 0.0, "0^-2 = inf"),
    ],
)
def test_the_operation_and_its_argument(wrap, f, x, what):
    finding = only(births(wrap(f), np.array([0.5, x])))
    assert finding.id == "NUM01"
    assert finding.what == f"{what} in element 1"


@MODES
def test_a_mask_by_multiplication(wrap):
    def masked(x, m):
        return pb.sum(m * pb.log(x))

    finding = only(births(wrap(masked), np.array([1.0, 0.0]), np.array([1.0, 0.0])))
    assert finding.what.startswith("log(0) = -inf")
    assert finding.evidence.mask.op.name == "multiply"
    assert "0·∞ is NaN" in finding.why


def test_a_coordinate_that_only_looks_like_a_sample_is_none():
    """Row 2 of image 5 of a batch of 8 images of 8 × 8."""

    def f(w, x):
        return pb.mean((x * 10.0) ** 2) * w

    x = np.ones((8, 1, 8, 8), np.float32)
    x[5, 0, 2, 3] = 3e38
    finding = only(births(f, np.float32(1.0), x))
    assert finding.what == "3e+38 ⊙ 10 = inf in sample 5, element (5, 0, 2, 3)"
    assert "largest float32" in finding.why
    assert "scale the operands down" in finding.fix


@MODES
def test_a_sum_and_a_product_that_overflow_in_half_precision(wrap):
    def f(w, x):
        return pb.mean(pb.sum(x * w, axis=1).astype("float32"))

    x = np.ones((4, 8), np.float16)
    x[2] = 60000.0
    finding = only(births(wrap(f), np.ones(8, np.float16), x))
    assert finding.evidence.node.op.name == "sum"
    assert finding.evidence.samples == (2,)
    finding = only(
        births(
            wrap(lambda w, x: pb.sum(x @ w)),
            np.full((8, 3), 1e30, np.float32),
            np.full((4, 8), 1e30, np.float32),
        )
    )
    assert finding.evidence.node.op.name == "contract"
    assert "largest float32" in finding.why


def test_the_first_of_several_in_order_of_the_program():
    def two(x):
        a = pb.log(x)
        b = 1.0 / x
        return pb.sum(a) + pb.sum(b)

    report = births(two, np.array([0.0]))
    assert report.findings[0].what.startswith("log(0)")
    assert {x.explained_by for x in report.findings[1:]} == {"NUM01"}
    assert "explained by NUM01" in str(report)


def test_only_the_element_that_reaches_the_loss_is_blamed():
    def f(x, m):
        return pb.sum(pb.where(m, pb.log(x), 0.0))

    x, m = np.array([0.0, 1.0, 0.0]), np.array([False, True, True])
    assert only(births(f, x, m)).evidence.index == (2,)


@MODES
def test_an_argument_that_was_not_finite(wrap):
    def f(params, x):
        return pb.sum(params["w"] * x)

    x = np.ones((4, 3))
    x[2, 1] = np.nan
    finding = only(births(wrap(f), {"w": np.ones(3)}, x))
    assert finding.what == "x was not finite before the step: NaN in sample 2, element (2, 1)"


@MODES
def test_a_captured_array_that_was_not_finite(wrap):
    table = pb.asarray(np.array([1.0, np.inf]))
    finding = only(births(wrap(lambda w: pb.sum(w * table)), np.ones(2)))
    assert finding.what.startswith("the captured array table was not finite")


def test_options_of_compile():
    def f(params, x, power):
        return {"w": params["w"] - pb.sum(pb.log(x) ** power)}, pb.sum(x)

    step = pb.compile(f, static="power", donate=0)
    finding = only(births(step, {"w": np.ones(2)}, np.array([1.0, 0.0]), 2))
    assert finding.what == "log(0) = -inf in sample 1, element 1"
    assert finding.evidence.reached == ("result[0]['w']",)


def test_checks_that_raise_do_not_come_first():
    with override(check=1):
        assert only(births(lambda x: pb.sum(pb.log(x)), np.zeros(2))).id == "NUM01"


def test_where_python_decides():
    def f(x):
        if float(pb.sum(x)) > 0:
            return pb.sum(pb.sqrt(x))
        return pb.sum(x)

    assert only(births(f, np.array([0.0, 1.0]))).id == "NUM02"


def test_a_module_path():
    class Bad(pb.nn.Module):
        w: pb.Array

        def __call__(self, x):
            return pb.log(x * self.w)

    class Net(pb.nn.Module):
        inner: Bad

        def __call__(self, x):
            return self.inner(x)

    model = Net(Bad(pb.asarray(np.zeros(3, np.float32))))
    finding = only(births(lambda m, x: pb.sum(m(x)), model, np.ones((2, 3), np.float32)))
    assert finding.module.endswith("inner")


def test_a_softmax_that_underflowed_says_by_how_much():
    def f(w, x, y):
        p = pb.softmax(x @ w)
        return -pb.mean(pb.log(pb.take_along_axis(p, y[:, None], axis=1)))

    w, x = np.eye(3, dtype=np.float32), np.zeros((5, 3), np.float32)
    x[3] = [120.0, 0.0, -40.0]
    finding = only(births(f, w, x, np.array([0, 1, 2, 2, 0])))
    assert finding.what == "log(0) = -inf in sample 3, element (3, 0)"
    assert "the softmax underflowed: its logit is 160 below the largest" in finding.why
    assert "pb.log_softmax(z)" in finding.fix
    assert only(births(pb.compile(f), w, x, np.array([0, 1, 2, 2, 0]))).what == finding.what


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_a_sigmoid_that_saturated_says_its_logit(target):
    def f(w, x, y):
        p = pb.sigmoid(x @ w)
        return -pb.mean(y * pb.log(p) + (1 - y) * pb.log(1 - p))

    logit = 200.0 if target == 0.0 else -200.0
    w, x = np.ones((1, 1), np.float32), np.array([[1.0], [logit]], np.float32)
    finding = only(births(f, w, x, np.full((2, 1), target, np.float32)))
    assert f"the sigmoid saturated: its logit is {logit:.4g}" in finding.why
    assert "pb.nn.log_sigmoid(logit)" in finding.fix


def test_a_training_step():
    def loss(model, x):
        return pb.mean(pb.sqrt(pb.sum(x * model(x), axis=1)))

    model = pb.nn.Linear(3, 3, key=pb.random.key(0))
    model = model.replace(weight=pb.asarray(np.eye(3, dtype=np.float32)))
    optimizer = pb.optim.adam(1e-3)
    step = pb.train.train_step(loss, optimizer, clip=1.0)
    x = np.ones((6, 3), np.float32)
    x[4] = 0.0
    report = births(step, pb.train.TrainState.create(model, optimizer), x)
    finding = only(report)
    assert finding.what == "the derivative of √(0) is inf in sample 4, element 4"
    assert "native kernels" in report.title


# ---- harmless infinities --------------------------------------------------------------------


@MODES
def test_a_masked_attention_is_healthy(wrap):
    def f(q, k):
        scores = q @ k.T
        mask = pb.tril(pb.ones(scores.shape, dtype=pb.bool)) if hasattr(pb, "tril") else None
        scores = pb.where(mask, scores, -np.inf)
        return pb.sum(pb.softmax(scores) ** 2)

    report = births(wrap(f), rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))
    assert not report.findings
    assert "finite" in str(report)


def test_a_row_masked_whole_by_hand():
    def f(x, m):
        masked = pb.where(m, x, -np.inf)
        powers = pb.exp(masked - pb.max(masked, axis=-1, keepdims=True))
        return pb.sum(powers / pb.sum(powers, axis=-1, keepdims=True))

    m = np.array([[True, True], [False, False]])
    finding = only(births(f, np.ones((2, 2)), m))
    assert finding.evidence.node.op.name == "subtract"
    assert finding.evidence.index == (1, 0)


@MODES
@pytest.mark.parametrize(
    "f",
    [
        lambda x: pb.sum(pb.where(x > 0, pb.sqrt(x), 0.0)),
        lambda x: pb.linalg.vector_norm(x * 0.0),
        lambda x: pb.sum(pb.atan2(x * 0.0, x * 0.0)),
        lambda x: pb.std(x * 0.0),
        lambda x: pb.sum((x * 0.0) ** 2),
    ],
    ids=["where", "norm", "atan2", "std", "square"],
)
def test_what_this_library_gives_at_the_edge_is_finite(wrap, f):
    assert not births(wrap(f), np.array([0.0, 4.0])).findings


# ---- what pytorch issue 160016 asks of a better anomaly mode ---------------------------------


def through_a_statistic(w, x):
    """The NaN is born where no gradient flows: the backward pass never visits it."""
    scale = pb.stop_gradient(pb.sqrt(pb.min(x @ w)))
    return pb.mean((x @ w) * scale)


def long_before_its_first_derivative(w, x):
    """The NaN is born early; the first derivative that is NaN belongs to the last operation."""
    h = pb.log(x @ w)
    for _ in range(3):
        h = h * 0.5 + 1.0
    return pb.mean(h**2)


def adam_step(w, x):
    """An infinite gradient of a finite loss; the NaN is born in the optimiser, ∞/∞."""
    value, g = pb.value_and_grad(lambda w: pb.mean(pb.sqrt(pb.sum((x * w) ** 2, axis=1))))(w)
    return w - 1e-3 * g / (pb.sqrt(g * g) + 1e-8), value


ANOMALIES = [
    pytest.param(through_a_statistic, -1.0, "√(-3) = NaN", "pb.sqrt(pb.min", id="no gradient"),
    pytest.param(
        long_before_its_first_derivative, -1.0, "log(-3) = NaN", "pb.log", id="long before"
    ),
    pytest.param(adam_step, 0.0, "the derivative of √(0) is inf", "pb.sqrt(pb.sum", id="optimiser"),
]


@MODES
@pytest.mark.parametrize(("f", "row", "what", "line"), ANOMALIES)
def test_a_better_anomaly_mode(wrap, f, row, what, line):
    x = np.ones((6, 3))
    x[4] = row
    finding = only(births(wrap(f), np.ones(3), x))
    assert what in finding.what
    assert line in source(finding)


# ---- born in the backward pass --------------------------------------------------------------


@MODES
@pytest.mark.parametrize(
    ("f", "x", "what"),
    [
        (lambda x: pb.sum(pb.sqrt(x)), 0.0, "the derivative of √(0) is inf"),
        (lambda x: pb.sum(x**0.5), 0.0, "the derivative of 0^0.5 is inf"),
        (lambda x: pb.sum(pb.asin(x)), 1.0, "the derivative of asin(1) is inf"),
        (lambda x: pb.sum(pb.cbrt(x)), 0.0, "the derivative of ∛(0) is inf"),
    ],
)
def test_the_derivative_and_its_argument(wrap, f, x, what):
    finding = only(births(wrap(f), np.array([0.5, x])))
    assert finding.id == "NUM02"
    assert finding.what == f"{what} in element 1"


@MODES
def test_the_diagonal_of_distances(wrap):
    def spread(x):
        d = x[:, None, :] - x[None, :, :]
        return pb.sum(pb.sqrt(pb.sum(d * d, axis=-1)))

    finding = only(births(wrap(spread), rng.normal(size=(4, 3))))
    assert finding.id == "NUM02"
    assert finding.what == "the derivative of √(0) is inf in element (0, 0)"
    assert finding.evidence.count == 4
    assert "pb.sqrt(x + eps)" in finding.fix


@MODES
def test_the_where_trap(wrap):
    """The mask comes after a function that no rule protects: NaN times 0."""

    def trap(x):
        return pb.sum(pb.where(x > 0, pb.tanh(pb.sqrt(x)), 0.0))

    report = births(wrap(trap), np.array([1.0, -4.0]))
    finding = only(report)
    assert finding.evidence.mask.op.name == "select"
    assert finding.evidence.index == (1,)
    assert finding.id == "NUM02"
    assert "pb.where(ok, x, 1.0)" in finding.fix
    assert "left out by where" in finding.why
    assert finding.frame.expression == "pb.sqrt(x)"


@MODES
def test_a_mask_behind_a_product_is_found(wrap):
    """0/0 is mixed with what is fine, and masked at last: the loss is finite."""
    w = np.eye(2)

    def masked(w, x, count):
        return pb.sum(pb.where(count > 0, pb.tanh(x / count @ w), 0.0))

    counts = np.array([[1.0], [0.0]])
    report = births(wrap(masked), w, np.array([[1.0, 2.0], [0.0, 0.0]]), counts)
    finding = report.findings[0]
    assert finding.id == "NUM02"
    assert finding.what.startswith("0 / 0 = NaN in sample 1")
    assert finding.evidence.mask.op.name == "select"


# ---- whole steps ----------------------------------------------------------------------------


@MODES
def test_a_step_that_returns_state_and_loss(wrap):
    def loss(w, x):
        return pb.mean(pb.sqrt(pb.sum(x * w, axis=1)))

    def step(w, x):
        value, slope = pb.value_and_grad(loss)(w, x)
        return w - 0.1 * slope, value

    x = np.ones((6, 3))
    x[4] = 0.0
    finding = only(births(wrap(step), np.ones(3), x))
    assert finding.id == "NUM02"
    assert finding.evidence.samples == (4,)
    assert "result[0]" in finding.evidence.reached
    assert finding.frame.expression == "pb.sqrt(pb.sum(x * w, axis=1))"


def test_inside_a_compiled_loop():
    def f(x):
        def turn(c, a):
            return pb.log(c) - a, c

        return pb.sum(pb.scan(turn, x, np.arange(4.0))[0])

    finding = only(births(pb.compile(f), np.array(2.0)))
    assert finding.evidence.node.op.name == "log"
    assert finding.evidence.within.op.name == "scan"
    assert finding.evidence.turn == 3
    assert "turn 3" in finding.why


def test_the_native_replay_has_the_bits_of_the_program():
    def f(x):
        return pb.sum(pb.exp(x * 3.0) / (1.0 + x))

    x = rng.normal(size=(33,)).astype(np.float32)
    tape = play(pb.compile(f), (x,), 0)
    value, slope = pb.compile(pb.value_and_grad(f))(x)
    assert tape.numbers[tape.outputs[0][1]] == value.numpy()
    assert (tape.numbers[tape.outputs[1][1]] == slope.numpy()).all()


# ---- the report -----------------------------------------------------------------------------


def test_the_report_in_every_form():
    report = births(lambda x: pb.sum(pb.log(x)), np.array([1.0, 0.0]))
    text = str(report)
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[1].startswith("STOP NUM01  log(0) = -inf")
    assert report.exit_code == 1
    json.dumps(report.to_dict())
    sarif = report.to_sarif()
    json.dumps(sarif)
    result = sarif["runs"][0]["results"][0]
    assert result["ruleId"] == "NUM01"
    region = result["locations"][0]["physicalLocation"]["region"]
    assert region["snippet"]["text"] in Path(__file__).read_text()
    assert "<details" in report._repr_html_()
    with pytest.raises(DiagnosisError) as raised:
        report.raise_on_failure()
    assert raised.value.report is report


def test_a_healthy_report_is_silent():
    report = births(pb.sum, np.ones(2))
    assert report.exit_code == 0
    report.raise_on_failure()
    assert str(report).endswith("ok   the 2 results are finite")


def test_arguments_that_are_none():
    with pytest.raises(pb.errors.StructureError, match="argnums names argument 3"):
        births(lambda x: x, np.ones(2), argnums=3)

"""At CHECK ≥ 1 a NaN or an infinity raises where it was born, if it reaches anything."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.errors import NonFiniteError

ZERO = np.array([0.0, 4.0])


@pytest.fixture(autouse=True)
def _checked():
    with override(check=1):
        yield


def masked_root(x):
    return pb.sum(pb.where(x > 0, pb.sqrt(x), 0.0))


def below_zero(x):
    return pb.vmap(lambda r: pb.cond(r > 0, pb.log, lambda r: r * 0.5, r))(x)


@pytest.mark.parametrize("run", [lambda f: f, pb.compile])
@pytest.mark.parametrize(
    "f",
    [
        pb.grad(masked_root),
        lambda x: pb.jvp(masked_root, (x,), (np.array([0.0, 1.0]),))[1],
        lambda x: below_zero(x - 5.0),
        lambda x: below_zero(x + 5.0),
        lambda x: below_zero(x - 1.0),
        pb.grad(lambda x: pb.sum(below_zero(x - 5.0))),
        lambda x: pb.vmap(pb.grad(lambda r: pb.cond(r > 0, pb.log, lambda r: r, r)))(x - 5.0),
    ],
)
def test_what_reaches_nothing_is_no_fault(f, run):
    assert np.isfinite(run(f)(pb.asarray(ZERO)).numpy()).all()


def test_at_higher_order_a_program_looks_at_its_results():
    second = pb.compile(lambda x: pb.hvp(masked_root, (x,), (np.array([1.0, 1.0]),)))
    assert np.isfinite(second(ZERO).numpy()).all()


@pytest.mark.parametrize("run", [lambda f: f, pb.compile])
@pytest.mark.parametrize(
    ("f", "subjects"),
    [
        (pb.grad(lambda x: pb.sum(pb.sqrt(x))), ("scale", "divide")),
        (lambda x: below_zero(x - 5.0) + pb.log(x), ("log",)),
        (lambda x: x / (x - x), ("divide",)),
    ],
)
def test_what_reaches_a_result_is_named(f, subjects, run):
    with pytest.raises(NonFiniteError, match="born") as caught:
        run(f)(pb.asarray(ZERO))
    assert caught.value.subject in subjects


def test_a_program_names_what_reaches_its_result():
    """Not the masked logarithm before it."""

    @pb.compile
    def f(x):
        masked = pb.where(x > 0, pb.log(x), 0.0)
        return pb.sum(masked) + pb.asin(x)

    with pytest.raises(NonFiniteError) as caught:
        f(ZERO)
    assert caught.value.subject == "asin"

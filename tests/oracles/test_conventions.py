"""Where a gradient is a matter of choice: ours, beside what torch and JAX chose.

The rule behind ours: a branch that is not taken contributes nothing, equal winners share, and at a
kink the gradient is a subgradient, 0 where 0 is one. None of them is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import pullback as pb
from oracles.case import jax_names, torch_names

NAN = float("nan")
ZEROS, ONES = np.zeros(2), np.ones(2)
TIES = np.array([1.0, 2.0, 2.0])


@dataclass(frozen=True)
class Convention:
    """The gradient of Σ f at `x`, by the three libraries."""

    name: str
    f: Callable[[Any, Any], Any]
    x: np.ndarray
    ours: list[float]
    torch: list[float]
    jax: list[float]


CONVENTIONS = [
    Convention(
        "sqrt in a masked branch",
        lambda m, x: m.where(x > 0, m.sqrt(x), 0.0 * x),
        ZEROS,
        ours=[0, 0],
        torch=[NAN, NAN],
        jax=[NAN, NAN],
    ),
    Convention(
        "log in a masked branch",
        lambda m, x: m.where(x > 0, m.log(x), 0.0 * x),
        ZEROS,
        ours=[0, 0],
        torch=[NAN, NAN],
        jax=[NAN, NAN],
    ),
    Convention(
        "logsumexp of -∞ alone",
        lambda m, x: m.logsumexp(x - float("inf"), axis=0),
        ZEROS,
        ours=[0, 0],
        torch=[NAN, NAN],
        jax=[NAN, NAN],
    ),
    Convention(
        "norm at 0",
        lambda m, x: m.linalg.vector_norm(x),
        ZEROS,
        ours=[0, 0],
        torch=[0, 0],
        jax=[NAN, NAN],
    ),
    Convention(
        "std of equal numbers",
        lambda m, x: m.std(x),
        ONES,
        ours=[0, 0],
        torch=[0, 0],
        jax=[NAN, NAN],
    ),
    Convention(
        "atan2 at 0, 0",
        lambda m, x: m.atan2(x[0], x[1]),
        ZEROS,
        ours=[0, 0],
        torch=[0, 0],
        jax=[NAN, NAN],
    ),
    Convention(
        "max of ties",
        lambda m, x: m.max(x),
        TIES,
        ours=[0, 0.5, 0.5],
        torch=[0, 0.5, 0.5],
        jax=[0, 0.5, 0.5],
    ),
    Convention(
        "maximum of itself",
        lambda m, x: m.maximum(x, x * 1.0),
        ONES,
        ours=[1, 1],
        torch=[1, 1],
        jax=[1, 1],
    ),
    Convention(
        "running maximum of ties",
        lambda m, x: m.cumulative_max(x, 0) if m is not pb else pb.cumulative_max(x, axis=0),
        TIES,
        ours=[1, 1, 1],
        torch=[1, 1, 1],
        jax=[1, 1.5, 0.5],
    ),
    Convention(
        "clip at its bounds",
        lambda m, x: m.clip(x, 0.0, 1.0),
        np.array([0.0, 1.0]),
        ours=[0.5, 0.5],
        torch=[1, 1],
        jax=[0.5, 0.5],
    ),
    Convention("relu at 0", lambda m, x: m.relu(x), ZEROS, ours=[0, 0], torch=[0, 0], jax=[0, 0]),
    Convention("abs at 0", lambda m, x: m.abs(x), ZEROS, ours=[0, 0], torch=[0, 0], jax=[1, 1]),
]

each = pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda c: c.name)


@each
def test_ours(convention):
    gradient = pb.grad(lambda x: pb.sum(convention.f(pb, x)))(pb.asarray(convention.x))
    np.testing.assert_array_equal(np.asarray(gradient), convention.ours)


@each
def test_torch_chose(convention):
    torch = pytest.importorskip("torch")
    x = torch.tensor(convention.x, requires_grad=True)
    value = convention.f(torch_names(torch), x).sum()
    np.testing.assert_array_equal(torch.autograd.grad(value, x)[0].numpy(), convention.torch)


@each
def test_jax_chose(convention):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    names = jax_names(jax)
    gradient = jax.grad(lambda x: jax.numpy.sum(convention.f(names, x)))
    np.testing.assert_array_equal(gradient(jax.numpy.asarray(convention.x)), convention.jax)

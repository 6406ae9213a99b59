"""Chains, groups of gradients, averages, clipping; and what each refuses, word for word."""

from __future__ import annotations

import traceback

import numpy as np
import pytest

import pullback as pb
from goldens import without_places
from pullback import optim
from pullback.errors import PullbackError

RNG = np.random.default_rng(0)
PARAMS = {"w": RNG.standard_normal((3, 2)), "b": RNG.standard_normal(2)}
GRADS = [{k: RNG.standard_normal(v.shape) for k, v in PARAMS.items()} for _ in range(6)]


@pytest.mark.parametrize("run", [lambda f: f, pb.compile], ids=["eager", "compiled"])
def test_small_batches_make_the_large_one(run):
    inner, k = optim.adam(0.1), 3
    grouped = optim.accumulate(inner, k)
    update, state = run(grouped.update), grouped.init(PARAMS)
    large = inner.init(PARAMS)
    for first in (0, 3):
        for g in GRADS[first : first + 2]:
            updates, state = update(g, state, PARAMS)
            assert not updates["w"].numpy().any()
        updates, state = update(GRADS[first + 2], state, PARAMS)
        mean = {key: sum(g[key] for g in GRADS[first : first + 3]) / 3 for key in PARAMS}
        expected, large = inner.update(mean, large, PARAMS)
        for key in PARAMS:
            np.testing.assert_allclose(updates[key].numpy(), expected[key].numpy(), rtol=1e-12)


def test_the_average_is_that_of_the_parameters():
    optimizer, params = optim.chain(optim.sgd(0.1), optim.ema(0.8)), PARAMS
    state, expected = optimizer.init(params), PARAMS["w"]
    for g in GRADS:
        updates, state = optimizer.update(g, state, params)
        params = optim.apply_updates(params, updates)
        expected = 0.8 * expected + 0.2 * params["w"].numpy()
    np.testing.assert_allclose(state[-1].average["w"].numpy(), expected, rtol=1e-12)


def test_clipping():
    norm = np.sqrt(sum((x**2).sum() for x in GRADS[0].values()))
    assert optim.global_norm(GRADS[0]).item() == pytest.approx(norm)
    for most in (norm / 2, norm * 2):
        clipped, _ = optim.clip_by_global_norm(most).update(GRADS[0], None, PARAMS)
        expected = GRADS[0]["w"] * min(1, most / norm)
        np.testing.assert_allclose(clipped["w"].numpy(), expected, rtol=1e-12)
    clipped, _ = optim.clip_by_value(0.5).update(GRADS[0], None, PARAMS)
    np.testing.assert_array_equal(clipped["w"].numpy(), np.clip(GRADS[0]["w"], -0.5, 0.5))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1.0, np.nan], [np.nan, np.nan]),
        ([1.0, -np.inf], [0.0, np.nan]),
        ([1.0, 1e30], [0.0, 0.0]),  # its square is infinite in float32
    ],
)
def test_a_norm_that_is_not_finite_fails_visibly(given, expected):
    gradient = np.array(given, np.float32)
    clipped, _ = optim.clip_by_global_norm(1.0).update(gradient, None, gradient)
    np.testing.assert_array_equal(clipped.numpy(), np.array(expected, np.float32))


def test_decay_where_the_mask_says():
    optimizer = optim.adamw(0.1, weight_decay=0.5, mask={"w": True, "b": False})
    zeros = {k: np.zeros_like(v) for k, v in PARAMS.items()}
    updates, _ = optimizer.update(zeros, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["w"].numpy(), -0.05 * PARAMS["w"], rtol=1e-12)
    assert not updates["b"].numpy().any()


REFUSED = {
    "rate of zero": lambda: optim.sgd(0.0),
    "rate below zero": lambda: optim.adamw(-1e-3),
    "rate that is no number": lambda: optim.adam(float("nan")),
    "rate of another kind": lambda: optim.lion("fast"),
    "rate of several": lambda: optim.sgd(np.ones(2)),
    "beta of one": lambda: optim.adam(b2=1.0),
    "eps of zero": lambda: optim.rmsprop(eps=0.0),
    "decay below zero": lambda: optim.adagrad(weight_decay=-0.1),
    "chain of nothing": optim.chain,
    "chain of a number": lambda: optim.chain(optim.sgd(0.1), 3),
    "chain with another state": lambda: optim.chain(optim.sgd(0.1)).update(PARAMS, None, PARAMS),
    "groups of none": lambda: optim.accumulate(optim.sgd(0.1), 0),
    "norm of zero": lambda: optim.clip_by_global_norm(0),
    "gradients of another structure": lambda: optim.lion().update({"w": 1.0}, None, PARAMS),
    "gradients of another shape": lambda: optim.sgd(1.0).update({"w": 1.0, "b": 1.0}, None, PARAMS),
    "warmup beyond the end": lambda: optim.warmup_cosine(1.0, 10, 10),
    "schedule of no steps": lambda: optim.linear(1.0, 0.0, 0),
    "hyper-parameter unknown": lambda: optim.with_hyperparams(None, lr=0.1),
    "lbfgs without memory": lambda: optim.lbfgs(lambda p: p, memory=0),
    "lbfgs of a batch": lambda: optim.lbfgs(lambda params, x, y: params),
    "natural gradient of a number": lambda: optim.natural_gradient(3, optim.global_norm),
    "temperature of zero": lambda: pb.random.gumbel_softmax(pb.random.key(0), np.ones(3), 0.0),
}


def test_what_is_refused(golden):
    told = []
    for name, call in REFUSED.items():
        with pytest.raises(PullbackError) as caught:
            call()
        told.append(f"---- {name}\n{traceback.format_exception_only(caught.value)[0].rstrip()}\n")
    golden("errors/optimisers", without_places("\n".join(told)))

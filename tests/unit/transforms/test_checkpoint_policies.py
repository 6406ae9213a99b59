"""Policies of checkpoint: what is kept is counted; the bits are the same under every transform."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import pullback as pb
from pullback import nn
from pullback.errors import ArgumentError
from pullback.train import TrainState, train_step
from pullback.transforms.trace import trace
from pullback.transforms.tree import flatten

RNG = np.random.default_rng(1)
KEY = pb.random.key(7)
W = RNG.normal(size=(2, 4, 4)).astype(np.float32)
X = RNG.normal(size=(6, 4)).astype(np.float32)
Y = np.arange(6) % 4

POLICIES = {
    "nothing": "nothing",
    "contractions": "contractions",
    "everything": "everything",
    "predicate": lambda name, result: name == "tanh" and result.shape[-1] == 4,
}


def plain(f, **_):
    return f


# ---- what is kept ---------------------------------------------------------------------------


def layers(checkpoint):
    """tanh(tanh(x w₀) w₁), the whole of it in one checkpoint."""

    def block(w, x):
        return pb.tanh(pb.tanh(x @ w[0]) @ w[1])

    return lambda w, x: pb.sum(checkpoint(block)(w, x) ** 2)


KEPT = {"nothing": 0, "contractions": 2, "everything": 4, "predicate": 2}
"""Of the two products and two tanh, what passes from the forward pass to the backward one."""
AGAIN = {"nothing": (2, 2), "contractions": (0, 2), "everything": (0, 0), "predicate": (2, 0)}
"""Products and tanh that the trace computes twice; the last product is then found unneeded."""


@pytest.mark.parametrize("name", POLICIES)
def test_exactly_what_the_policy_names_is_kept(name):
    loss = layers(lambda f: pb.checkpoint(f, policy=POLICIES[name]))
    graph = trace(pb.grad(loss), W, X)
    (barrier,) = [node for node in graph.nodes if node.op.name == "barrier"]
    operands = 2 + 1  # w and x, and the cotangent of the result
    assert len(barrier.inputs) - operands == KEPT[name]
    (first,) = [node for node in graph.nodes if node.op.name == "checkpoint"]
    assert len(first.op.kept) == KEPT[name]
    counts = Counter(node.op.name for node in graph.nodes)
    products, curves = AGAIN[name]
    assert counts["contract"] == products + 3  # two for dW, one for the inner dX
    assert counts["tanh"] == curves


PEAKS = {
    "nothing": 1_591_872,
    "contractions": 3_426_880,
    "everything": 4_471_360,
    "predicate": 2_509_376,
}
"""Bytes of the program below; docs/memory.md tells them."""


@pytest.mark.parametrize("name", POLICIES)
def test_a_program_holds_what_is_kept_and_a_budget_drops_more(name):
    w = RNG.normal(size=(8, 2, 32, 32)).astype(np.float32)
    x = RNG.normal(size=(1024, 32)).astype(np.float32)
    policy = (lambda name, _: name == "sin") if name == "predicate" else POLICIES[name]

    def loss(w, x):
        for i in range(8):
            block = pb.checkpoint(lambda w, x: pb.sin(pb.sin(x @ w[0]) @ w[1]), policy=policy)
            x = block(w[i], x)
        return pb.sum(x)

    free = pb.compile(pb.grad(loss), threads=1)
    peak = free.lower(w, x).plan.peak_bytes
    held = pb.compile(pb.grad(loss), threads=1, memory=peak * 3 // 4)
    assert bits(held(w, x)) == bits(free(w, x))
    assert held.lower(w, x).plan.peak_bytes <= peak * 3 // 4
    assert peak == PEAKS[name]


# ---- the bits -------------------------------------------------------------------------------


def gradient(checkpoint):
    return pb.grad(layers(checkpoint)), (W, X)


def batched(checkpoint):
    return pb.vmap(pb.grad(layers(checkpoint)), in_axes=(None, 0)), (W, X[:, None])


def scanned(checkpoint):
    block = checkpoint(lambda w, h: pb.tanh(h @ w[0]) @ w[1] + h)

    def loss(w, x):
        return pb.sum(pb.scan(lambda h, row: (block(w, h) * row, None), x, X[:3])[0])

    return pb.grad(loss), (W, X)


def curved(checkpoint):
    loss = layers(checkpoint)
    return lambda w, x: pb.hvp(lambda w: loss(w, x), (w,), (w * w,)), (W, X)


def twice(checkpoint):
    loss = layers(checkpoint)
    return pb.grad(lambda w, x: pb.sum(pb.sin(pb.grad(loss)(w, x)))), (W, X)


def dropped(checkpoint):
    dropout = nn.Dropout(0.4)
    block = checkpoint(lambda w, x, key: pb.tanh(dropout(x @ w[0], train=True, key=key) @ w[1]))
    return pb.grad(lambda w, x: pb.sum(block(w, x, KEY) ** 2)), (W, X)


def normed(checkpoint):
    norm = nn.BatchNorm(4)

    def loss(w, x, state):
        block = checkpoint(lambda w, x, state: norm(pb.tanh(x @ w[0]), state, train=True))
        y, state = block(w, x, state)
        return pb.sum(y * y * X), state

    return pb.grad(loss, has_aux=True), (W, X, norm.initial_state())


def halved(checkpoint):
    block = checkpoint(lambda w, x: pb.tanh(pb.astype(x, pb.bfloat16) @ pb.astype(w, pb.bfloat16)))
    return pb.grad(lambda w, x: pb.sum(pb.astype(block(w[0], block(w[1], x)), pb.float32))), (W, X)


def shared(checkpoint):
    block = checkpoint(lambda w, x: pb.tanh(x @ w))
    return pb.grad(lambda w, x: pb.sum(block(w, block(w.T, block(w, x))))), (W[0], X)


def nested(checkpoint):
    inner = checkpoint(lambda w, x: pb.tanh(x @ w))
    outer = checkpoint(lambda w, x: inner(w[1], inner(w[0], x)) + x)
    return pb.grad(lambda w, x: pb.sum(outer(w, x) ** 2)), (W, X)


PROGRAMS = {
    "gradient": gradient,
    "vmap": batched,
    "scan": scanned,
    "hvp": curved,
    "dropout": dropped,
    "batch norm": normed,
    "bfloat16": halved,
    "shared weights": shared,
    "nested": nested,
}


def bits(tree):
    return [np.asarray(x).tobytes() for x in flatten(tree)[0]]


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_policy_changes_a_bit(name):
    f, arguments = PROGRAMS[name](plain)
    eager, compiled = bits(f(*arguments)), bits(pb.compile(f)(*arguments))
    for policy in POLICIES.values():
        g, _ = PROGRAMS[name](lambda f, policy=policy: pb.checkpoint(f, policy=policy))
        assert bits(g(*arguments)) == eager
        assert bits(pb.compile(g)(*arguments)) == compiled


@pytest.mark.parametrize("name", POLICIES)
def test_second_derivatives_add_the_same_terms_in_another_order(name):
    (f, arguments), (g, _) = twice(plain), twice(lambda f: pb.checkpoint(f, policy=POLICIES[name]))
    np.testing.assert_allclose(g(*arguments), f(*arguments), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", ["nothing", "contractions"])
def test_a_training_step_with_accumulation_and_mixed_precision(policy):
    model = nn.MLP(4, 4, 16, 3, key=KEY)
    optimizer = pb.optim.adam(0.01)

    def run(checkpoint):
        def loss(model, x, y):
            return nn.cross_entropy(checkpoint(model)(x), y)

        step = train_step(loss, optimizer, accumulate=2, precision="bf16")
        state, metrics = step(TrainState.create(model, optimizer), X, Y)
        return bits((state.model, metrics.loss))

    def by_hand(f):
        return pb.checkpoint(f.__call__, policy=policy)

    assert run(by_hand) == run(plain)


# ---- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["some", None, 3, ""])
def test_no_policy(policy):
    with pytest.raises(ArgumentError, match=r"is none of 'nothing', 'everything', 'contractions'"):
        pb.checkpoint(pb.exp, policy=policy)


def test_a_predicate_says_yes_or_no():
    f = pb.checkpoint(pb.exp, policy=lambda name, result: None)
    with pytest.raises(ArgumentError, match="says True or False, not None"):
        pb.grad(lambda x: pb.sum(f(x)))(X)

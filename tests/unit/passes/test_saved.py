"""What the forward pass keeps: fewer bytes, the same bits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.backend.program import Program
from pullback.errors import Phase
from pullback.ir.graph import verify
from pullback.ops.contract import Contract
from pullback.ops.remat import Barrier
from pullback.passes import pipeline, saved
from pullback.passes.check import compare
from pullback.passes.cut import Network
from pullback.passes.pipeline import optimize
from pullback.passes.saved import choose_saved
from pullback.schedule import chain
from pullback.schedule.fuse import fuse
from pullback.transforms.trace import trace

random = np.random.default_rng(11)
T = 64


def normal(*shape):
    return (random.normal(size=shape) * 0.3).astype(np.float32)


def trained(model):
    """(weights, x, target) → loss and slopes."""

    def step(weights, x, target):
        def loss(weights):
            return pb.mean(pb.mean((model(x, *weights) - target) ** 2, axis=-1))

        return pb.value_and_grad(loss)(weights)

    return step


def attended(x, Q, K, V, W):
    q, k, v = [pb.permute_dims(pb.reshape(x @ M, (2, T, 4, 16)), (0, 2, 1, 3)) for M in (Q, K, V)]
    heads = pb.permute_dims(pb.nn.attention(q, k, v), (0, 2, 1, 3))
    return pb.reshape(heads, (2, T, 64)) @ W


CASES = {
    "gelu": (
        trained(lambda x, V, W: pb.nn.gelu(x @ V) @ W),
        ([normal(24, 64), normal(64, 24)], normal(40, 24), normal(40, 24)),
    ),
    "layer norm": (
        trained(lambda x, V, g, b, W: pb.nn.layer_norm(x @ V, g, b) @ W),
        ([normal(24, 64), normal(64), normal(64), normal(64, 8)], normal(40, 24), normal(40, 8)),
    ),
    "attention": (
        trained(attended),
        ([normal(64, 64) for _ in range(4)], normal(2, T, 64), normal(2, T, 64)),
    ),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(saved, "SMALL", 256)


def before_and_after(name, monkeypatch):
    f, arguments = CASES[name]
    monkeypatch.setattr(pipeline, "PIPELINE", pipeline.PIPELINE[:-1])
    before = optimize(trace(f, *arguments))
    weights, x, target = arguments
    return before, choose_saved(before), [*weights, x, target]


def kept_bytes(graph):
    """Bytes that the forward part makes and the backward part reads."""
    root, late, kept = dict.fromkeys(graph.inputs), set(), {}
    for node in graph.nodes:
        if isinstance(node.op, Barrier) or saved._is_view(node):
            root |= {y: root.get(x, x) for x, y in zip(node.inputs, node.outputs, strict=True)}
        elif node.site.phase is Phase.BACKWARD or not late.isdisjoint(node.inputs):
            late.update(node.outputs)
            kept |= {root.get(x, x): None for x in node.inputs}
    values = {x for x in kept if x is not None} - late
    return sum(x.type.nbytes for x in values if x.ndim)


def products(graph):
    return sum(isinstance(node.op, Contract) for node in graph.nodes)


@pytest.mark.parametrize("name", CASES)
def test_same_bits_from_fewer_bytes(name, monkeypatch):
    before, after, inputs = before_and_after(name, monkeypatch)
    verify(after)
    compare("choose_saved", before, after)
    assert kept_bytes(after) < 0.7 * kept_bytes(before)
    with override(cache="off"):
        results = [Program(fuse(graph), threads=2)(inputs) for graph in (before, after)]
    for kept, again in zip(*results, strict=True):
        assert kept.tobytes() == again.tobytes()


def test_only_the_scores_are_a_product_done_again(monkeypatch):
    for name, more in (("gelu", 0), ("layer norm", 0), ("attention", 1)):
        before, after, _ = before_and_after(name, monkeypatch)
        assert products(after) == products(before) + more


def test_no_scores_in_main_memory(monkeypatch):
    monkeypatch.setattr(chain, "WORTH", 4 * T * T)
    scores = 2 * 4 * T * T
    for graph, some in zip(
        before_and_after("attention", monkeypatch)[:2], (True, False), strict=True
    ):
        schedule = fuse(graph)
        written = {b for kernel in schedule.kernels for b in kernel.writes()}
        assert any(schedule.buffers[b].type.size >= scores for b in written) is some


def test_what_is_kept_once_is_kept(monkeypatch):
    for name in CASES:
        _, after, _ = before_and_after(name, monkeypatch)
        assert kept_bytes(choose_saved(after)) <= kept_bytes(after)


def test_copies_wait_for_a_cotangent(monkeypatch):
    _, after, _ = before_and_after("attention", monkeypatch)
    barriers = [node for node in after.nodes if isinstance(node.op, Barrier)]
    makers = {y: node for node in after.nodes for y in node.outputs}
    assert barriers
    assert all(makers[node.inputs[-1]].site.phase is Phase.BACKWARD for node in barriers)


def test_a_forward_pass_keeps_nothing():
    graph = optimize(trace(pb.softmax, normal(40, 50)))
    assert choose_saved(graph) is graph


def test_small_values_are_kept(monkeypatch):
    before, _, _ = before_and_after("gelu", monkeypatch)
    monkeypatch.setattr(saved, "SMALL", 1 << 20)
    assert choose_saved(before) is before


@pytest.mark.parametrize("seed", range(20))
def test_the_cut_is_the_least_of_all(seed):
    numbers = np.random.default_rng(seed)
    size = 6
    edges = [
        (a, b, int(numbers.integers(1, 9)))
        for a, b in itertools.permutations(range(size), 2)
        if numbers.random() < 0.5
    ]

    def passes(near):
        return sum(capacity for a, b, capacity in edges if a in near and b not in near)

    network = Network()
    for _ in range(size):
        network.node()
    for edge in edges:
        network.connect(*edge)
    near = network.near(0, size - 1)
    inner = range(1, size - 1)
    every = ({0, *chosen} for n in range(size - 1) for chosen in itertools.combinations(inner, n))
    assert 0 in near
    assert size - 1 not in near
    assert passes(near) == min(map(passes, every))

"""Twenty programs before and after, in files that a reviewer can read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import pullback as pb
from pullback.ir.graph import Graph
from pullback.ir.types import TensorType
from pullback.passes.pipeline import optimize, prepare


def traced(f: Callable, *types: str) -> Graph:
    return pb.trace(f, *map(TensorType.parse, types))


def affine(w, x, b):
    return pb.sum(pb.relu(x @ w + b))


def layer_norm(x, gain):
    centred = x - pb.mean(x, axis=-1, keepdims=True)
    scale = pb.sqrt(pb.mean(centred * centred, axis=-1, keepdims=True) + 1e-5)
    return pb.sum(centred / scale * gain)


def cross_entropy(logits, labels):
    picked = pb.take_along_axis(pb.log_softmax(logits), pb.expand_dims(labels, axis=-1), axis=-1)
    return -pb.mean(picked)


def attention(q, k, v):
    def split(x):
        return pb.permute_dims(pb.reshape(x, (5, 2, 3)), (1, 0, 2))

    weights = pb.softmax(split(q) @ split(k).mT * 3**-0.5, axis=-1)
    return pb.reshape(pb.permute_dims(weights @ split(v), (1, 0, 2)), (5, 6))


def adam(p, g, m, v):
    m = m * 0.9 + g * (1 - 0.9)
    v = v * 0.999 + g * g * (1 - 0.999)
    return p - m / 0.5 / (pb.sqrt(v / 0.25) + 1e-8) * 1e-3, m, v


def clipped(g, h):
    norm = pb.sqrt(pb.sum(g * g) + pb.sum(h * h))
    scale = pb.where(norm > 1.0, 1.0 / norm, 1.0)
    return g * scale, h * scale


def masked_root(x):
    return pb.sum(pb.where(x > 0, pb.sqrt(x), 0.0))


def mixed_precision(x, w):
    return pb.sum((x.astype("bfloat16") @ w.astype("bfloat16")).astype("float32"))


def running(xs):
    return pb.scan(lambda c, x: (c * 0.5 + x, c), pb.zeros(3, dtype="float32"), xs)[0]


PROGRAMS: dict[str, Callable[[], Graph]] = {
    "affine_gradient": lambda: traced(
        pb.grad(affine, argnums=(0, 2)), "float32[4,3]", "float32[2,4]", "float32[3]"
    ),
    "layer_norm": lambda: traced(layer_norm, "float32[2,4]", "float32[4]"),
    "layer_norm_gradient": lambda: traced(
        pb.grad(layer_norm, argnums=(0, 1)), "float32[2,4]", "float32[4]"
    ),
    "softmax": lambda: traced(pb.softmax, "float32[2,4]"),
    "cross_entropy": lambda: traced(cross_entropy, "float32[2,4]", "int64[2]"),
    "cross_entropy_gradient": lambda: traced(pb.grad(cross_entropy), "float32[2,4]", "int64[2]"),
    "attention": lambda: traced(attention, *["float32[5,6]"] * 3),
    "attention_gradient": lambda: traced(
        pb.grad(lambda *x: pb.sum(attention(*x)), argnums=(0, 1, 2)), *["float32[5,6]"] * 3
    ),
    "adam": lambda: traced(adam, *["float32[3]"] * 4),
    "clipping": lambda: traced(clipped, "float32[3]", "float32[2,2]"),
    "masked_root_gradient": lambda: traced(pb.grad(masked_root), "float32[3]"),
    "mixed_precision_gradient": lambda: traced(
        pb.grad(mixed_precision), "float32[2,4]", "float32[4,3]"
    ),
    "checkpoint_gradient": lambda: traced(
        pb.grad(lambda x: pb.sum(pb.checkpoint(lambda y: pb.exp(pb.sin(y)))(x))), "float32[3]"
    ),
    "scan": lambda: traced(running, "float32[5,3]"),
    "scan_gradient": lambda: traced(pb.grad(lambda xs: pb.sum(running(xs))), "float32[5,3]"),
    "hessian_product": lambda: traced(
        lambda x, v: pb.hvp(lambda x: pb.sum(pb.tanh(x) * x), (x,), (v,)),
        "float32[3]",
        "float32[3]",
    ),
    "example_gradients": lambda: traced(
        pb.vmap(pb.grad(lambda w, x: pb.sum(pb.tanh(x @ w))), in_axes=(None, 0)),
        "float32[4,3]",
        "float32[2,4]",
    ),
    "embedding_gradient": lambda: traced(
        pb.grad(lambda table, ids: pb.sum(pb.take(table, ids, axis=0) ** 2)),
        "float32[6,3]",
        "int64[4]",
    ),
    "stop_gradient": lambda: traced(
        pb.grad(lambda x: pb.sum((x - pb.stop_gradient(pb.mean(x))) * x)), "float32[4]"
    ),
    "split_and_join": lambda: traced(
        pb.grad(lambda x: pb.sum(pb.concat([x[2:], x[:2]]) * pb.flip(x))), "float32[5]"
    ),
}

UNSTABLE: dict[str, Callable[[], Graph]] = {
    "log_of_softmax": lambda: traced(lambda x: pb.log(pb.softmax(x)), "float32[2,4]"),
    "naive_logistic_loss": lambda: traced(
        lambda x, y: -pb.mean(y * pb.log(pb.sigmoid(x)) + (1 - y) * pb.log(1 - pb.sigmoid(x))),
        "float32[4]",
        "float32[4]",
    ),
    "naive_softmax": lambda: traced(
        lambda x: pb.exp(x) / pb.sum(pb.exp(x), axis=-1, keepdims=True), "float32[2,4]"
    ),
}


def side_by_side(before: Graph, after: Graph) -> str:
    counts = f"{len(before.nodes)} nodes, then {len(after.nodes)}"
    return f"{counts}\n\n{before}\n\n{after}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_optimised_program(golden, name):
    graph = PROGRAMS[name]()
    golden(f"passes/{name}", side_by_side(graph, optimize(graph)))


@pytest.mark.parametrize("name", UNSTABLE)
def test_prepared_program(golden, name):
    graph = UNSTABLE[name]()
    golden(f"passes/{name}", side_by_side(graph, optimize(prepare(graph))))

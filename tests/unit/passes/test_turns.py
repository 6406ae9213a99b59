"""A value far wider than what it is made from is made, used and forgotten part by part."""

import numpy as np
import pytest

import pullback as pb
from pullback import nn
from pullback._settings import override
from pullback.passes import pipeline
from pullback.passes.check import compare
from pullback.passes.pipeline import simplify
from pullback.passes.turns import in_turns
from pullback.transforms.trace import trace
from pullback.transforms.tree import flatten

random = np.random.default_rng(6)


def normal(*shape):
    return random.normal(size=shape).astype(np.float32)


def turned(graph):
    """With parts of 4 rows or more of each value of 4 KB or more."""
    return in_turns(graph, huge=4096, part=1024, rows=4)


def loops(graph):
    return [node for node in graph.nodes if node.op.name == "scan"]


def largest(graph):
    """Elements of the largest value that is no view of another, loops included."""
    sizes = [y.type.size for n in graph.nodes if not hasattr(n.op, "view") for y in n.outputs]
    return max(sizes + [largest(n.op.body) for n in loops(graph)])


# ---- what is cut ----------------------------------------------------------------------------

ROWS, WIDTH, CLASSES = (4, 8), 5, 64
HIDDEN, LABELS = normal(*ROWS, WIDTH), random.integers(0, CLASSES, ROWS)
HEAD, BIAS = normal(WIDTH, CLASSES), normal(CLASSES)


def head(params, h):
    return h @ params[0] + params[1]


def flat(params, h):
    return pb.reshape(head(params, h), (-1, CLASSES))


def half(params, h):
    w, b = (pb.astype(x, pb.bfloat16) for x in params)
    return pb.astype(h, pb.bfloat16) @ w + b


def padded(params, h):
    labels = np.where(LABELS < 9, -1, LABELS)
    return nn.cross_entropy(head(params, h), labels, ignore_index=-1, label_smoothing=0.1)


def squares(params, h):
    """No cross-entropy: a regression on many outputs."""
    return pb.mean(pb.tanh(head(params, h)) ** 2)


LOSSES = {
    "cross-entropy": lambda p, h: nn.cross_entropy(head(p, h), LABELS),
    "flat": lambda p, h: nn.cross_entropy(flat(p, h), LABELS.reshape(-1)),
    "sum": lambda p, h: nn.cross_entropy(head(p, h), LABELS, reduction="sum"),
    "weights": lambda p, h: nn.cross_entropy(head(p, h), LABELS, weights=BIAS**2),
    "half": lambda p, h: nn.cross_entropy(half(p, h), LABELS),
    "padded": padded,
    "squares": squares,
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_gradient_holds_one_part_at_a_time(name):
    given = pb.value_and_grad(LOSSES[name], argnums=(0, 1))
    before = simplify(trace(given, (HEAD, BIAS), HIDDEN))
    after = turned(before)
    (loop,) = loops(after)
    assert largest(before) == 32 * CLASSES
    assert largest(after) == max(32 // loop.op.length, WIDTH) * CLASSES
    assert loop.op.length == (4 if name in ("flat", "half") else 8)
    compare("test", before, after, tolerance=2e-2 if name == "half" else 1e-4)


def test_the_scores_of_an_example_need_no_gradient():
    before = simplify(trace(LOSSES["cross-entropy"], (HEAD, BIAS), HIDDEN))
    after = turned(before)
    assert loops(after)[0].op.carries == 0
    compare("test", before, after, tolerance=1e-6)


def test_a_loop_over_batches_has_loops_inside():
    def accumulated(params, batches):
        def add(total, h):
            gradient = pb.grad(LOSSES["cross-entropy"])(params, h)
            return [x + y for x, y in zip(total, gradient, strict=True)], None

        return pb.scan(add, [pb.zeros_like(x) for x in params], batches)[0]

    before = simplify(trace(accumulated, [HEAD, BIAS], normal(3, *ROWS, WIDTH)))
    after = turned(before)
    assert loops(loops(after)[0].op.body)
    compare("test", before, after, tolerance=1e-4)


def test_a_tied_weight_is_cut_too():
    def loss(table, tokens):
        return nn.cross_entropy(pb.tanh(table[tokens]) @ table.T, LABELS)

    before = simplify(trace(pb.grad(loss), normal(CLASSES, WIDTH), LABELS))
    after = turned(before)
    assert len(loops(after)) == 1
    compare("test", before, after, tolerance=1e-4)


# ---- what is not ----------------------------------------------------------------------------


def perplexity(params, h):
    """Its gradient needs the whole loss first."""
    return pb.exp(LOSSES["cross-entropy"](params, h))


def returned(params, h):
    logits = head(params, h)
    return nn.cross_entropy(logits, LABELS), logits


WHOLE = {
    "the gradient waits for the loss": pb.grad(perplexity),
    "the logits are a result": pb.grad(returned, has_aux=True),
    "each row needs all rows": lambda p, h: pb.cumulative_sum(head(p, h), axis=0).sum(axis=2),
    "one is as wide as the other": lambda p, h: pb.sum(pb.tanh(h @ h[0].T)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_cannot_be_cut_stays(name):
    given = [normal(8, 4, 64)] if "wide" in name else [HIDDEN]
    before = simplify(trace(WHOLE[name], (HEAD, BIAS), *given))
    assert turned(before) is before


def test_small_values_stay():
    before = simplify(trace(pb.grad(LOSSES["cross-entropy"]), (HEAD, BIAS), HIDDEN))
    assert in_turns(before) is before


# ---- in programs ----------------------------------------------------------------------------


def test_a_program_over_a_large_vocabulary(monkeypatch):
    """The numbers are those of docs/memory.md."""
    rows, width, classes = 1024, 16, 8192
    given = [(normal(width, classes), normal(classes)), normal(rows, width)]
    labels = random.integers(0, classes, rows)

    def step(params, h):
        return pb.value_and_grad(lambda p, h: nn.cross_entropy(head(p, h), labels), (0, 1))(
            params, h
        )

    def run(threads=1):
        compiled = pb.compile(step, threads=threads)
        return flatten(compiled(*given))[0], compiled.lower(*given).plan.peak_bytes

    with override(cache="off"):
        parts, peak = run()
        assert all(np.array_equal(x, y) for x, y in zip(parts, run(threads=3)[0], strict=True))
        monkeypatch.setattr(pipeline, "PIPELINE", [simplify, pipeline.choose_saved])
        whole, before = run()
    assert (before, peak) == (68_560_448, 11_428_416)
    loss, weight, bias, hidden = zip(parts, whole, strict=True)
    for x, y in (loss, hidden):
        assert np.array_equal(x, y)
    for x, y in (weight, bias):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-7)
